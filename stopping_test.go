package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

func TestGraceTime(t *testing.T) {
	bubble(t, "a handler that ignores its context is stopped between events", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 900)))
		r.cfg.GraceTime = 2 * time.Second
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			time.Sleep(20 * time.Millisecond)
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 10)
		begin := time.Now()
		err := r.end()
		if !errors.Is(err, ErrUndelivered) || !strings.Contains(err.Error(), "events") {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(begin); took > 2*time.Second+20*time.Millisecond {
			t.Errorf("stopped after %v", took)
		}
		r.wantSaved(at(len(r.sink.delivered())))
	})
	bubble(t, "a delivery that never returns is abandoned", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.cfg.GraceTime = 2 * time.Second
		hang, in := make(chan struct{}), make(chan struct{})
		closed := &closeCounter{Sink: destFunc(func(_ context.Context, b *Batch) error {
			b.Done(1)
			close(in)
			<-hang
			b.Done(3) // too late to count
			return nil
		})}
		r.cfg.Destination = opensTo{closed}
		r.start()
		<-in
		begin := time.Now()
		err := r.end()
		if !errors.Is(err, ErrDeliveryHung) || !errors.Is(err, ErrUndelivered) {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(begin); took > 2*time.Second+abandonAfter {
			t.Errorf("stopped after %v", took)
		}
		r.wantSaved(at(1))
		r.wantFree()
		if closed.n.Load() > 0 {
			t.Error("the sink was closed under a running Deliver")
		}
		close(hang)
	})
}

// wantFree fails the test if the lease is still held.
func (r *rig) wantFree() {
	r.t.Helper()
	if _, err := r.store.Acquire(r.t.Context(), "shop", state.LeaseRequest{Owner: "next", Nonce: "n", TTL: time.Second}); err != nil {
		r.t.Errorf("the lease was not released: %v", err)
	}
}

type closeCounter struct {
	Sink
	n atomic.Int32
}

func (c *closeCounter) Close() error { c.n.Add(1); return nil }

var _ io.Closer = (*closeCounter)(nil)

