package changestream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// Errors of an open cursor, with it or without: nothing is lost or repeated.
func TestErrorsThatPass(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		id := 0
		for point, codes := range map[string][]int{
			"failGetMoreAfterCursorCheckout": {6, 43, 50, 91, 189, 237, 260, 11601, 11602, 13436, 7777},
			"failCommand":                    {43, 89, 10107, 13435, 7777}, // the cursor lives on
		} {
			for _, code := range codes {
				if code == 91 && w.Fake != nil {
					continue // the driver asks a server that shuts down again after ten seconds
				}
				id += 2
				w.insert("c", id)
				data := bson.D{{Key: "errorCode", Value: code}}
				if point == "failCommand" {
					data = failCommand("getMore", code)
				}
				w.failPoint(point, times(2), data)
				w.insert("c", id+1)
				wantNames(t, st.collect(2), inserted("c", id, id+1)...)
				w.admin(bson.D{{Key: "configureFailPoint", Value: point}, {Key: "mode", Value: "off"}})
			}
		}
	})
}

// A failing aggregate, too, when the stream is reopened.
func TestReopenFailsForAWhile(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, ReopenMin: time.Millisecond, ReopenMax: 50 * time.Millisecond}), "", rigatoni.Start{})
		for i, code := range []int{13435, 7777} {
			kill := w.CursorKiller(t)
			w.failPoint("failCommand", times(7), failCommand("aggregate", code))
			kill()
			st.until("an outage", func([]rigatoni.Event) bool { return w.log.count("change stream interrupted") == i+1 })
			w.insert("c", i)
			wantNames(t, st.collect(1), inserted("c", i)...)
			if w.log.count("change stream interrupted") != i+1 || w.log.count("is read again") != i+1 {
				t.Errorf("not once each for an outage:\n%s", w.log)
			}
		}
	})
}

// Opening well proves nothing: as long as every getMore fails it is one outage,
// with pauses that grow.
func TestEveryCursorFailsForAWhile(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, ReopenMin: time.Millisecond, ReopenMax: 50 * time.Millisecond}), "", rigatoni.Start{})
		before := w.Failures("getMore")
		w.failPoint("failGetMoreAfterCursorCheckout", times(7), bson.D{{Key: "errorCode", Value: 237}})
		w.awaitFailure(before, st)
		w.insert("c", 1)
		wantNames(t, st.collect(1), inserted("c", 1)...)
		if w.log.count("change stream interrupted") != 1 || w.log.count("is read again") != 1 {
			t.Errorf("not once each for an outage:\n%s", w.log)
		}
	})
}

// Errors after which the position is lost, of an open stream and of one that is
// being opened.
func TestErrorsThatEndAPlace(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		for _, code := range []int{286, 280, 136, 464} {
			src := w.source(Options{Collections: []string{"c"}})
			st := w.open(src, "", rigatoni.Start{})
			w.failPoint("failGetMoreAfterCursorCheckout", times(1), bson.D{{Key: "errorCode", Value: code}})
			_, err := st.fail()
			wantLost(t, err, code)
		}
		for _, code := range []int{286, 280, 260, 50811} {
			src := w.source(Options{Collections: []string{"c"}})
			st := w.open(src, "", rigatoni.Start{})
			w.failPoint("failCommand", times(1), failCommand("aggregate", code))
			_, err := src.Open(t.Context(), "", at(st.checkpoint()))
			wantLost(t, err, code)
		}
	})
}

func wantLost(t *testing.T, err error, code int) {
	t.Helper()
	var ce mongo.CommandError
	if !errors.Is(err, rigatoni.ErrHistoryLost) || !errors.As(err, &ce) || ce.Code != int32(code) {
		t.Errorf("code %d: %v", code, err)
	}
	if !strings.Contains(err.Error(), fmt.Sprint("code ", code)) {
		t.Errorf("the error does not say code %d: %v", code, err)
	}
}

// The oplog really moves on: for an old checkpoint, for an old time, and below an
// open cursor that nobody reads.
func TestHistoryIsLost(t *testing.T) {
	bothOwn(t, testserver.SmallOplog, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		idle := w.open(src, "", rigatoni.Start{})
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 1)
		event := st.collect(1)[0]
		old := st.checkpoint()
		w.LoseOplog(t, event.ClusterTime())

		for what, start := range map[string]rigatoni.Start{"checkpoint": at(old), "time": {Time: event.ClusterTime()}} {
			begin := time.Now()
			_, err := src.Open(t.Context(), "", start)
			if err == nil {
				t.Fatalf("%s: opened", what)
			}
			wantLost(t, err, 286)
			t.Logf("%s: %v (after %v)", what, err, time.Since(begin))
		}
		events, err := idle.fail()
		t.Logf("%v %v", names(events), err)
		var ce mongo.CommandError
		if !errors.Is(err, rigatoni.ErrHistoryLost) || !errors.As(err, &ce) {
			t.Errorf("an open cursor: %v", err)
		}
	})
}

