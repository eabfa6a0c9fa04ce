package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// What a checkpoint covers has to be in the destination, and nothing that is taken
// back may stay in the store as covered.

// A Sync that failed may have lost something for good, although the next one
// succeeds, as fsync does.
func TestSyncFailsOnce(t *testing.T) {
	for name, refused := range map[string]bool{"as the grace time ends": false, "as an event is refused": true} {
		bubble(t, "nothing is saved after it: "+name, func(t *testing.T) {
			r, h := newHostileRig(t, batch(1, 3))
			r.cfg.GraceTime = time.Second
			syncs := make(chan struct{}, 100)
			h.sync = func(ctx context.Context) (json.RawMessage, error) {
				if syncs <- struct{}{}; len(syncs) > 1 {
					return nil, nil
				}
				select {
				case <-ctx.Done():
				case <-time.After(3 * time.Second):
				}
				return nil, errors.New("the disk is gone")
			}
			h.deliver = func(_ context.Context, b *Batch) error {
				if number(b.Events[0]) == 4 {
					time.Sleep(3 * time.Second) // Sync waits
					return Permanent(errors.New("no"))
				}
				return nil
			}
			r.start()
			r.sink.wait(t, 3)
			if refused {
				r.src.add(batch(4, 4))
			}
			syncs <- <-syncs // it runs
			if !refused {
				r.stop()
			}
			if err := <-r.ended; err == nil {
				t.Error("Run returned nil")
			}
			r.wantSaved(r.src.origin)
			if n := len(syncs); n != 1 {
				t.Errorf("Sync was called %d times", n)
			}
		})
	}
}

// The answer to a save is lost, and then the destination fails: the session that goes
// back must not begin before what the store has.
func TestRewindAfterUnknownSave(t *testing.T) {
	for _, lease := range []time.Duration{0, -1} {
		bubble(t, fmt.Sprintf("the checkpoint is read again, LeaseTTL %d", lease), func(t *testing.T) {
			r, h := newHostileRig(t, batch(1, 3))
			r.cfg.LeaseTTL = lease
			var lose, syncs atomic.Int32
			r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
				err := next(ctx)
				if c.Op == state.OpSave && lose.Load() > 0 {
					return fmt.Errorf("%w: the answer was lost", state.ErrUnavailable)
				}
				return err
			})
			h.sync = func(context.Context) (json.RawMessage, error) {
				if n := syncs.Add(1); n == 2 {
					lose.Store(0)
					return nil, errors.New("the disk is gone")
				}
				return json.RawMessage(strconv.Itoa(len(r.sink.delivered()))), nil
			}
			if lease < 0 {
				r.cfg.Store = durable{r.cfg.Store}
			}
			r.start()
			<-r.p.Ready()
			lose.Store(1)
			time.Sleep(time.Minute)
			r.src.add(batch(4, 5))
			r.sink.wait(t, 5)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			wantNumbers(t, r.sink.delivered(), 1, 5)
			if o := r.sink.opened; len(o) != 2 || string(o[1].Saved) != "3" || lease == 0 && o[1].Fence.Epoch == o[0].Fence.Epoch {
				t.Errorf("opened with %+v", o)
			}
		})
	}
}

// A sink that cuts its output back to the checkpoint would otherwise keep events that
// are redelivered.
func TestSyncCoversTheMark(t *testing.T) {
	tr := newTracker(between(0), newBudget(1<<30))
	delivered := make(chan struct{})
	l := &lane{
		tracker: tr, lock: newSemaphore(), status: &monitor{hooks: &Hooks{}}, valid: func() error { return nil },
		prepare: func(*Batch, *uint64) sinkCall {
			return sinkCall{func(context.Context) error {
				tr.mu.Lock() // from here on, the events can't be noted as delivered
				close(delivered)
				return nil
			}, func(error) {}}
		},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var seq uint64
		l.attempt(t.Context(), []item{{event: event(1), number: tr.add(events(1, 1), Position{})}}, 1, &seq)
	}()
	<-delivered
	for range 100_000 {
		select {
		case l.lock <- struct{}{}: // as Sync does
			t.Error("Sync could run between Deliver and the note that its events are delivered")
			l.lock.release()
			tr.mu.Unlock()
			<-ended
			return
		default:
			runtime.Gosched()
		}
	}
	tr.mu.Unlock()
	<-ended
}

// Committed is called with what is saved, also where only that has changed.
func TestCommittedIsSaved(t *testing.T) {
	bubble(t, "a file that is finished by its age", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		var docs []string
		n := 0
		h.sync = func(context.Context) (json.RawMessage, error) { n++; return json.RawMessage(strconv.Itoa(n / 3)), nil }
		h.commit = func(_ context.Context, doc json.RawMessage) error {
			if saved := string(r.saved().Extra["destination"]); saved != string(doc) {
				t.Errorf("Committed(%s), and %s is saved", doc, saved)
			}
			docs = append(docs, string(doc))
			return nil
		}
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(time.Minute)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if want := []string{"0", "1", "2"}; !slices.Equal(docs, want) {
			t.Errorf("Committed for %v, want %v", docs, want)
		}
		if saves := r.p.Status()[0].Saves; saves != 4 { // the first is where the stream begins
			t.Errorf("%d saves", saves)
		}
	})
	bubble(t, "what Sync returned is saved after a save that failed, too", func(t *testing.T) {
		r, h := newHostileRig(t)
		var fail atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if c.Op == state.OpSave && fail.Swap(false) {
				return state.ErrUnavailable
			}
			return next(ctx)
		})
		h.sync = func(context.Context) (json.RawMessage, error) { return json.RawMessage("7"), nil }
		cp := at(1).delivered()
		cp.Fingerprint, cp.Extra = testFingerprint, map[string]json.RawMessage{"destination": json.RawMessage("6")}
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.src.add(batch(1, 1))
		r.start()
		<-r.p.Ready()
		fail.Store(true)
		time.Sleep(time.Minute)
		got := r.saved()
		if doc := string(got.Extra["destination"]); doc != "7" || got.SavedAt.IsZero() || time.Since(got.SavedAt) > time.Minute {
			t.Errorf("saved %s at %v", doc, got.SavedAt)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a Sync that returns nothing takes away what one returned before", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		docs := []json.RawMessage{json.RawMessage("1"), nil}
		h.sync = func(context.Context) (doc json.RawMessage, err error) {
			if doc = docs[0]; len(docs) > 1 {
				docs = docs[1:]
			}
			return doc, nil
		}
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(2 * time.Second)
		if got := string(r.saved().Extra["destination"]); got != "1" {
			t.Errorf("saved %q", got)
		}
		r.src.add(batch(4, 5))
		r.sink.wait(t, 5)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got, ok := r.saved().Extra["destination"]; ok {
			t.Errorf("saved %q", got)
		}
	})
}
