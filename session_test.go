package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// What works once will again, unless the error is about the checkpoint itself: then a
// later session stops as the first would.
func TestOpenFailsLater(t *testing.T) {
	away := errors.New("no server there")
	for name, c := range map[string]struct {
		err   error
		stops bool
	}{
		"away":               {away, false},
		"lost history":       {ErrHistoryLost, true},
		"a changed stream":   {&ChangedStreamError{Accept: "abc"}, true},
		"output ahead":       {&OutputError{Err: ErrOutputAhead}, true},
		"output exists":      {ErrOutputExists, true},
		"output, no reason":  {&OutputError{Err: errors.New("a file is gone")}, true},
		"a bare ErrOutAhead": {ErrOutputAhead, true},
		"Permanent":          {Permanent(away), true},
	} {
		for _, where := range []string{"source", "destination"} {
			bubble(t, name+" in a later session, of the "+where, func(t *testing.T) {
				r, h := newHostileRig(t, batch(1, 3))
				var syncs, opens atomic.Int32
				h.sync = func(context.Context) (json.RawMessage, error) {
					if syncs.Add(1) == 1 {
						return nil, errors.New("the disk is full")
					}
					return nil, nil
				}
				r.src.openErrs = []error{nil, c.err}
				if where == "destination" {
					r.src.openErrs = nil
					h.open = func(context.Context) (Sink, error) {
						if opens.Add(1) == 2 {
							return nil, c.err
						}
						return h, nil
					}
				}
				r.start()
				if c.stops {
					if err := <-r.ended; !errors.Is(err, c.err) {
						t.Errorf("Run returned %v", err)
					}
					return
				}
				r.sink.wait(t, 6)
				if err := r.end(); err != nil {
					t.Errorf("Run returned %v", err)
				}
				r.wantSaved(at(3))
			})
		}
	}
}

func TestLeaseLost(t *testing.T) {
	thief := state.LeaseRequest{Owner: "thief", Nonce: "thief", TTL: 30 * time.Minute, Steal: true}
	bubble(t, "ends the context of a delivery, and one that ignores that is not run beside another", func(t *testing.T) {
		for _, ignores := range []bool{false, true} {
			r, h := newHostileRig(t, batch(1, 3))
			r.cfg.LeaseWait, r.cfg.IdleInterval = 2*time.Hour, 3*time.Hour // no save notices it first
			free, in := make(chan struct{}), make(chan struct{}, 10)
			var running atomic.Int32
			h.deliver = func(ctx context.Context, _ *Batch) error {
				if running.Add(1) > 1 {
					t.Error("two deliveries run at once")
				}
				defer running.Add(-1)
				if in <- struct{}{}; len(in) > 1 {
					return nil
				}
				begin := time.Now()
				<-ctx.Done()
				if took := time.Since(begin); took > 15*time.Second {
					t.Errorf("the lease was lost, and its deliveries went on for %v", took)
				}
				if ignores {
					<-free
				}
				return ctx.Err()
			}
			r.start()
			<-in
			in <- struct{}{}
			if _, err := r.store.Acquire(t.Context(), "shop", thief); err != nil {
				t.Fatal(err)
			}
			if ignores {
				if err := <-r.ended; !errors.Is(err, ErrDeliveryHung) {
					t.Errorf("Run returned %v", err)
				}
			} else {
				r.sink.wait(t, 3) // when the thief's lease is over
				if err := r.end(); err != nil {
					t.Errorf("Run returned %v", err)
				}
			}
			close(free)
		}
	})
	bubble(t, "a lease lasts for LeaseTTL, without renewals", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.LeaseTTL = time.Hour
		var away atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if away.Load() {
				return state.ErrUnavailable
			}
			return next(ctx)
		})
		r.start()
		r.sink.wait(t, 1)
		away.Store(true)
		time.Sleep(30 * time.Minute)
		r.src.add(batch(2, 2))
		time.Sleep(time.Minute)
		wantNumbers(t, r.sink.delivered(), 1, 2)
		away.Store(false)
		time.Sleep(time.Minute)
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	bubble(t, "a checkpoint that was there at the start and vanishes is a loss", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		cp := at(1).delivered()
		cp.Fingerprint = testFingerprint
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.cfg.LeaseWait = 2 * time.Hour
		r.start()
		<-r.p.Ready()
		g, err := r.store.Acquire(t.Context(), "shop", thief)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.store.ClearFenced(t.Context(), "shop", g.Fence); err != nil {
			t.Fatal(err)
		}
		if err := <-r.ended; !errors.Is(err, ErrCheckpointLost) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestOwed(t *testing.T) {
	bubble(t, "what was not saved and is by now is forgotten at a stop: nil", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		var away atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if away.Load() {
				return state.ErrUnavailable
			}
			return next(ctx)
		})
		r.start()
		r.sink.wait(t, 1)
		away.Store(true)
		time.Sleep(time.Minute) // the lease is lost with event 1 not saved
		away.Store(false)
		r.sink.wait(t, 2) // redelivered
		time.Sleep(time.Minute)
		r.wantSaved(at(1))
		away.Store(true)
		time.Sleep(time.Minute) // it is lost again, with nothing to save
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestOwedInHand(t *testing.T) {
	bubble(t, "events in hand when the lease was lost are owed at a stop", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		var away atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if away.Load() {
				return state.ErrUnavailable
			}
			return next(ctx)
		})
		r.sink.deliver = func(context.Context, *Batch) error { return errors.New("not now") }
		r.start()
		<-r.p.Ready()
		away.Store(true)
		time.Sleep(time.Minute)
		if p := r.p.Status()[0].Phase; p != PhaseLeasing {
			t.Errorf("the phase is %s", p)
		}
		if err := r.end(); err == nil {
			t.Error("Run returned nil")
		}
	})
}