// One event can't be read. Those before it in the same batch come; then the
// stream says which one it is, and stays at its position.
func TestUnreadableEvents(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		for name, c := range map[string]struct {
			opts Options
			make func()
			want string
			code int32
		}{
			"too large": {Options{FullDocument: "updateLookup"}, func() {
				_, err := w.DB.Collection("c").UpdateByID(t.Context(), int32(2), bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: strings.Repeat("z", 10<<20)}}}})
				if err != nil {
					t.Fatal(err)
				}
			}, "the update in " + w.DB.Name() + ".c at 2", codeObjectTooLarge},
			"no image": {Options{FullDocumentBeforeChange: "required"}, func() {
				if _, err := w.DB.Collection("c").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: int32(2)}}); err != nil {
					t.Fatal(err)
				}
			}, "the delete in " + w.DB.Name() + ".c at 2", codeNoMatchingDocument},
		} {
			t.Run(name, func(t *testing.T) {
				w := w.with(t, w.DB)
				w.drop("c")
				c.opts.Collections = []string{"c", "d"}
				src := w.source(c.opts)
				src.noSplit.Store(true) // as a server before 6.0.9
				begin := w.open(src, "", rigatoni.Start{}).checkpoint()
				w.insert("c", 1, 2, 3)
				c.make()
				w.insert("c", 4)
				st := w.open(src, "", at(begin))
				events, err := st.fail()
				wantNames(t, events, inserted("c", 1, 2, 3)...)
				var ce mongo.CommandError
				if !errors.As(err, &ce) || ce.Code != c.code || !strings.Contains(err.Error(), c.want) || errors.Is(err, rigatoni.ErrHistoryLost) {
					t.Errorf("%v", err)
				}
				if strings.ContainsAny(err.Error(), "{") && strings.Contains(err.Error(), "_data") {
					t.Errorf("a token is in the error: %v", err)
				}
				if last, _ := rigatoni.PositionAfter(events[2]); st.Position() != last {
					t.Errorf("the position is %v, not after the last good event", st.Position())
				}
				// It is the first event after the position now.
				if _, err := src.Open(t.Context(), "", at(st.checkpoint())); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("at the event itself: %v", err)
				}
			})
		}
	})
}

// An event that could not be read and can be now does no harm.
func TestUnreadableForAWhile(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, BatchSize: 3}), "", rigatoni.Start{})
		w.failPoint("failGetMoreAfterCursorCheckout", times(1), bson.D{{Key: "errorCode", Value: codeObjectTooLarge}})
		w.insert("c", 1, 2, 3, 4, 5, 6, 7, 8, 9)
		wantNames(t, st.collect(9), inserted("c", 1, 2, 3, 4, 5, 6, 7, 8, 9)...)
		if r := st.Stream.(*stream).reader; r.careful != 0 {
			t.Errorf("still reads %d events one by one", r.careful)
		}
	})
}

// A caller whose context ends gets its error at once, and the stream stays good.
func TestCancel(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, MaxAwait: time.Minute}), "", rigatoni.Start{})
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			begin := time.Now()
			_, _, err := st.Next(ctx)
			cancel()
			if d := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || d > 20*time.Second {
				t.Errorf("after %v: %v", d, err)
			}
			w.insert("c", i)
			wantNames(t, st.collect(1), inserted("c", i)...)
		}
	})
}

// Close ends what is waiting, and the server has no cursor left.
func TestClose(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}, MaxAwait: time.Minute})
		for name, reading := range map[string]bool{"idle": false, "waiting": true} {
			t.Run(name, func(t *testing.T) {
				w := w.with(t, w.DB)
				st := w.open(src, "", rigatoni.Start{})
				if reading {
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
					defer cancel()
					st.Next(ctx)
				}
				begin := time.Now()
				if err := st.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if d := time.Since(begin); d > 20*time.Second {
					t.Errorf("Close took %v", d)
				}
				w.wantNoCursors()
				if _, _, err := st.Next(t.Context()); err == nil {
					t.Error("Next works after Close")
				}
			})
		}
	})
}

// wantNoCursors waits for a real server, where a getMore sees that it was killed
// when it next looks.
func (w *fixture) wantNoCursors() {
	w.t.Helper()
	if w.Fake != nil {
		if n := w.KillCursors(w.t); n > 0 {
			w.t.Errorf("%d cursors left", n)
		}
		return
	}
	for deadline := time.Now().Add(time.Minute); len(w.Cursors(w.t)) > 0; w.insert("wake", int(time.Now().UnixNano()%1e9)) {
		if time.Now().After(deadline) {
			w.t.Fatalf("cursors left: %v", w.Cursors(w.t))
		}
	}
}

// The alarm rings once while nothing moves, and again only after it did.
func TestStandstill(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		old := stallAfter
		stallAfter = 100 * time.Millisecond
		t.Cleanup(func() { stallAfter = old })
		st := w.open(w.source(Options{Collections: []string{"c"}, MaxAwait: 50 * time.Millisecond}), "", rigatoni.Start{})
		for i := range 2 {
			st.until("alarm", func([]rigatoni.Event) bool { return w.log.count("is stalled") > i })
			for range 5 {
				st.Next(t.Context())
			}
			w.insert("c", i)
			st.until("event", func(events []rigatoni.Event) bool { return len(events) > 0 })
		}
		if still, moves := w.log.count("is stalled"), w.log.count("advances again"); still < 2 || moves < still-1 || moves > still {
			t.Errorf("%d alarms, %d ends of them:\n%s", still, moves, w.log)
		}
	})
}