// Nil from Run means that everything in hand is delivered and saved.
func TestNilMeansSaved(t *testing.T) {
	away := func(r *rig) func() {
		var gone atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if gone.Load() {
				return fmt.Errorf("%w: for a while", state.ErrUnavailable)
			}
			return next(ctx)
		})
		return func() { gone.Store(true) }
	}
	bubble(t, "the store is away, and the lease has ended", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		leave := away(r)
		r.start()
		r.sink.wait(t, 1)
		leave()
		time.Sleep(time.Minute) // longer than the lease
		if err := r.end(); !errors.Is(err, ErrUnsaved) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "stopped in the moment when a lost lease is held again", func(t *testing.T) {
		for _, idle := range []bool{false, true} { // what is lost with the lease: an event, or an idle advance
			r := newRig(t, newFakeSource(batch(1, 1)))
			var gone, back atomic.Bool
			r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
				if gone.Load() {
					return fmt.Errorf("%w: for a while", state.ErrUnavailable)
				}
				return next(ctx)
			})
			r.cfg.Hooks.PhaseChanged = func(_ string, p Phase) {
				if p == PhaseOpening && back.Load() {
					r.stop()
				}
			}
			r.start()
			r.sink.wait(t, 1)
			if idle {
				time.Sleep(2 * time.Second)
			}
			gone.Store(true)
			if idle {
				r.src.add(chunk{end: between(1)})
			}
			time.Sleep(time.Minute) // longer than the lease
			back.Store(true)
			gone.Store(false)
			err := <-r.ended
			if idle && err != nil || !idle && err == nil {
				t.Errorf("idle %v: Run returned %v", idle, err)
			}
		}
	})
	bubble(t, "the store is away, and the lease has not ended", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		leave := away(r)
		r.start()
		r.sink.wait(t, 1)
		leave()
		if err := r.end(); !errors.Is(err, ErrUnsaved) || !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "everything is saved before the store goes away: nil", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		leave := away(r)
		r.start()
		r.sink.wait(t, 1)
		time.Sleep(2 * time.Second)
		leave()
		time.Sleep(time.Minute)
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "in the pause after a failing Sync", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.Destination, r.cfg.RetryMin = syncSink{r.sink}, time.Minute
		r.cfg.RetryMax = time.Minute
		full := errors.New("the disk is full")
		r.sink.syncErr = func() error { return full }
		r.start()
		r.sink.wait(t, 1)
		time.Sleep(5 * time.Second)
		if p := r.p.Status()[0].Phase; p != PhaseRewinding {
			t.Errorf("the phase is %s", p)
		}
		if err := r.end(); !errors.Is(err, full) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "the context ends by a deadline, and the store gives that as its error", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if c.Op == "save" && len(r.sink.delivered()) > 0 {
				return context.DeadlineExceeded
			}
			return next(ctx)
		})
		ctx, stop := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer stop()
		if err := Run(ctx, r.cfg); !errors.Is(err, ErrUnsaved) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "events in hand can't be delivered", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.sink.deliver = func(context.Context, *Batch) error { return errors.New("away") }
		r.start()
		time.Sleep(time.Second)
		if err := r.end(); !errors.Is(err, ErrUndelivered) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "stopped in the middle of a save and of a Sync: nil", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		saving := make(chan struct{}, 10)
		slowly := func(ctx context.Context) error {
			select {
			case <-time.After(300 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if c.Op == "save" && len(r.sink.delivered()) > 0 {
				saving <- struct{}{}
				if err := slowly(ctx); err != nil {
					return err
				}
			}
			return next(ctx)
		})
		for _, wait := range []time.Duration{0, 350 * time.Millisecond} { // in Sync, in the save
			r.cfg.Destination = syncSink{r.sink}
			syncing := make(chan struct{}, 10)
			r.sink.syncErr = func() error { syncing <- struct{}{}; time.Sleep(300 * time.Millisecond); return nil }
			r.start()
			<-syncing
			time.Sleep(wait)
			if err := r.end(); err != nil {
				t.Errorf("Run returned %v", err)
			}
			if n := r.p.Status()[0]; n.Rewinds > 0 || n.SaveErrors > 0 {
				t.Errorf("the status is %+v", n)
			}
			r.src.add(batch(4, 5))
		}
		r.wantSaved(at(5))
	})
	bubble(t, "stopped while it waits for the lease: nil", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		if _, err := r.store.Acquire(t.Context(), "shop", state.LeaseRequest{Owner: "other", Nonce: "n", TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		r.cfg.LeaseWait = time.Hour
		r.start()
		time.Sleep(time.Minute)
		if p := r.p.Status()[0].Phase; p != PhaseLeasing {
			t.Errorf("the phase is %s", p)
		}
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestGoexit(t *testing.T) {
	for name, quit := range map[string]func(){
		"runtime.Goexit was called": func() { runtime.Goexit() },
		"panic: oops":               func() { panic("oops") },
	} {
		bubble(t, "in a handler: "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 3)))
			r.cfg.MaxAttempts = 2
			calls := 0
			r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
				if number(ev) == 2 {
					calls++
					quit()
				}
				return nil
			})
			r.start()
			err := <-r.ended
			var refused *RefusedError
			if !errors.As(err, &refused) || number(refused.Event) != 2 || !strings.Contains(err.Error(), name) || calls != 2 {
				t.Errorf("after %d calls Run returned %v", calls, err)
			}
			r.wantSaved(at(1))
			r.wantFree()
		})
		bubble(t, "in one of two streams' source: "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource())
			r.src.names = []string{"orders", "users"}
			r.cfg.Source = quitter{r.src, quit}
			r.start()
			if err := <-r.ended; err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "shop/users") {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// quitter is a source whose stream "users" ends its goroutine.
type quitter struct {
	Source
	quit func()
}

func (q quitter) Open(ctx context.Context, stream string, at Start) (Stream, error) {
	st, err := q.Source.Open(ctx, stream, at)
	if stream == "users" {
		st = quitStream{st, q.quit}
	}
	return st, err
}

type quitStream struct {
	Stream
	quit func()
}

func (q quitStream) Next(context.Context) ([]Event, Position, error) {
	q.quit()
	return nil, Position{}, nil
}

func TestErrorsOfSeveralStreams(t *testing.T) {
	bubble(t, "each is returned", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.src.names = []string{"orders", "users"}
		r.cfg.GraceTime = time.Second
		var log logCatcher
		r.cfg.Logger = log.logger()
		arrived := make(chan struct{}, 2)
		r.sink.deliver = func(ctx context.Context, b *Batch) error {
			arrived <- struct{}{}
			if b.Stream == "orders" {
				<-ctx.Done()
				return ctx.Err()
			}
			for len(arrived) < 2 {
				time.Sleep(time.Millisecond)
			}
			return Permanent(errors.New("not this one"))
		}
		r.start()
		err := <-r.ended
		if !errors.Is(err, ErrUndelivered) || !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "shop/orders") || !strings.Contains(err.Error(), "shop/users") {
			t.Errorf("Run returned %v", err)
		}
		log.want(t, "stream failed", "key=shop/orders")
		log.want(t, "stream failed", "key=shop/users")
	})
}

func TestDeliverTimeout(t *testing.T) {
	bubble(t, "a delivery without progress is ended and tried again", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		var log logCatcher
		r.cfg.Logger, r.cfg.DeliverTimeout = log.logger(), time.Minute
		var calls atomic.Int32
		r.cfg.Destination = Func(func(ctx context.Context, ev Event) error {
			if number(ev) == 2 && calls.Add(1) == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 3)
		log.want(t, "slow delivery", `document_key="{\"_id\":2}"`, "running_seconds=30")
		log.want(t, "delivery failed; retrying", "no progress for 1m0s", `document_key="{\"_id\":2}"`)
	})
	bubble(t, "one that makes progress is not", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 60)))
		r.cfg.DeliverTimeout = time.Minute
		r.cfg.Destination = Func(func(ctx context.Context, ev Event) error {
			time.Sleep(50 * time.Second)
			if ctx.Err() == nil {
				r.sink.record([]Event{ev})
			}
			return ctx.Err()
		})
		r.start()
		r.sink.wait(t, 60)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 60)
	})
	bubble(t, "one that hangs stops the pipeline, and frees the lease for a standby", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		hang := make(chan struct{})
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			if number(ev) == 2 {
				<-hang
			}
			return nil
		})
		r.start()
		if err := <-r.ended; !errors.Is(err, ErrDeliveryHung) {
			t.Errorf("Run returned %v", err)
		}
		r.wantSaved(at(1))
		r.wantFree()
		close(hang)
	})
}
