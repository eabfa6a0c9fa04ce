package changestream

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func TestDropAndRecreate(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		begin := st.checkpoint()
		w.insert("c", 1)
		w.drop("c")
		w.insert("c", 2)
		w.drop("c")
		w.insert("c", 3)
		want := slices.Concat(inserted("c", 1), []string{"drop c", "invalidate"}, inserted("c", 2), []string{"drop c", "invalidate"}, inserted("c", 3))
		events := st.collect(len(want))
		wantNames(t, events, want...)
		// From every position in between, and from before it all.
		wantNames(t, w.open(src, "", at(begin)).collect(len(want)), want...)
		for i, ev := range events[:len(events)-1] {
			pos, err := rigatoni.PositionAfter(ev)
			if err != nil {
				t.Fatal(err)
			}
			if pos.StartAfter != (ev.OperationType() == "invalidate") {
				t.Errorf("the position after %s has StartAfter %v", ev.OperationType(), pos.StartAfter)
			}
			cp := checkpointOf(pos, st.Fingerprint())
			wantNames(t, w.open(src, "", at(cp)).collect(len(want)-i-1), want[i+1:]...)
			cp.StartAfter = false // a store may only have kept the token, which says it too
			wantNames(t, w.open(src, "", at(cp)).collect(len(want)-i-1), want[i+1:]...)
		}
	})
}

func TestRename(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}}), "", rigatoni.Start{})
		w.insert("c", 1)
		w.rename("c", "d")
		w.insert("d", 2)
		w.insert("c", 3)
		want := slices.Concat(inserted("c", 1), []string{"rename c", "invalidate"}, inserted("c", 3))
		wantNames(t, st.collect(len(want)), want...)
	})
}

func TestDropDatabase(t *testing.T) {
	for name, o := range map[string]Options{"database": {}, "two collections": {Collections: []string{"c", "d"}}} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, w *fixture) {
				src := w.source(o)
				st := w.open(src, "", rigatoni.Start{})
				w.insert("c", 1)
				if err := w.DB.Drop(t.Context()); err != nil {
					t.Fatal(err)
				}
				want := slices.Concat(inserted("c", 1), []string{"drop c", "dropDatabase", "invalidate"})
				wantNames(t, st.collect(len(want)), want...)
				cp := st.checkpoint()
				w.insert("c", 2)
				wantNames(t, st.collect(1), inserted("c", 2)...)
				wantNames(t, w.open(src, "", at(cp)).collect(1), inserted("c", 2)...)
			})
		})
	}
}

// Right after an invalidate event only startAfter takes the token. The driver,
// which resumes by itself after many errors, uses resumeAfter and gets error 260.
func TestErrorRightAfterAnInvalidateEvent(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		// Only as long as nothing has happened after the event does the server
		// repeat its token, and a server that has just started writes a lot.
		for i := 0; w.log.count("260") == 0; i++ {
			if i == 50 {
				t.Fatalf("the driver did not fail as it does; the log:\n%s", w.log)
			}
			w.insert("c", i)
			w.drop("c")
			wantNames(t, st.collect(3), append(inserted("c", i), "drop c", "invalidate")...)
			before := w.Failures("getMore")
			w.failPoint("failGetMoreAfterCursorCheckout", times(1), bson.D{{Key: "errorCode", Value: 11602}})
			w.awaitFailure(before, st)
		}
		w.insert("c", 1000)
		wantNames(t, st.collect(1), inserted("c", 1000)...)
	})
}

// awaitFailure reads, in vain, until a getMore has failed that had not before.
func (w *fixture) awaitFailure(before int, st *watcher) {
	w.t.Helper()
	st.until("a failure of a getMore, and the stream to be read again", func(events []rigatoni.Event) bool {
		if len(events) > 0 {
			w.t.Fatal(names(events))
		}
		return w.Failures("getMore") > before && !st.Stream.(*stream).reader.outage.lasts()
	})
}

// After an invalidate event the server repeats its token with every empty batch,
// until it has something later.
func TestTheFlagTravelsWithThePosition(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}, MaxAwait: 50 * time.Millisecond})
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 1)
		w.drop("c")
		st.collect(3)
		if !st.Position().StartAfter {
			t.Fatal("the position after an invalidate event has no StartAfter")
		}
		invalidated := st.Position()
		for range 5 { // a real server may move it on by itself
			if _, pos, err := st.Next(t.Context()); err != nil || pos == invalidated && !pos.StartAfter {
				t.Fatalf("after the invalidate event: %+v, %v", pos, err)
			}
		}
		w.insert("other", 1)
		st.until("a later position", func([]rigatoni.Event) bool { return st.Position() != invalidated })
		if st.Position().StartAfter {
			t.Fatal("a later position has StartAfter")
		}
		cp := st.checkpoint()
		w.insert("c", 2)
		wantNames(t, w.open(src, "", at(cp)).collect(1), inserted("c", 2)...)
	})
}
