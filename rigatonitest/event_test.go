package rigatonitest_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

func decode(t *testing.T, ev rigatoni.Event) resumetoken.Decoded {
	t.Helper()
	tok, err := ev.Token()
	if err != nil {
		t.Fatal(err)
	}
	d, err := tok.Decode()
	if err != nil {
		t.Fatalf("the token of %s: %v", ev.Raw, err)
	}
	return d
}

// TestEventsLookLikeTheServers: the fields, and their order.
func TestEventsLookLikeTheServers(t *testing.T) {
	drop := rigatonitest.Drop("shop.orders")
	for want, ev := range map[string]rigatoni.Event{
		`"operationType":"insert",TIME,"fullDocument":{"_id":1,"a":"x"},"ns":{"db":"shop","coll":"orders"},"documentKey":{"_id":1}`:                                                           rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: "x"}}),
		`"operationType":"replace",TIME,"fullDocument":{"_id":1},"ns":{"db":"shop","coll":"a.b"},"documentKey":{"_id":1}`:                                                                     rigatonitest.Replace("shop.a.b", bson.M{"_id": 1}),
		`"operationType":"delete",TIME,"ns":{"db":"shop","coll":"orders"},"documentKey":{"_id":"k"}`:                                                                                          rigatonitest.Delete("shop.orders", "k"),
		`"operationType":"drop",TIME,"ns":{"db":"shop","coll":"orders"}`:                                                                                                                      drop,
		`"operationType":"dropDatabase",TIME,"ns":{"db":"shop"}`:                                                                                                                              rigatonitest.DropDatabase("shop"),
		`"operationType":"invalidate",TIME`:                                                                                                                                                   rigatonitest.Invalidate(drop),
		`"operationType":"update",TIME,"ns":{"db":"shop","coll":"orders"},"documentKey":{"_id":1},"updateDescription":{"updatedFields":{},"removedFields":[],"truncatedArrays":[]}`:           rigatonitest.Update("shop.orders", 1, nil),
		`"operationType":"update",TIME,"ns":{"db":"shop","coll":"orders"},"documentKey":{"_id":1},"updateDescription":{"updatedFields":{"a.b":2},"removedFields":["c"],"truncatedArrays":[]}`: rigatonitest.Update("shop.orders", 1, bson.D{{Key: "a.b", Value: 2}}, "c"),
	} {
		text, err := bson.MarshalExtJSON(ev.Raw, false, false)
		if err != nil {
			t.Fatal(err)
		}
		var times struct {
			ID   json.RawMessage `json:"_id"`
			Time json.RawMessage `json:"clusterTime"`
			Wall json.RawMessage `json:"wallTime"`
		}
		if err := json.Unmarshal(text, &times); err != nil {
			t.Fatal(err)
		}
		want = `{"_id":` + string(times.ID) + "," + strings.Replace(want, "TIME", `"clusterTime":`+string(times.Time)+`,"wallTime":`+string(times.Wall), 1) + "}"
		if string(text) != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
		if d := decode(t, ev); d.ClusterTime != ev.ClusterTime() || d.Format != resumetoken.FormatV1 || d.HighWaterMark || d.UUID.IsZero() != (ev.Namespace().Coll == "" && ev.OperationType() != "invalidate") || !bytes.Equal(d.DocumentKey, ev.DocumentKey()) {
			t.Errorf("the token of %s says %+v", text, d)
		}
		if wall := ev.Raw.Lookup("wallTime").Time(); wall.Unix() != int64(ev.ClusterTime().T) {
			t.Errorf("the wall time is %s", wall)
		}
	}
	rename := rigatonitest.Rename("shop.a", "shop.b")
	if text := rename.Raw.String(); !strings.HasPrefix(text, `{"to": {"db": "shop","coll": "b"},"_id": `) {
		t.Errorf("a rename is %s", text)
	}
	if inv := rigatonitest.Invalidate(rename); inv.ClusterTime() != rename.ClusterTime() {
		t.Error("an invalidate event has another time than its cause")
	}
	if rigatonitest.Insert("shop.orders", bson.D{}).DocumentKey().Lookup("_id").ObjectID().IsZero() {
		t.Error("a document without an _id got none")
	}
}

func TestEveryEventIsLater(t *testing.T) {
	last := rigatonitest.Delete("a.b", 1)
	for range 1000 {
		ev := rigatonitest.Delete("a.b", 1)
		if ev.ClusterTime().Compare(last.ClusterTime()) <= 0 {
			t.Fatalf("%v after %v", ev.ClusterTime(), last.ClusterTime())
		}
		a, err := last.Token()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := ev.Token(); err != nil || a == b || a.Raw().Lookup("_data").StringValue() >= b.Raw().Lookup("_data").StringValue() {
			t.Fatalf("the tokens don't grow: %s, %s, %v", a.Raw(), b.Raw(), err)
		}
		last = ev
	}
	drop := rigatonitest.Drop("a.b")
	inv := rigatonitest.Invalidate(drop)
	if d := decode(t, inv); !d.FromInvalidate || decode(t, drop).FromInvalidate || d.UUID != decode(t, drop).UUID {
		t.Errorf("an invalidate's token says %+v", d)
	}
	if pos, err := rigatoni.PositionAfter(inv); err != nil || !pos.StartAfter {
		t.Errorf("the position after an invalidate: %+v, %v", pos, err)
	}
}