func TestSavesWithoutLease(t *testing.T) {
	bubble(t, "the sequence goes on after that of the checkpoint", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2)))
		r.cfg.LeaseTTL = -1
		cp := at(1).delivered()
		cp.Sequence, cp.Fingerprint = 41, testFingerprint
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.sink.wait(t, 1)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.saved().Sequence; got != 42 {
			t.Errorf("sequence %d after 41", got)
		}
	})
	bubble(t, "a checkpoint without a fingerprint is taken as it is", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2)))
		if err := r.store.Save(t.Context(), "shop", at(2).delivered()); err != nil {
			t.Fatal(err)
		}
		r.start()
		<-r.p.Ready()
		if n := r.p.Status()[0].Saves; n != 0 {
			t.Errorf("%d saves", n)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	for _, final := range []error{state.ErrClosed, state.ErrStale, state.ErrInvalid, errors.ErrUnsupported} {
		bubble(t, "a save that no repetition will mend stops: "+final.Error(), func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 2)))
			broken := &brokenStore{Store: r.store}
			r.cfg.Store, r.cfg.LeaseTTL = broken, -1
			r.start()
			<-r.p.Ready()
			r.sink.wait(t, 2)
			broken.set(nil, fmt.Errorf("no: %w", final))
			if err := <-r.ended; !errors.Is(err, final) || !errors.Is(err, ErrUnsaved) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
	bubble(t, "a store that is away is logged now and then", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2)))
		var log logCatcher
		r.cfg.Logger = log.logger()
		broken := &brokenStore{Store: r.store}
		r.cfg.Store, r.cfg.LeaseTTL = broken, -1
		r.start()
		<-r.p.Ready()
		broken.set(nil, state.ErrUnavailable)
		time.Sleep(2 * time.Minute)
		if n := log.count("checkpoint not saved; retrying"); n < 5 || n > 9 {
			t.Errorf("%d lines", n)
		}
		if err := r.end(); !errors.Is(err, ErrUnsaved) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// How a session ends when something is slow.
