package rigatoni

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The event that a session found to be refused is found again in the next one: a change by its token, a
// document that is copied by its contents, since it may be read at another position by then.
func TestRefusalIsFoundAgain(t *testing.T) {
	make := func(op, token string, id, n int) Event {
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: bson.D{{Key: "_data", Value: token}}}, {Key: "operationType", Value: op},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}},
			{Key: "fullDocument", Value: bson.D{{Key: "_id", Value: id}, {Key: "n", Value: n}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return Event{Raw: raw}
	}
	for _, c := range []struct {
		name       string
		refused, b Event
		same       bool
	}{
		{"the change", make("insert", "a", 1, 1), make("insert", "a", 1, 1), true},
		{"another change of the document", make("insert", "a", 1, 1), make("replace", "b", 1, 1), false},
		{"the document at another position", make("read", "a", 1, 1), make("read", "b", 1, 1), true},
		{"another document at the same position", make("read", "a", 1, 1), make("read", "a", 2, 1), false},
		{"the document as it is by now", make("read", "a", 1, 1), make("read", "a", 1, 2), false},
		{"the change at whose position a document was read", make("read", "a", 1, 1), make("insert", "a", 1, 1), false},
		{"a document that is read where the change was", make("insert", "a", 1, 1), make("read", "a", 1, 1), false},
		{"the transformed change", make("insert", "a", 1, 1), make("insert", "a", 1, 1).With(make("insert", "x", 9, 9).Raw), true},
	} {
		r := refusal{event: c.refused}
		if got := r.isOf(c.b); got != c.same {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
