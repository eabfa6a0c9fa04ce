package mongodb_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
)

func applying(l lab, policy string) *mongodb.Options {
	o := l.options()
	o.OnDrop = policy
	return o
}

func inserted(coll string, id any, n int32) rigatoni.Event {
	return rigatonitest.Insert("shop."+coll, numbered(id, n))
}

func renamed(from, to string) rigatoni.Event {
	return rigatonitest.Rename("shop."+from, "shop."+to)
}

// By default a drop and a rename are refused, with what to do; they can be passed over.
func TestDropPolicies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRig(t, l, l.options())
	r.deliver(inserted("a", 1, 1))
	for _, ev := range []rigatoni.Event{rigatonitest.Drop("shop.a"), renamed("a", "b")} {
		err := r.try("", ev)
		if !errors.As(err, new(*rigatoni.PermanentError)) || !strings.Contains(err.Error(), "on-drop") || !strings.Contains(err.Error(), l.db+"_shop.a") {
			t.Errorf("%s: got %v", ev.OperationType(), err)
		}
	}
	r = newRig(t, l, applying(l, mongodb.Ignore))
	r.deliver(rigatonitest.Drop("shop.a"), renamed("a", "b"), rigatonitest.DropDatabase("shop"), rigatonitest.With(rigatonitest.Drop("shop.a"), "operationType", "createIndexes"))
	wantDocuments(t, l.mirrored("a"), "ignored", numbered(1, 1))
	err := r.try("", rigatonitest.With(rigatonitest.Drop("shop.a"), "operationType", "somethingNew"))
	if !errors.As(err, new(*rigatoni.PermanentError)) || !strings.Contains(err.Error(), "somethingNew") {
		t.Errorf("an unknown operation: got %v", err)
	}
}

// Applied, a drop deletes and a rename moves what was there, and only that: the events before it
// in its batch come before, and those after it after.
func TestDropsAreApplied(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRig(t, l, applying(l, mongodb.Apply))
	for n := range int32(3) {
		r.deliver(inserted("a", n, 1), inserted("b", n+10, 1))
	}
	batch := []rigatoni.Event{inserted("a", "before", 1), rigatonitest.Drop("shop.a"), inserted("a", 7, 2), inserted("b", 7, 2)}
	r.deliver(batch...)
	r.seq-- // as if the answer had been lost
	r.deliver(batch...)
	wantDocuments(t, l.mirrored("a"), "dropped", numbered(7, 2))
	wantDocuments(t, l.mirrored("b"), "the other", numbered(int32(10), 1), numbered(int32(11), 1), numbered(int32(12), 1), numbered(7, 2))
	// With dropTarget, and to a name that was never there.
	r.deliver(inserted("b", "before", 3), renamed("b", "a"), inserted("b", "after", 3), inserted("a", 7, 3))
	wantDocuments(t, l.mirrored("a"), "renamed to", numbered(int32(10), 1), numbered(int32(11), 1), numbered(int32(12), 1), numbered(7, 3), numbered("before", 3))
	wantDocuments(t, l.mirrored("b"), "renamed away", numbered("after", 3))
	r.deliver(renamed("b", "c"))
	wantDocuments(t, l.mirrored("b"), "renamed away again")
	wantDocuments(t, l.mirrored("c"), "renamed to a new name", numbered("after", 3))
	// Out of what the stream watches.
	must(t, r.open(rigatoni.Opening{Scope: &rigatoni.Scope{Database: "shop", Collections: []string{"a", "b", "c"}, FullDocument: "updateLookup"}}))
	r.deliver(renamed("c", "elsewhere"))
	wantDocuments(t, l.mirrored("c"), "renamed out of the stream")
}

// A copy that is under way goes on under the new name.
func TestRenameDuringCopy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := newRig(t, l, applying(l, mongodb.Apply))
	r.deliver(rigatonitest.Insert("shop.orders_new", numbered("gone", 1)), rigatonitest.Insert("shop.orders_new", numbered("kept", 1)), rigatonitest.Insert("shop.orders", numbered("other", 1)))
	began := position(t)
	must(t, r.open(rigatoni.Opening{}))
	kept := rigatonitest.With(rigatonitest.Insert("shop.orders_new", numbered("kept", 2)), "operationType", "read")
	must(t, r.try("{}", kept))
	must(t, r.try("{}", rigatonitest.Rename("shop.orders_new", "shop.orders"), rigatonitest.Insert("shop.orders", numbered("new", 1))))
	must(t, r.sweep(began))
	wantDocuments(t, l.mirrored("orders"), "after the copy", numbered("kept", 2), numbered("new", 1))
	wantDocuments(t, l.mirrored("orders_new"), "after the copy")
}

// Interrupted at any command, a drop and a rename in the middle of a batch are repeated without
// harm, in batches of any size: also where everything was done and the answer was lost.
func TestChangesAreRepeatable(t *testing.T) {
	t.Parallel()
	seed := campaign.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	stride := 8
	if campaign.Full(t) {
		stride = 1
	}
	for _, kind := range []destinationtest.Kind{destinationtest.Crash, destinationtest.LoseAnswer} {
		for step := rng.IntN(stride); interrupt(t, rng, destinationtest.Fault{Step: step, Kind: kind}); step += stride {
			if t.Failed() {
				t.Fatalf("when step %d %v", step, kind)
			}
		}
	}
}

// interrupt applies changes with a fault, and then without; it returns false if the fault was not
// reached.
func interrupt(t *testing.T, rng *rand.Rand, fault destinationtest.Fault) bool {
	l := newLab(t)
	f := &faults{Fault: destinationtest.Fault{Step: 1 << 30, Kind: fault.Kind}}
	o := applying(l, mongodb.Apply)
	o.TransactionTimeout = faultyTimeout
	r := newRig(t, lab{l.uri, l.db, connect(t, l.uri, f)}, o)
	r.deliver(inserted("a", 1, 1), inserted("b", 2, 1))
	f.Step = int(f.steps.Load()) + fault.Step
	batch := []rigatoni.Event{
		inserted("a", 3, 1), renamed("a", "b"), inserted("a", 4, 1), inserted("b", 5, 1), rigatonitest.Drop("shop.a"), inserted("a", 6, 1), inserted("b", 7, 1),
	}
	err := r.try("", batch...)
	next := newRig(t, l, applying(l, mongodb.Apply))
	switch {
	case err != nil && next.seq == 2: // it was done, and what was lost is the answer: the pipeline repeats it
		next.seq--
		must(t, next.try("", batch...))
	case err != nil:
		for len(batch) > 0 {
			n := 1 + rng.IntN(len(batch))
			must(t, next.try("", batch[:n]...))
			batch = batch[n:]
		}
	}
	next.deliver(inserted("a", 8, 1))
	wantDocuments(t, l.mirrored("a"), "at the end", numbered(6, 1), numbered(8, 1))
	wantDocuments(t, l.mirrored("b"), "at the end", numbered(1, 1), numbered(3, 1), numbered(5, 1), numbered(7, 1))
	return f.reached()
}