func TestSlowEnd(t *testing.T) {
	bubble(t, "what is delivered a moment after the grace time is saved: nil", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		r.cfg.GraceTime = time.Second
		in := make(chan struct{})
		h.deliver = func(context.Context, *Batch) error { close(in); time.Sleep(1500 * time.Millisecond); return nil }
		r.start()
		<-in
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.wantSaved(at(3))
	})
	bubble(t, "a save that takes too long is given up, and done again: nil", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		saving := make(chan struct{}, 10)
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if c.Op == state.OpSave && len(r.sink.delivered()) > 0 {
				if saving <- struct{}{}; len(saving) == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
			}
			return next(ctx)
		})
		r.start()
		for len(saving) == 0 {
			time.Sleep(time.Millisecond)
		}
		begin := time.Now()
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(begin); took != closeTime {
			t.Errorf("it took %v", took)
		}
		r.wantSaved(at(3))
	})
	bubble(t, "no Sync beside a delivery that hangs, and no wait for it", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		r.cfg.GraceTime = 2 * time.Second
		hang, in := make(chan struct{}), make(chan struct{})
		h.deliver = func(context.Context, *Batch) error { close(in); <-hang; return nil }
		h.sync = func(context.Context) (json.RawMessage, error) { t.Error("Sync was called"); return nil, nil }
		r.start()
		<-in
		time.Sleep(time.Minute)
		begin := time.Now()
		if err := r.end(); !errors.Is(err, ErrDeliveryHung) || !errors.Is(err, ErrUnsaved) {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(begin); took > 2*time.Second+abandonAfter {
			t.Errorf("it took %v", took)
		}
		close(hang)
	})
	bubble(t, "no delivery beside a Sync that hangs, also at a stop", func(t *testing.T) {
		for _, stopped := range []bool{false, true} {
			r, h := newHostileRig(t, batch(1, 3))
			hang := make(chan struct{})
			h.sync = func(context.Context) (json.RawMessage, error) { <-hang; return nil, nil }
			r.start()
			r.sink.wait(t, 3)
			time.Sleep(time.Minute)
			r.src.add(batch(4, 4))
			time.Sleep(time.Minute)
			if stopped {
				r.stop()
			}
			if err := <-r.ended; !errors.Is(err, ErrDeliveryHung) || !errors.Is(err, ErrUndelivered) && stopped {
				t.Errorf("Run returned %v", err)
			}
			wantNumbers(t, r.sink.delivered(), 1, 3)
			close(hang)
		}
	})
	bubble(t, "the last Sync hangs: the sink is not closed under it", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		hang := make(chan struct{})
		h.sync = func(context.Context) (json.RawMessage, error) { <-hang; return nil, nil }
		h.close = func() error { t.Error("the sink was closed"); return nil }
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); !errors.Is(err, ErrDeliveryHung) || !errors.Is(err, ErrUnsaved) {
			t.Errorf("Run returned %v", err)
		}
		close(hang)
	})
	bubble(t, "a source that ignores its context does not hold up a refusal", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		src := &deafSource{fakeSource: r.src, free: make(chan struct{})}
		r.cfg.Source = src
		h.deliver = func(context.Context, *Batch) error { return Permanent(errors.New("no")) }
		r.start()
		if err := <-r.ended; !errors.As(err, new(*RefusedError)) {
			t.Errorf("Run returned %v", err)
		}
		close(src.free)
	})
	bubble(t, "a transform hangs as a Sync fails: no other session runs beside it", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3), batch(4, 4))
		hang := make(chan struct{})
		r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) {
			if number(ev) == 4 {
				<-hang
			}
			return ev, true, nil
		}
		h.sync = func(context.Context) (json.RawMessage, error) { return nil, errors.New("the disk is full") }
		r.start()
		if err := <-r.ended; !errors.Is(err, ErrDeliveryHung) || r.p.Status()[0].Rewinds > 0 {
			t.Errorf("Run returned %v", err)
		}
		close(hang)
	})
	bubble(t, "a barrier behind an event that is refused does not hold up the end", func(t *testing.T) {
		evs := []Event{change(1, "insert", 1), change(2, "drop", nil)}
		r := newRig(t, newFakeSource(chunk{events: evs, end: at(2)}))
		r.cfg.Concurrency = 2
		r.cfg.Destination = Func(func(context.Context, Event) error { time.Sleep(time.Second); return Permanent(errors.New("no")) })
		r.start()
		if err := <-r.ended; !errors.As(err, new(*RefusedError)) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "the phases come in order, however slow the hook", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		var mu sync.Mutex
		var phases []Phase
		r.cfg.Hooks.PhaseChanged = func(_ string, p Phase) {
			if p == PhaseStopping {
				time.Sleep(time.Minute)
			}
			mu.Lock()
			defer mu.Unlock()
			phases = append(phases, p)
		}
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if n := len(phases); n < 2 || !slices.Equal(phases[n-2:], []Phase{PhaseStopping, PhaseStopped}) {
			t.Errorf("phases %v", phases)
		}
	})
}

