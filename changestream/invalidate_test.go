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
	w := newWorld(t)
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
	// From every place in between, and from before it all.
	wantNames(t, w.open(src, "", at(begin)).collect(len(want)), want...)
	for i, ev := range events[:len(events)-1] {
		pos, err := ev.Position()
		if err != nil {
			t.Fatal(err)
		}
		if pos.StartAfter != (ev.OperationType() == "invalidate") {
			t.Errorf("the place of %s has StartAfter %v", ev.OperationType(), pos.StartAfter)
		}
		cp := checkpointOf(pos, st.Fingerprint())
		wantNames(t, w.open(src, "", at(cp)).collect(len(want)-i-1), want[i+1:]...)
		cp.StartAfter = false // a store may only have kept the token, which says it too
		wantNames(t, w.open(src, "", at(cp)).collect(len(want)-i-1), want[i+1:]...)
	}
}

func TestRename(t *testing.T) {
	w := newWorld(t)
	st := w.open(w.source(Options{Collections: []string{"c"}}), "", rigatoni.Start{})
	w.insert("c", 1)
	w.rename("c", "d")
	w.insert("d", 2)
	w.insert("c", 3)
	want := slices.Concat(inserted("c", 1), []string{"rename c", "invalidate"}, inserted("c", 3))
	wantNames(t, st.collect(len(want)), want...)
}

func TestDropDatabase(t *testing.T) {
	for name, o := range map[string]Options{"database": {}, "two collections": {Collections: []string{"c", "d"}}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			src := w.source(o)
			st := w.open(src, "", rigatoni.Start{})
			w.insert("c", 1)
			if err := w.db.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(inserted("c", 1), []string{"drop c", "dropDatabase", "invalidate"})
			wantNames(t, st.collect(len(want)), want...)
			cp := st.checkpoint()
			w.insert("c", 2)
			wantNames(t, st.collect(1), inserted("c", 2)...)
			wantNames(t, w.open(src, "", at(cp)).collect(1), inserted("c", 2)...)
		})
	}
}

// Right behind an invalidate event a token serves startAfter only. The driver,
// which resumes by itself at the slightest trouble, uses resumeAfter and gets
// error 260.
func TestTroubleRightBehindAnInvalidateEvent(t *testing.T) {
	w := ownWorld(t, mongod.Options{})
	src := w.source(Options{Collections: []string{"c"}})
	st := w.open(src, "", rigatoni.Start{})
	// Only as long as nothing has happened behind the event does the server
	// repeat its token, and a server that has just started writes a lot.
	for i := 0; w.log.count("260") == 0; i++ {
		if i == 50 {
			t.Fatalf("the driver did not stumble as it does; the log:\n%s", w.log)
		}
		w.insert("c", i)
		w.drop("c")
		wantNames(t, st.collect(3), append(inserted("c", i), "drop c", "invalidate")...)
		w.failPoint("failGetMoreAfterCursorCheckout", times(1), bson.D{{Key: "errorCode", Value: 11602}})
		w.awaitFailPoint("failGetMoreAfterCursorCheckout", st)
	}
	w.insert("c", 1000)
	wantNames(t, st.collect(1), inserted("c", 1000)...)
}

// awaitFailPoint reads, in vain, until the fail point has struck.
func (w *world) awaitFailPoint(name string, st *watcher) {
	w.t.Helper()
	before := w.timesEntered(name)
	deadline := time.Now().Add(patience)
	for w.timesEntered(name) == before {
		if events, _, err := st.Next(w.t.Context()); err != nil || len(events) > 0 {
			w.t.Fatalf("%v %v", names(events), err)
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the fail point has not struck")
		}
	}
	st.until("the stream to be read again", func([]rigatoni.Event) bool { return st.Stream.(*stream).reader.outage.lasts() == 0 })
}

func (w *world) timesEntered(name string) int64 {
	raw := w.admin(bson.D{{Key: "getParameter", Value: 1}, {Key: "failpoint." + name, Value: 1}})
	n, _ := raw.Lookup("failpoint."+name, "timesEntered").AsInt64OK()
	return n
}

// After an invalidate event the server repeats its token with every empty batch,
// until it has something later.
func TestTheFlagTravelsWithThePosition(t *testing.T) {
	w := newWorld(t)
	src := w.source(Options{Collections: []string{"c"}})
	st := w.open(src, "", rigatoni.Start{})
	w.insert("c", 1)
	w.drop("c")
	st.collect(3)
	if !st.Position().StartAfter {
		t.Fatal("the place of an invalidate event has no StartAfter")
	}
	behind := st.Position()
	begin := time.Now()
	st.until("a place behind the invalidate event", func([]rigatoni.Event) bool {
		pos := st.Position()
		if pos == behind && !pos.StartAfter {
			t.Fatal("the same token has lost its StartAfter")
		}
		return pos != behind
	})
	if st.Position().StartAfter {
		t.Fatal("a place behind has StartAfter")
	}
	t.Logf("moved on after %v", time.Since(begin))
	cp := st.checkpoint()
	w.insert("c", 2)
	wantNames(t, w.open(src, "", at(cp)).collect(1), inserted("c", 2)...)
}
