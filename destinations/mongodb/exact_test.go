package mongodb_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A rig delivers to a mirror without a pipeline.
type rig struct {
	t     testing.TB
	d     *mongodb.Destination
	grant state.Grant
	sink  rigatoni.Transactional
	seq   uint64
}

const rigKey = "k"

func newRig(t testing.TB, l lab, o *mongodb.Options) *rig {
	t.Helper()
	d, err := mongodb.New(l.client, o)
	must(t, err)
	r := &rig{t: t, d: d}
	must(t, r.open(rigatoni.Opening{}))
	return r
}

// open begins a session, of another owner.
func (r *rig) open(at rigatoni.Opening) error {
	r.t.Helper()
	g, err := r.d.Checkpoints().(state.Leaser).Acquire(r.t.Context(), rigKey, state.LeaseRequest{Owner: "test", Nonce: state.NewNonce(), TTL: time.Minute, Steal: true})
	must(r.t, err)
	at.Key, at.Fence = rigKey, g.Fence
	sink, err := r.d.Open(r.t.Context(), at)
	if err != nil {
		return err
	}
	r.grant, r.seq, r.sink = g, g.LastSequence, sink.(rigatoni.Transactional)
	return nil
}

// try makes a transaction. copying is the state of a copy in the checkpoint.
func (r *rig) try(copying string, events ...rigatoni.Event) error {
	r.t.Helper()
	token, err := events[len(events)-1].Token()
	must(r.t, err)
	cp := state.Checkpoint{Token: token, Sequence: r.seq + 1}
	if copying != "" {
		cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(copying)}
	}
	if err = r.sink.DeliverAt(r.t.Context(), &rigatoni.Batch{Events: events}, r.grant.Fence, cp); err == nil {
		r.seq++
	}
	return err
}

func (r *rig) deliver(events ...rigatoni.Event) {
	r.t.Helper()
	must(r.t, r.try("", events...))
}

// documents are those of a collection, by the text of their _id.
func documents(t testing.TB, c *mongo.Collection) map[string]bson.Raw {
	t.Helper()
	cur, err := c.Find(t.Context(), bson.D{})
	must(t, err)
	var docs []bson.Raw
	must(t, cur.All(t.Context(), &docs))
	all := map[string]bson.Raw{}
	for _, doc := range docs {
		all[doc.Lookup("_id").String()] = doc
	}
	return all
}

