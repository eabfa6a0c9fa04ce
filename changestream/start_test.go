package changestream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Whatever is written after Open has returned is in the stream, also while
// others write all the time; and Position, before the first Next, is where the
// stream begins.
func TestNowHasNoWindow(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var next atomic.Int32
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						w.insert("c", int(next.Add(1)))
					}
				}
			})
		}
		for range 20 {
			st := w.open(src, "", rigatoni.Start{})
			begin := st.checkpoint()
			if begin.Token.IsZero() || begin.ClusterTime.IsZero() {
				t.Fatalf("no position after Open: %+v", begin)
			}
			mark := int(next.Add(1))
			w.insert("c", mark)
			first := firstUntil(t, st, mark)
			again := firstUntil(t, w.open(src, "", at(begin)), mark)
			if first != again {
				t.Fatalf("the stream began with %s, and from its first position with %s", first, again)
			}
		}
		close(stop)
		wg.Wait()
	})
}

// firstUntil is the first event of a stream, which must have the document mark.
func firstUntil(t *testing.T, st *watcher, mark int) string {
	t.Helper()
	want, first := inserted("c", mark)[0], ""
	st.until(want, func(events []rigatoni.Event) bool {
		got := names(events)
		if first == "" && len(got) > 0 {
			first = got[0]
		}
		return slices.Contains(got, want)
	})
	return first
}

func TestAtATime(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{})
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 1, 2, 3)
		events := st.collect(3)

		from := w.open(src, "", rigatoni.Start{Time: events[1].ClusterTime()})
		if got := from.Position(); got.ClusterTime != events[1].ClusterTime() || got.Token.IsZero() {
			t.Errorf("the position after Open is %+v", got)
		}
		// A start from that position is the same start.
		begin := from.checkpoint()
		wantNames(t, from.collect(2), inserted("c", 2, 3)...)
		wantNames(t, w.open(src, "", at(begin)).collect(2), inserted("c", 2, 3)...)
	})
}

func TestResumeFromEveryToken(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		for name, o := range map[string]Options{"collection": {Collections: []string{"c"}}, "two": {Collections: []string{"c", "d"}}, "database": {}} {
			t.Run(name, func(t *testing.T) {
				w := w.with(t, w.Client.Database(w.DB.Name()+"_"+name))
				src := w.source(o)
				st := w.open(src, "", rigatoni.Start{})
				w.insert("c", 1, 2, 3)
				sess, err := w.Client.StartSession()
				if err != nil {
					t.Fatal(err)
				}
				defer sess.EndSession(t.Context())
				_, err = sess.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
					_, err := w.DB.Collection("c").InsertMany(ctx, []any{bson.D{{Key: "_id", Value: int32(4)}}, bson.D{{Key: "_id", Value: int32(5)}}, bson.D{{Key: "_id", Value: int32(6)}}})
					return nil, err
				})
				if err != nil {
					t.Fatal(err)
				}
				w.insert("c", 7)
				events := st.collect(7)
				if events[3].ClusterTime() != events[5].ClusterTime() {
					t.Fatal("the transaction's events have different times")
				}
				for i, ev := range events[:6] {
					pos, err := rigatoni.PositionAfter(ev)
					if err != nil {
						t.Fatal(err)
					}
					rest := w.open(src, "", at(checkpointOf(pos, st.Fingerprint()))).collect(6 - i)
					wantNames(t, rest, names(events[i+1:])...)
				}
			})
		}
	})
}

func TestResumeFromAnIdlePosition(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 1)
		st.collect(1)
		before := st.Position()
		w.insert("other", 1) // moves the oplog, not this stream
		st.until("a later position without events", func(events []rigatoni.Event) bool {
			if len(events) > 0 {
				t.Fatalf("events: %v", names(events))
			}
			return st.Position() != before
		})
		after := st.Position()
		if after.StartAfter || after.ClusterTime.Compare(before.ClusterTime) <= 0 {
			t.Errorf("the position moved from %+v to %+v", before, after)
		}
		idle := st.checkpoint()
		w.insert("c", 2)
		wantNames(t, w.open(src, "", at(idle)).collect(1), inserted("c", 2)...)
	})
}