func TestAttempts(t *testing.T) {
	no := errors.New("no")
	bubble(t, "an event has MaxAttempts of its own, after one that failed before it", func(t *testing.T) {
		for _, where := range []string{"Func", "transform"} {
			r := newRig(t, newFakeSource(batch(1, 9)))
			box := &letterBox{}
			r.cfg.MaxAttempts, r.cfg.DeadLetters = 2, box
			tries := map[int]int{}
			once := func(ev Event) error { // 5 fails for ever, each other once
				if tries[number(ev)]++; number(ev) == 5 || tries[number(ev)] == 1 {
					return no
				}
				return nil
			}
			if where == "Func" {
				r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
					if err := once(ev); err != nil {
						return err
					}
					r.sink.record([]Event{ev})
					return nil
				})
			} else {
				r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) { return ev, true, once(ev) }
			}
			r.start()
			r.sink.wait(t, 8)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if got := r.sink.delivered(); !slices.Equal(got, []int{1, 2, 3, 4, 6, 7, 8, 9}) || !slices.Equal(box.numbers(), []int{5}) {
				t.Errorf("%s: delivered %v, dead letters %v", where, got, box.numbers())
			}
		}
	})
	bubble(t, "in a batch that is isolated, too", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		box := &letterBox{}
		r.cfg.MaxAttempts, r.cfg.DeadLetters = 3, box
		alone := map[int]int{}
		r.cfg.Destination = destFunc(func(_ context.Context, b *Batch) error {
			n := number(b.Events[0])
			if len(b.Events) > 1 {
				return no
			}
			if alone[n]++; n == 1 || alone[n] < 3 {
				return no
			}
			r.sink.record(b.Events)
			return nil
		})
		r.start()
		r.sink.wait(t, 2)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if len(box.got) != 1 || box.got[0].Attempts != 6 || alone[1] != 3 {
			t.Errorf("dead letters %+v, alone %v", box.got, alone)
		}
	})
	bubble(t, "an event that a batch names by Partial or Done is not tried alone", func(t *testing.T) {
		for _, by := range []string{"Partial", "Done"} {
			r := newRig(t, newFakeSource(batch(1, 3)))
			calls := 0
			r.cfg.Destination = destFunc(func(_ context.Context, b *Batch) error {
				calls++
				if by == "Partial" {
					return Partial(1, Permanent(no))
				}
				b.Done(2)
				return Permanent(no)
			})
			r.start()
			var refused *RefusedError
			if err := <-r.ended; !errors.As(err, &refused) || refused.Attempts != 1 || calls != 1 {
				t.Errorf("%s: after %d calls Run returned %v", by, calls, err)
			}
		}
	})
	bubble(t, "Permanent of a transform beside an ended context is no refusal", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		box := &letterBox{}
		r.cfg.DeadLetters, r.cfg.GraceTime = box, time.Second
		in := make(chan struct{})
		r.cfg.Transform = func(ctx context.Context, ev Event) (Event, bool, error) {
			close(in)
			<-ctx.Done()
			return ev, true, Permanent(ctx.Err())
		}
		r.start()
		<-in
		if err := r.end(); !errors.Is(err, ErrUndelivered) || errors.As(err, new(*RefusedError)) || len(box.got) > 0 {
			t.Errorf("Run returned %v, dead letters %v", err, box.numbers())
		}
	})
	bubble(t, "a Deliver that returns nil after its timeout has delivered", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		var log logCatcher
		r.cfg.Logger, r.cfg.DeliverTimeout = log.logger(), time.Minute
		r.sink.deliver = func(ctx context.Context, _ *Batch) error { <-ctx.Done(); return nil }
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 3)
		if n := log.count("slow delivery", "running_seconds=30"); n != 1 || log.count("slow delivery") > 2 {
			t.Errorf("%d lines", n)
		}
	})
	bubble(t, "a slow delivery is logged once, and when it is over", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		var log logCatcher
		r.cfg.Logger, r.cfg.DeliverTimeout = log.logger(), -1
		r.sink.deliver = func(context.Context, *Batch) error { time.Sleep(24 * time.Hour); return nil }
		r.start()
		<-r.p.Ready()
		time.Sleep(25 * time.Hour)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if n := log.count("slow delivery", "running_seconds"); n != 1 || log.count("slow delivery ended") != 1 {
			t.Errorf("%d lines", n)
		}
	})
	bubble(t, "a report after the pipeline has given a delivery up does not count", func(t *testing.T) {
		tr := newTracker(between(0), newBudget(1<<30))
		hang, reported := make(chan struct{}), make(chan struct{})
		l := &lane{
			tracker: tr, lock: newSemaphore(), status: &monitor{hooks: &Hooks{}}, valid: func() error { return nil },
			watchdog: watchdog{log: newRig(t, newFakeSource()).cfg.Logger, timeout: time.Second, grace: time.Second},
			prepare: func(b *Batch, _ *uint64) sinkCall {
				return sinkCall{func(context.Context) error {
					<-hang
					b.Done(1)
					close(reported)
					return nil
				}, func(error) {}}
			},
		}
		var seq uint64
		out := l.attempt(t.Context(), []item{{event: event(1), number: tr.add(events(1, 1), Position{})}}, 1, &seq)
		close(hang)
		<-reported
		if !errors.Is(out.err, ErrDeliveryHung) || !out.fatal || tr.mark().events != 0 {
			t.Errorf("%+v, %d events delivered", out, tr.mark().events)
		}
	})
}