func wantDocuments(t testing.TB, c *mongo.Collection, when string, want ...bson.D) {
	t.Helper()
	got := documents(t, c)
	for _, w := range want {
		raw, err := bson.Marshal(w)
		must(t, err)
		if doc := got[bson.Raw(raw).Lookup("_id").String()]; !bytes.Equal(doc, raw) {
			t.Errorf("%s: got %.300s, want %.300s", when, doc, bson.Raw(raw))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d documents, want %d: %.500v", when, len(got), len(want), got)
	}
}

// ids has a value of each type that an _id can have.
func ids() []any {
	decimal, _ := bson.ParseDecimal128("1.50")
	return []any{
		int32(1), 2.5, int64(1) << 40, decimal, math.Inf(1), math.NaN(), "text", "", "1", bson.D{{Key: "a", Value: int32(1)}, {Key: "b", Value: "x"}}, bson.D{},
		bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.NewObjectID(), true, false, bson.DateTime(7), nil, bson.Timestamp{T: 1, I: 2},
		bson.JavaScript("f"), bson.Symbol("s"), bson.MinKey{}, bson.MaxKey{}, bson.Timestamp{},
	}
}

// Each document is byte for byte what it is in the source, whatever its _id, its fields'
// names and types, and its size are; and it is gone when it is deleted there.
func TestDocumentsAreExact(t *testing.T) {
	l := newLab(t)
	o := l.options()
	o.TransactionTimeout = time.Minute
	r := newRig(t, l, o)
	var docs []bson.D
	add := func(d ...bson.E) { docs = append(docs, d) }
	for _, id := range ids() {
		add(bson.E{Key: "_id", Value: id}, bson.E{Key: "n", Value: int32(1)})
	}
	add(bson.E{Key: "_id", Value: "dollar"}, bson.E{Key: "$set", Value: int32(1)}, bson.E{Key: "in", Value: bson.D{{Key: "$x", Value: int32(1)}}})
	add(bson.E{Key: "_id", Value: "dots"}, bson.E{Key: "a.b", Value: int32(1)}, bson.E{Key: "0", Value: bson.D{{Key: "c.d", Value: int32(2)}}}, bson.E{Key: "", Value: int32(3)})
	add(bson.E{Key: "_id", Value: "zero time"}, bson.E{Key: "ts", Value: bson.Timestamp{}}, bson.E{Key: "in", Value: bson.D{{Key: "ts", Value: bson.Timestamp{}}}})
	add(bson.E{Key: "_id", Value: "zero time and dollar"}, bson.E{Key: "ts", Value: bson.Timestamp{}}, bson.E{Key: "$ts", Value: bson.Timestamp{}})
	add(bson.E{Key: "_id", Value: "order"}, bson.E{Key: "z", Value: int32(1)}, bson.E{Key: "a", Value: int64(1)}, bson.E{Key: "m", Value: 1.0})
	add(bson.E{Key: "_id", Value: "nulls"}, bson.E{Key: "n", Value: nil}, bson.E{Key: "u", Value: bson.Undefined{}}, bson.E{Key: "r", Value: bson.Regex{Pattern: "a", Options: "i"}}, bson.E{Key: "p", Value: bson.DBPointer{DB: "x.y", Pointer: bson.NewObjectID()}})
	add(bson.E{Key: "_id", Value: "deep"}, bson.E{Key: "d", Value: nested(98)})
	for _, less := range []int{0, 64 << 10} { // the largest, and what is almost too large for an update
		d := bson.D{{Key: "_id", Value: fmt.Sprint("large ", less)}, {Key: "t", Value: ""}}
		raw, _ := bson.Marshal(d)
		d[1].Value = strings.Repeat("x", 16<<20-less-len(raw))
		docs = append(docs, d)
	}
	coll := l.mirrored("odd")
	for _, round := range []struct {
		name string
		make func(string, any) rigatoni.Event
	}{{"inserted", rigatonitest.Insert}, {"replaced", rigatonitest.Replace}} {
		for _, d := range docs {
			if err := r.try("", round.make("shop.odd", d)); err != nil {
				t.Errorf("%s: %v: %v", round.name, d[0].Value, err)
			}
		}
		wantDocuments(t, coll, round.name, docs...)
	}
	for _, d := range docs {
		r.deliver(rigatonitest.Delete("shop.odd", d[0].Value))
	}
	wantDocuments(t, coll, "deleted")
}

func nested(depth int) bson.D {
	d := bson.D{{Key: "n", Value: int32(depth)}}
	for range depth {
		d = bson.D{{Key: "n", Value: d}}
	}
	return d
}

// A document that was deleted and made again with an equal _id of another type of number.
func TestEqualNumbers(t *testing.T) {
	l := newLab(t)
	r := newRig(t, l, l.options())
	doc := func(id any, n int32) bson.D { return bson.D{{Key: "_id", Value: id}, {Key: "n", Value: n}} }
	r.deliver(rigatonitest.Insert("shop.odd", doc(int32(1), 1)), rigatonitest.Insert("shop.odd", doc(int64(2), 1)))
	// As after lost history: the delete was not seen.
	for _, ev := range []rigatoni.Event{rigatonitest.Insert("shop.odd", doc(1.0, 2)), rigatonitest.Insert("shop.odd", doc(int32(2), 2))} {
		if err := r.try("{}", ev); err != nil {
			t.Error(err)
		}
	}
	wantDocuments(t, l.mirrored("odd"), "replaced", doc(1.0, 2), doc(int32(2), 2))
}