func TestStartsThatAreRefused(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 1)
		event := st.collect(1)[0]
		pos, _ := rigatoni.PositionAfter(event)
		soon := bson.Timestamp{T: event.ClusterTime().T + 3, I: 1}
		half := bson.Timestamp{T: event.ClusterTime().T + 30, I: 1}
		later := bson.Timestamp{T: event.ClusterTime().T + 3600, I: 1}

		for name, start := range map[string]rigatoni.Start{
			"a time":                {Time: later},
			"a high-water mark":     at(&state.Checkpoint{Token: highWaterMark(t, later)}),
			"an event's token":      at(&state.Checkpoint{Token: atTime(t, pos.Token, later)}),
			"a checkpoint's time":   at(&state.Checkpoint{Token: opaque(t), ClusterTime: later}),
			"an accepted one's":     {Checkpoint: &state.Checkpoint{Token: highWaterMark(t, later), Fingerprint: "set=x id=1"}, AcceptChanged: accept("set=x id=1", st.Fingerprint())},
			"half a minute":         at(&state.Checkpoint{Token: highWaterMark(t, half)}),
			"years ahead":           {Time: bson.Timestamp{T: 1<<32 - 1}},
			"a checkpoint of hours": at(&state.Checkpoint{Token: highWaterMark(t, bson.Timestamp{T: later.T + 20000})}),
		} {
			if _, err := src.Open(t.Context(), "", start); err == nil || !strings.Contains(err.Error(), "future") {
				t.Errorf("%s in the future: %v", name, err)
			}
		}
		w.open(src, "", rigatoni.Start{Time: half}) // within what clocks may differ

		// A checkpoint of a moment ahead: it is opened when the server has that time,
		// which a write of then gives it, and nothing is skipped.
		stop, written := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(written)
			for n := 100; ; n++ {
				w.insert("other", n)
				select {
				case <-stop:
					return
				case <-time.After(200 * time.Millisecond):
				}
			}
		}()
		w.open(src, "", at(&state.Checkpoint{Token: highWaterMark(t, soon)}))
		close(stop)
		<-written
		if id, err := src.identify(t.Context()); err != nil || id.now.Before(soon) {
			t.Errorf("a checkpoint at %v was opened while the server's time was %v, %v", soon, id.now, err)
		}

		// A token that the server doesn't know.
		for name, token := range map[string]resumetoken.Token{"opaque": opaque(t), "of no event": atTime(t, pos.Token, bson.Timestamp{T: pos.ClusterTime.T, I: pos.ClusterTime.I + 1})} {
			w.insert("c", len(name))
			st, err := src.Open(t.Context(), "", at(&state.Checkpoint{Token: token}))
			if err == nil {
				_, err = (&watcher{st, t}).fail()
				st.Close(t.Context())
			}
			if !errors.Is(err, rigatoni.ErrHistoryLost) || strings.Contains(err.Error(), "_data") {
				t.Errorf("a token %s: %v", name, err)
			}
		}
		if _, err := src.Open(t.Context(), "", at(&state.Checkpoint{})); err == nil {
			t.Error("a checkpoint without a token was opened")
		}
	})
}

func token(t *testing.T, data string) resumetoken.Token {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := resumetoken.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func highWaterMark(t *testing.T, ts bson.Timestamp) resumetoken.Token {
	return token(t, fmt.Sprintf("82%08X%08X2B0229296E04", ts.T, ts.I))
}

// atTime is an event's token moved to another time.
func atTime(t *testing.T, tok resumetoken.Token, ts bson.Timestamp) resumetoken.Token {
	data := tok.Raw().Lookup("_data").StringValue()
	return token(t, fmt.Sprintf("82%08X%08X%s", ts.T, ts.I, data[18:]))
}

func opaque(t *testing.T) resumetoken.Token { return token(t, "0165ab") }

// A server that does not know startAfter is asked again with resumeAfter, and
// never after an invalidate event.
func TestServerWithoutStartAfter(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		cp := st.checkpoint()
		w.insert("c", 1)
		w.failPoint("failCommand", times(1), failCommand("aggregate", codeUnknownField))
		wantNames(t, w.open(src, "", at(cp)).collect(1), inserted("c", 1)...)
		if !src.noStartAfter.Load() {
			t.Error("the source has not noticed")
		}
		w.drop("c")
		st.collect(3)
		if !st.Position().StartAfter {
			t.Fatal("the position after an invalidate event is not marked")
		}
		w.failPoint("failCommand", times(1), failCommand("aggregate", codeUnknownField))
		if _, err := src.Open(t.Context(), "", at(st.checkpoint())); err == nil || !strings.Contains(err.Error(), "40415") {
			t.Errorf("after an invalidate event: %v", err)
		}
		if !unknownOption(mongo.CommandError{Code: codeNotSupportedThere}) { // a code that mongod itself uses for something else
			t.Error("Amazon DocumentDB's code for an option that it does not know is not recognised")
		}
	})
}

func TestOpenWaitsNoLongerThanTheURIAllows(t *testing.T) {
	src, err := Open("mongodb://someone:s3cr3t@127.0.0.1:1/?serverSelectionTimeoutMS=300&replicaSet=rs0", &Options{Database: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close(t.Context())
	begin := time.Now()
	_, err = src.Open(t.Context(), "", rigatoni.Start{})
	if d := time.Since(begin); err == nil || d > 20*time.Second {
		t.Fatalf("after %v: %v", d, err)
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("the password is in the error: %v", err)
	}
}