// TestTokensHoldTheDocumentKey checks the tokens against package resumetoken,
// which is checked against those of real servers.
func TestTokensHoldTheDocumentKey(t *testing.T) {
	ids := []any{
		nil, true, false, "", "text", "with \x00 inside", int32(0), int32(1), int32(-1), int32(127), int32(128), int32(-128), int32(math.MinInt32), int32(math.MaxInt32),
		int64(0), int64(1), int64(-300), int64(math.MaxInt64), int64(math.MinInt64 + 1), bson.NewObjectID(), time.Unix(1e9, 0), time.Unix(-1e9, 0),
		bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.Binary{Data: []byte{}}, bson.D{}, bson.D{{Key: "a", Value: int64(1)}, {Key: "b", Value: bson.D{{Key: "c", Value: "x"}, {Key: "d", Value: true}}}, {Key: "e", Value: int64(-5)}, {Key: "f", Value: nil}},
	}
	for _, id := range ids {
		ev := rigatonitest.Delete("shop.orders", id)
		if d := decode(t, ev); !bytes.Equal(d.DocumentKey, ev.DocumentKey()) {
			t.Errorf("the token of _id %#v holds %s, want %s", id, d.DocumentKey, ev.DocumentKey())
		}
	}
	for _, id := range []any{2.5, bson.A{1}, bson.NewDecimal128(1, 1), bson.Regex{Pattern: "a"}, int64(math.MinInt64), bson.Binary{Data: make([]byte, 300)}, bson.D{{Key: "a", Value: int64(1)}, {Key: "b", Value: 2.5}}} {
		if d := decode(t, rigatonitest.Delete("shop.orders", id)); d.DocumentKey != nil || d.UUID.IsZero() {
			t.Errorf("the token of _id %#v says %+v", id, d)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		id := bson.D{}
		for range rapid.IntRange(0, 12).Draw(rt, "fields") {
			v := rapid.OneOf(rapid.Int64().AsAny(), rapid.Int32().AsAny(), rapid.String().AsAny(), rapid.Bool().AsAny()).Draw(rt, "value")
			id = append(id, bson.E{Key: rapid.StringMatching("[a-z]{0,3}").Draw(rt, "key"), Value: v})
		}
		ev := rigatonitest.Delete("shop.orders", id)
		tok, err := ev.Token()
		if err != nil {
			rt.Fatal(err)
		}
		if d, err := tok.Decode(); err != nil && int64In(id, math.MinInt64) == false || err == nil && d.DocumentKey != nil && !bytes.Equal(d.DocumentKey, ev.DocumentKey()) {
			rt.Fatalf("the token of %s says %s, %v", ev.DocumentKey(), d.DocumentKey, err)
		}
	})
}

func int64In(d bson.D, v int64) bool {
	for _, e := range d {
		if e.Value == v {
			return true
		}
	}
	return false
}

func TestWith(t *testing.T) {
	ev := rigatonitest.Update("shop.orders", 1, bson.D{{Key: "a", Value: 2}})
	full := rigatonitest.With(ev, "fullDocument", bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 2}})
	full = rigatonitest.With(full, "fullDocumentBeforeChange", bson.D{{Key: "_id", Value: 1}})
	full = rigatonitest.With(full, "somethingNew", true)
	var order []string
	elements, err := full.Raw.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range elements {
		order = append(order, e.Key())
	}
	if got, want := strings.Join(order, " "), "_id operationType clusterTime wallTime fullDocument ns documentKey updateDescription fullDocumentBeforeChange somethingNew"; got != want {
		t.Errorf("the fields are %s, want %s", got, want)
	}
	if ev.FullDocument() != nil {
		t.Error("With changed the event that it was given")
	}
	again := rigatonitest.With(full, "fullDocument", nil)
	if again.FullDocument() != nil || again.Raw.Lookup("fullDocument").Type != bson.TypeNull {
		t.Errorf("a field is set again: %s", again.Raw)
	}
	a, _ := ev.Token()
	if b, err := again.Token(); err != nil || a != b {
		t.Error("With changed the token")
	}
}

func TestMakersSayWhatIsWrong(t *testing.T) {
	for says, make := range map[string]func(){
		`"shop" is not a namespace`:    func() { rigatonitest.Insert("shop", bson.D{}) },
		`"." is not a namespace`:       func() { rigatonitest.Delete(".", 1) },
		`"x" is not a namespace`:       func() { rigatonitest.Rename("a.b", "x") },
		"made of a int":                func() { rigatonitest.Insert("a.b", 5) },
		"needs a document with":        func() { rigatonitest.Replace("a.b", bson.D{}) },
		`"delete" does not invalidate`: func() { rigatonitest.Invalidate(rigatonitest.Delete("a.b", 1)) },
		"no usable _id":                func() { rigatonitest.NewSource(rigatoni.Event{Raw: bson.Raw{5, 0, 0, 0, 0}}) },
		"needs a name":                 func() { rigatonitest.NewStreams() },
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "rigatonitest: ") || !strings.Contains(text, says) {
					t.Errorf("got %q, want one that says %q", text, says)
				}
			}()
			make()
		}()
	}
}
