package mongodb_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

var orders = rigatoni.Namespace{DB: "shop", Coll: "orders"}

// numbered is a document with any _id.
func numbered(id any, n int32) bson.D { return bson.D{{Key: "_id", Value: id}, {Key: "n", Value: n}} }

// read is the event of a document that a copy has read.
func read(doc bson.D) rigatoni.Event {
	return rigatonitest.With(rigatonitest.Insert("shop.orders", doc), "operationType", "read")
}

// position is a token that is later than those of all events so far.
func position(t *testing.T) resumetoken.Token {
	token, err := rigatonitest.Drop("shop.other").Token()
	must(t, err)
	return token
}

func (r *rig) sweep(began resumetoken.Token) error {
	return r.sink.(rigatoni.Sweeper).Sweep(r.t.Context(), rigatoni.SnapshotEnd{Namespace: orders, Began: began})
}

// marks is how many documents are marked as touched.
func (l lab) marks(t *testing.T) int64 {
	n, err := l.client.Database(l.db).Collection("checkpoints.touched").CountDocuments(t.Context(), bson.D{})
	must(t, err)
	return n
}

// A first copy marks nothing, and deletes nothing: there is nothing that it didn't write. A
// repeated one deletes what neither it nor a later event has touched, of every type of _id, and
// can be repeated in turn.
func TestSweep(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	coll := l.mirrored("orders")
	began := position(t)
	r := newRig(t, l, l.options())
	var all []bson.D
	for _, id := range ids() {
		all = append(all, numbered(id, 1))
		must(t, r.try("{}", read(numbered(id, 1))))
	}
	if n := l.marks(t); n != 0 {
		t.Errorf("the first copy has made %d marks", n)
	}
	must(t, r.sweep(began))
	wantDocuments(t, coll, "after the first copy", all...)

	r.deliver(rigatonitest.Insert("shop.orders", numbered("gone", 1)), rigatonitest.Insert("shop.orders", numbered("changed", 1)))
	began = position(t)
	must(t, r.open(rigatoni.Opening{}))
	kept := []bson.D{all[0], all[4], all[9]}
	for _, doc := range kept {
		must(t, r.try("{}", read(doc)))
	}
	must(t, r.open(rigatoni.Opening{})) // after a crash, the copy goes on
	kept = append(kept, numbered("changed", 2), numbered("new", 1))
	must(t, r.try("{}", rigatonitest.Replace("shop.orders", numbered("changed", 2)), rigatonitest.Insert("shop.orders", numbered("new", 1)),
		rigatonitest.Insert("shop.orders", numbered("new and gone", 1)), rigatonitest.Delete("shop.orders", "new and gone")))
	must(t, r.sweep(began))
	wantDocuments(t, coll, "after the second copy", kept...)
	if n := l.marks(t); n != 0 {
		t.Errorf("the second copy has left %d marks", n)
	}
	must(t, r.open(rigatoni.Opening{}))
	must(t, r.sweep(began)) // after a crash before the checkpoint
	wantDocuments(t, coll, "after the same sweep again", kept...)
}

// A copy of a collection that is empty by now deletes everything but what came since.
func TestSweepOfEmpty(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRig(t, l, l.options())
	r.deliver(rigatonitest.Insert("shop.orders", numbered("gone", 1)))
	began := position(t)
	must(t, r.open(rigatoni.Opening{}))
	must(t, r.try("{}", rigatonitest.Insert("shop.orders", numbered("new", 1))))
	must(t, r.sweep(began))
	wantDocuments(t, l.mirrored("orders"), "after the copy", numbered("new", 1))
}

// Documents that were adopted are swept by the first copy.
func TestSweepOfAdopted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := l.mirrored("orders").InsertMany(t.Context(), []any{numbered("stale", 0), numbered("kept", 0)})
	must(t, err)
	o := l.options()
	o.Existing = "adopt"
	began := position(t)
	r := newRig(t, l, o)
	must(t, r.try("{}", read(numbered("kept", 1))))
	must(t, r.sweep(began))
	wantDocuments(t, l.mirrored("orders"), "after the copy", numbered("kept", 1))
}

// An owner that was replaced sweeps nothing.
func TestSweepIsFenced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	old := newRig(t, l, l.options())
	old.deliver(rigatonitest.Insert("shop.orders", numbered("kept", 1)))
	began := position(t)
	must(t, old.open(rigatoni.Opening{}))
	newRig(t, l, l.options())
	if err := old.sweep(began); !errors.Is(err, state.ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
	wantDocuments(t, l.mirrored("orders"), "after the sweep of an old owner", numbered("kept", 1))
}

// Copies that are interrupted and begun again, with changes between, at random: what is left is
// what exists, whatever the order was.
func TestRandomSweeps(t *testing.T) {
	t.Parallel()
	seed := campaign.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds := 15
	if campaign.Full(t) {
		rounds = 300
	}
	l := newLab(t)
	r := newRig(t, l, l.options())
	source := map[int32]int32{}
	n := int32(0)
	change := func(copying string) {
		n++
		id := rng.Int32N(12)
		ev := rigatonitest.Replace("shop.orders", numbered(id, n))
		if source[id] = n; rng.IntN(3) == 0 {
			delete(source, id)
			ev = rigatonitest.Delete("shop.orders", id)
		}
		if copying != "lost" {
			must(t, r.try(copying, ev))
		}
	}
	for round := range rounds {
		for range rng.IntN(6) {
			change("")
		}
		for range rng.IntN(6) {
			change("lost")
		}
		must(t, r.open(rigatoni.Opening{}))
		began := position(t)
		finished := rng.IntN(3) > 0 || round == rounds-1
		for id := range int32(12) {
			if rng.IntN(6) == 0 {
				must(t, r.open(rigatoni.Opening{}))
			}
			if rng.IntN(2) == 0 {
				change("{}")
			}
			if !finished && id == 6 {
				break
			}
			if n, ok := source[id]; ok {
				must(t, r.try("{}", read(numbered(id, n))))
			}
		}
		if !finished {
			continue
		}
		must(t, r.sweep(began))
		var want []bson.D
		for id, n := range source {
			want = append(want, numbered(id, n))
		}
		wantDocuments(t, l.mirrored("orders"), "after a copy", want...)
		if rng.IntN(2) == 0 {
			must(t, r.sweep(began))
			wantDocuments(t, l.mirrored("orders"), "after the same sweep again", want...)
		}
	}
}
