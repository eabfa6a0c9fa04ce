package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// In a bubble all clocks are fake: hours pass as soon as everything waits.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestPlace(t *testing.T) {
	bubble(t, "a first start saves where it began before it delivers", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.sink.deliver = func(context.Context, *Batch) error {
			r.wantSaved(r.src.origin)
			return nil
		}
		r.start()
		<-r.p.Ready()
		r.wantSaved(r.src.origin)
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		r.wantSaved(at(3))
		if fp := r.saved().Fingerprint; fp != testFingerprint {
			t.Errorf("the fingerprint saved is %q", fp)
		}
	})
	bubble(t, "saved after delivery and never before", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3), batch(4, 6)))
		r.cfg.SaveInterval, r.cfg.MaxBatchEvents = -1, 3
		var attempts atomic.Int32
		r.sink.deliver = func(_ context.Context, b *Batch) error {
			if first := number(b.Events[0]); first > 1 {
				r.wantSaved(at(first - 1))
			} else {
				r.wantSaved(r.src.origin)
			}
			if attempts.Add(1)%3 != 0 {
				return errors.New("not now")
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 6)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 6)
		r.wantSaved(at(6))
		if got := r.p.Status()[0].Retries; got != 4 {
			t.Errorf("%d retries counted, want 4", got)
		}
	})
	bubble(t, "the next run goes on after the checkpoint", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		seq := r.saved().Sequence
		r.src.add(batch(4, 5))
		r.start()
		r.sink.wait(t, 5)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 5)
		if got := r.saved().Sequence; got <= seq {
			t.Errorf("sequence %d after %d", got, seq)
		}
	})
	bubble(t, "an idle stream moves its place on, but not past events in hand", func(t *testing.T) {
		r := newRig(t, newFakeSource(idle(0)))
		hold := make(chan struct{})
		r.sink.deliver = func(context.Context, *Batch) error { <-hold; return nil }
		r.start()
		time.Sleep(r.cfgIdle() + time.Second)
		r.wantSaved(between(0))
		r.src.add(batch(1, 2), idle(2))
		time.Sleep(10 * r.cfgIdle())
		r.wantSaved(between(0))
		close(hold)
		r.sink.wait(t, 2)
		time.Sleep(10 * r.cfgIdle())
		r.wantSaved(between(2))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "an idle stream saves once an IdleInterval", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.cfg.IdleInterval = time.Minute
		r.start()
		<-r.p.Ready()
		r.src.add(idle(5))
		time.Sleep(59 * time.Second)
		r.wantSaved(r.src.origin)
		time.Sleep(2 * time.Second)
		r.wantSaved(between(5))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a partly delivered batch is continued after its delivered part", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 10)))
		var calls []int
		fail := true
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			calls = append(calls, number(ev))
			if number(ev) == 7 && fail {
				fail = false
				return errors.New("not now")
			}
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 10)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if want := []int{1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10}; !slices.Equal(calls, want) {
			t.Errorf("called for %v, want %v", calls, want)
		}
	})
	bubble(t, "a permanent error stops at its event, with everything before it saved", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 10)))
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			if number(ev) == 7 {
				return Permanent(errors.New("seven is not welcome"))
			}
			return nil
		})
		r.start()
		err := <-r.ended
		if err == nil || !strings.Contains(err.Error(), `(insert in shop.orders, documentKey {"_id":7}, cluster time 1000.7): seven`) || !strings.Contains(err.Error(), "seven is not welcome") {
			t.Errorf("the error is %v", err)
		}
		if strings.Contains(err.Error(), "opaque-") {
			t.Errorf("the error shows a token: %v", err)
		}
		r.wantSaved(at(6))
	})
	bubble(t, "a destination that miscounts is stopped, not believed", func(t *testing.T) {
		for _, n := range []int{-1, 3, 4} {
			r := newRig(t, newFakeSource(batch(1, 3)))
			r.cfg.Destination = destFunc(func(context.Context, *Batch) error { return Partial(n, errors.New("oops")) })
			r.start()
			if err := <-r.ended; err == nil || !strings.Contains(err.Error(), "reports that it delivered") {
				t.Errorf("Partial(%d): %v", n, err)
			}
			r.wantSaved(r.src.origin)
		}
	})
	bubble(t, "what is already delivered is saved while the destination is away", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3), batch(4, 6)))
		r.cfg.MaxBatchEvents = 3
		r.sink.deliver = func(_ context.Context, b *Batch) error {
			if number(b.Events[0]) == 4 {
				return errors.New("away")
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(2 * time.Second)
		r.wantSaved(at(3))
		if err := r.end(); !errors.Is(err, ErrUndelivered) {
			t.Fatalf("Run returned %v", err)
		}
	})
}

func (r *rig) cfgIdle() time.Duration { return 10 * time.Second } // the default

type destFunc func(context.Context, *Batch) error

func (f destFunc) Open(context.Context, Opening) (Sink, error) { return f, nil }

func (f destFunc) Deliver(ctx context.Context, b *Batch) error { return f(ctx, b) }

func TestBatches(t *testing.T) {
	bubble(t, "by number", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 25)))
		r.cfg.MaxBatchEvents = 10
		r.start()
		r.sink.wait(t, 25)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := sizes(r.sink.batches); !slices.Equal(got, []int{10, 10, 5}) {
			t.Errorf("batches of %v", got)
		}
	})
	bubble(t, "by bytes", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 10)))
		r.cfg.MaxBatchBytes = len(event(1).Raw) * 4
		r.start()
		r.sink.wait(t, 10)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := sizes(r.sink.batches); !slices.Equal(got, []int{4, 4, 2}) {
			t.Errorf("batches of %v", got)
		}
	})
	bubble(t, "one event may be larger than a batch", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.cfg.MaxBatchBytes = 1
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := sizes(r.sink.batches); !slices.Equal(got, []int{1, 1, 1}) {
			t.Errorf("batches of %v", got)
		}
	})
	bubble(t, "by age", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2)))
		r.cfg.MaxBatchAge = 5 * time.Second
		r.start()
		<-r.p.Ready()
		begin := time.Now()
		r.sink.wait(t, 2)
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("delivered after %v", took)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "by age, what is left of a full batch too", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 15)))
		r.cfg.MaxBatchAge, r.cfg.MaxBatchEvents = 5*time.Second, 10
		r.start()
		<-r.p.Ready()
		begin := time.Now()
		r.sink.wait(t, 10)
		full := time.Since(begin)
		r.sink.wait(t, 15)
		if rest := time.Since(begin); full != 0 || rest != 5*time.Second {
			t.Errorf("delivered after %v and %v", full, rest)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "age -1 delivers what is at hand", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2)))
		r.cfg.MaxBatchAge = -1
		r.start()
		<-r.p.Ready()
		begin := time.Now()
		r.sink.wait(t, 2)
		if took := time.Since(begin); took != 0 {
			t.Errorf("delivered after %v", took)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "the source's slices are not written to", func(t *testing.T) {
		all := events(1, 9)
		r := newRig(t, newFakeSource(chunk{events: all[:2], end: at(2)}, chunk{events: events(50, 50), end: at(50)}, chunk{events: all[3:6], end: at(6)}))
		r.start()
		r.sink.wait(t, 6)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		for i, ev := range all {
			if number(ev) != i+1 {
				t.Fatalf("event %d became %d", i+1, number(ev))
			}
		}
	})
}

func sizes(batches [][]int) (n []int) {
	for _, b := range batches {
		n = append(n, len(b))
	}
	return n
}

func TestBackpressure(t *testing.T) {
	bubble(t, "reading waits for the destination", func(t *testing.T) {
		src := newFakeSource()
		for n := range 100 {
			src.add(batch(n*10+1, n*10+10))
		}
		r := newRig(t, src)
		size := 10 * len(event(1).Raw)
		r.cfg.MaxInFlightBytes = 5 * size
		hold := make(chan struct{})
		r.sink.deliver = func(context.Context, *Batch) error { <-hold; return nil }
		r.start()
		time.Sleep(time.Minute)
		// Five chunks are in flight, and the sixth has been read and waits.
		if got := src.handedOut(); got != 6 {
			t.Errorf("%d chunks read while nothing is delivered, want 6", got)
		}
		close(hold)
		r.sink.wait(t, 1000)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 1000)
	})
	bubble(t, "a chunk over the bound is let in", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 50), batch(51, 60)))
		r.cfg.MaxInFlightBytes = 1
		r.start()
		r.sink.wait(t, 60)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 60)
	})
	bubble(t, "a chunk without events while one over the bound is in flight", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 50), idle(50), batch(51, 60)))
		r.cfg.MaxInFlightBytes = 1
		r.sink.deliver = func(context.Context, *Batch) error { time.Sleep(time.Second); return nil }
		r.start()
		r.sink.wait(t, 60)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 60)
	})
}

func TestSaveRate(t *testing.T) {
	bubble(t, "at most one save an interval, and one at the end", func(t *testing.T) {
		src := newFakeSource()
		r := newRig(t, src)
		r.cfg.SaveInterval = 10 * time.Second
		r.start()
		<-r.p.Ready()
		for n := range 100 {
			src.add(batch(n+1, n+1))
			time.Sleep(time.Second)
		}
		r.sink.wait(t, 100)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		// The start, one each ten seconds, the end.
		if got := r.p.Status()[0].Saves; got < 10 || got > 12 {
			t.Errorf("%d saves in 100 seconds, want about 11", got)
		}
		r.wantSaved(at(100))
	})
}

func TestStop(t *testing.T) {
	bubble(t, "what is in hand is delivered and saved", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 5)))
		r.cfg.MaxBatchAge = time.Hour
		r.start()
		<-r.p.Ready()
		synctest.Wait()
		if n := len(r.sink.delivered()); n != 0 {
			t.Fatalf("%d events delivered before the stop", n)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 5)
		r.wantSaved(at(5))
		if g, err := r.store.Acquire(t.Context(), "shop", state.LeaseRequest{Owner: "next", Nonce: "n", TTL: time.Second}); err != nil {
			t.Errorf("the lease was not released: %v (%v)", err, g)
		}
	})
	bubble(t, "the destination's context does not end with the stop", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		in := make(chan struct{})
		r.sink.deliver = func(ctx context.Context, _ *Batch) error {
			close(in)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
				return nil
			}
		}
		r.start()
		<-in
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 1)
		r.wantSaved(at(1))
	})
	bubble(t, "the grace time ends, and the events that were not delivered are redelivered", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3), batch(4, 6)))
		r.cfg.MaxBatchEvents, r.cfg.GraceTime, r.cfg.SaveInterval = 3, 20*time.Second, time.Hour
		in := make(chan struct{})
		r.sink.deliver = func(ctx context.Context, b *Batch) error {
			if number(b.Events[0]) == 1 {
				return nil
			}
			close(in)
			<-ctx.Done()
			return ctx.Err()
		}
		r.start()
		<-in
		begin := time.Now()
		if err := r.end(); !errors.Is(err, ErrUndelivered) {
			t.Fatalf("Run returned %v", err)
		}
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("stopped after %v, want the grace time", took)
		}
		r.wantSaved(at(3))
		r.sink.deliver = nil
		r.start()
		r.sink.wait(t, 6)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 6)
	})
	bubble(t, "a stream that can't go on: what came before is delivered and saved", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3), chunk{err: ErrHistoryLost}, batch(4, 5)))
		r.cfg.MaxBatchAge = time.Hour
		r.start()
		if err := <-r.ended; !errors.Is(err, ErrHistoryLost) {
			t.Fatalf("Run returned %v", err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 3)
		r.wantSaved(at(3))
		if n := r.src.handedOut(); n != 2 {
			t.Errorf("Next was called after its error: %d chunks", n)
		}
	})
	bubble(t, "Run can be called once", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.start()
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if err := r.p.Run(t.Context()); err == nil {
			t.Error("the second Run returned nil")
		}
	})
}

// brokenStore is a store in front of a working one, which fails on demand.
type brokenStore struct {
	state.Store
	mu   sync.Mutex
	load error
	save error
}

func (b *brokenStore) set(load, save error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.load, b.save = load, save
}

func (b *brokenStore) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	b.mu.Lock()
	err := b.load
	b.mu.Unlock()
	if err != nil {
		return state.Checkpoint{}, err
	}
	return b.Store.Load(ctx, key)
}

func (b *brokenStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	b.mu.Lock()
	err := b.save
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return b.Store.Save(ctx, key, cp)
}

func TestStart(t *testing.T) {
	for _, bad := range []error{state.ErrCorrupt, state.ErrNewer, state.ErrExpired, state.ErrUnavailable, state.ErrClosed, errors.New("who knows")} {
		bubble(t, "only ErrNotFound starts at now, not "+bad.Error(), func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 1)))
			r.cfg.Store, r.cfg.LeaseTTL = &brokenStore{Store: r.store, load: bad}, -1
			r.start()
			if err := <-r.ended; !errors.Is(err, bad) {
				t.Fatalf("Run returned %v", err)
			}
			if len(r.src.opens) > 0 || len(r.sink.delivered()) > 0 {
				t.Fatal("the stream was opened")
			}
		})
	}
	bubble(t, "StartAt holds for a first start only", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.FirstStart.Time = bson.Timestamp{T: 7, I: 1}
		for range 2 {
			r.start()
			<-r.p.Ready()
			r.sink.wait(t, 1)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
		}
		if r.src.opens[0].Time != r.cfg.FirstStart.Time || r.src.opens[0].Checkpoint != nil {
			t.Errorf("the first start was %+v", r.src.opens[0])
		}
		if r.src.opens[1].Checkpoint == nil {
			t.Errorf("the second start was %+v", r.src.opens[1])
		}
	})
	bubble(t, "a first start beside unclaimed checkpoints is refused, and lists them", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.src.names = []string{"customers"}
		for _, key := range []string{"shop/clients", "shop", "shopping", "shop-2/x"} {
			if err := r.store.Save(t.Context(), key, at(1).delivered()); err != nil {
				t.Fatal(err)
			}
		}
		r.start()
		err := <-r.ended
		refused := new(FirstStartError)
		if !errors.Is(err, ErrOtherCheckpoint) || !errors.As(err, &refused) || !strings.Contains(err.Error(), `"shop/clients"`) || !strings.Contains(err.Error(), `"shop"`) || strings.Contains(err.Error(), "shopping") {
			t.Fatalf("Run returned %v", err)
		}
		for _, accept := range []string{refused.Accept, ""} { // it has a checkpoint the second time
			r.cfg.FirstStart.Accept = accept
			r.start()
			<-r.p.Ready()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
		}
	})
	bubble(t, "a first start is refused where there is to be none", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.FirstStart.None = true
		r.start()
		refused := new(FirstStartError)
		if err := <-r.ended; !errors.Is(err, ErrNoFirstStart) || !errors.As(err, &refused) || refused.Accept != "" || len(r.src.opens) > 0 {
			t.Fatalf("Run returned %v", err)
		}
		if err := r.store.Save(t.Context(), "shop", at(1).delivered()); err != nil {
			t.Fatal(err)
		}
		r.start()
		<-r.p.Ready()
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "an unreachable server is an error, not a retry", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		away := errors.New("no server there")
		r.src.openErrs = []error{away}
		r.start()
		if err := <-r.ended; !errors.Is(err, away) {
			t.Fatalf("Run returned %v", err)
		}
	})
	bubble(t, "the first save fails: nothing is delivered", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.Store, r.cfg.LeaseTTL = &brokenStore{Store: r.store, save: state.ErrUnavailable}, -1
		r.start()
		if err := <-r.ended; !errors.Is(err, state.ErrUnavailable) {
			t.Fatalf("Run returned %v", err)
		}
		if len(r.sink.delivered()) > 0 {
			t.Fatal("an event was delivered")
		}
	})
	bubble(t, "an accepted change is saved before anything is delivered", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2), batch(3, 4)))
		cp := at(2).delivered()
		cp.Fingerprint = "another stream"
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.cfg.AcceptChangedStream = "abc"
		r.sink.deliver = func(context.Context, *Batch) error {
			if fp := r.saved().Fingerprint; fp != testFingerprint {
				t.Errorf("delivering with the fingerprint %q saved", fp)
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 2)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.src.opens[0].AcceptChanged; got != "abc" {
			t.Errorf("the source was opened to accept %q", got)
		}
	})
}

func TestStoreAway(t *testing.T) {
	bubble(t, "a store that is back after minutes is found within two seconds", func(t *testing.T) {
		src := newFakeSource(batch(1, 1))
		r := newRig(t, src)
		broken := &brokenStore{Store: r.store}
		r.cfg.Store, r.cfg.LeaseTTL = broken, -1
		r.start()
		r.sink.wait(t, 1)
		broken.set(nil, state.ErrUnavailable)
		src.add(batch(2, 2))
		r.sink.wait(t, 2)
		time.Sleep(10 * time.Minute) // the pauses between deliveries would be at their longest
		broken.set(nil, nil)
		time.Sleep(2 * time.Second)
		r.wantSaved(at(2))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "events are delivered, and saved when it is back", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		broken := &brokenStore{Store: r.store}
		r.cfg.Store, r.cfg.LeaseTTL = broken, -1
		r.start()
		r.sink.wait(t, 1)
		time.Sleep(5 * time.Second)
		broken.set(nil, fmt.Errorf("gone for lunch"))
		r.src.add(batch(2, 2))
		r.sink.wait(t, 2)
		time.Sleep(time.Minute)
		r.wantSaved(at(1))
		if n := r.p.Status()[0].SaveErrors; n < 50 || n > 130 {
			t.Errorf("%d saves tried in a minute; they should be tried again, about once a second", n)
		}
		broken.set(nil, nil)
		time.Sleep(time.Minute)
		r.wantSaved(at(2))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a save whose answer was lost is not taken for another", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		var lose atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			err := next(ctx)
			if err == nil && c.Op == state.OpSave && lose.Load() {
				return fmt.Errorf("%w: the answer was lost", state.ErrUnavailable)
			}
			return err
		})
		r.start()
		r.sink.wait(t, 1)
		lose.Store(true)
		time.Sleep(3 * time.Second)
		r.src.add(batch(2, 2))
		r.sink.wait(t, 2)
		time.Sleep(3 * time.Second)
		lose.Store(false)
		time.Sleep(time.Minute)
		r.wantSaved(at(2))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "the last save fails: Run says so", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		broken := &brokenStore{Store: r.store}
		r.cfg.Store, r.cfg.LeaseTTL, r.cfg.SaveInterval = broken, -1, time.Hour
		r.start()
		r.sink.wait(t, 1)
		broken.set(nil, state.ErrUnavailable)
		if err := r.end(); !errors.Is(err, state.ErrUnavailable) {
			t.Fatalf("Run returned %v", err)
		}
	})
}

func TestLease(t *testing.T) {
	bubble(t, "the second is refused by name of the first", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.cfg.Owner = "the first"
		r.start()
		<-r.p.Ready()
		second := r.cfg
		second.Owner = "the second"
		err := Run(t.Context(), second)
		var held *state.HeldError
		if !errors.As(err, &held) || held.Owner != "the first" || !strings.Contains(err.Error(), "the first") {
			t.Fatalf("the second got %v", err)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "an owner that is shut out delivers no more, and saves nothing", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		r.cfg.LeaseWait = -1
		r.start()
		r.sink.wait(t, 1)
		time.Sleep(3 * time.Second)
		r.wantSaved(at(1))
		g, err := r.store.Acquire(t.Context(), "shop", state.LeaseRequest{Owner: "thief", Nonce: "thief", TTL: 24 * time.Hour, Steal: true})
		if err != nil || g.Checkpoint.Token != at(1).Token {
			t.Fatal(g, err)
		}
		time.Sleep(20 * time.Second) // a renewal has been refused by now
		r.src.add(batch(2, 2))
		err = <-r.ended
		var held *state.HeldError
		if !errors.As(err, &held) || held.Owner != "thief" {
			t.Fatalf("Run returned %v", err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 1)
		r.wantSaved(at(1))
	})
	bubble(t, "a lease that was lost and is free again is taken again", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		var away atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if away.Load() {
				return fmt.Errorf("%w: for a while", state.ErrUnavailable)
			}
			return next(ctx)
		})
		var log logCatcher
		r.cfg.Logger = log.logger()
		r.start()
		r.sink.wait(t, 1)
		time.Sleep(3 * time.Second)
		away.Store(true)
		time.Sleep(time.Minute) // longer than the lease
		r.src.add(batch(2, 3))
		time.Sleep(time.Minute)
		wantNumbers(t, r.sink.delivered(), 1, 1)
		away.Store(false)
		r.sink.wait(t, 3)
		lines := log.count("store unavailable; retrying")
		time.Sleep(3 * time.Second)
		away.Store(true) // a second time: it is logged from its beginning again
		time.Sleep(time.Minute)
		away.Store(false)
		time.Sleep(time.Minute)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 3)
		r.wantSaved(at(3))
		// A minute and a half away: one line a doubling, not one an attempt.
		if lines < 3 || lines > 9 {
			t.Errorf("%d lines about the store", lines)
		}
		if n := log.count("store unavailable; retrying", "attempt=1\n"); n != 2 {
			t.Errorf("%d first lines about two outages", n)
		}
	})
	bubble(t, "a checkpoint that vanishes is a loss, not a first start", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		var away atomic.Bool
		r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
			if away.Load() {
				return fmt.Errorf("%w: for a while", state.ErrUnavailable)
			}
			return next(ctx)
		})
		r.start()
		r.sink.wait(t, 1)
		away.Store(true)
		time.Sleep(time.Minute)
		if err := r.store.Clear(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		away.Store(false)
		if err := <-r.ended; !errors.Is(err, ErrCheckpointLost) {
			t.Fatalf("Run returned %v", err)
		}
	})
}

// thawedSaver is that of a process that was frozen for longer than its lease
// lasts: its clock says so before its context does.
type thawedSaver struct{ plainSaver }

func (thawedSaver) valid() error { return state.ErrFenced }

func TestThawed(t *testing.T) {
	bubble(t, "nothing is delivered or saved", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.store.Save(t.Context(), "shop", state.Checkpoint{Token: r.src.origin.Token, Fingerprint: testFingerprint})
		cfg, err := r.cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		st := &monitor{hooks: &Hooks{}}
		c := &checkpointer{cfg: &cfg, key: "shop", log: cfg.Logger, status: st, watchdog: newWatchdog(&cfg, cfg.Logger), saver: thawedSaver{plainSaver{r.store, "shop"}}}
		stream, err := r.src.Open(t.Context(), "", Start{})
		if err != nil {
			t.Fatal(err)
		}
		sink := partsOf(r.sink)
		s := newSession(&cfg, c, stream, "", sink, isolation{})
		if err := c.begin(t.Context(), stream, sink, s.tracker); err != nil {
			t.Fatal(err)
		}
		work, fail, end := workContext(t.Context(), t.Context(), time.Second)
		defer end()
		if err := s.run(t.Context(), work, fail); !errors.Is(err, state.ErrFenced) {
			t.Errorf("the session returned %v", err)
		}
		if n := len(r.sink.delivered()); n > 0 {
			t.Errorf("%d events were delivered", n)
		}
		s.tracker.done([]item{{number: 1}, {number: 2}, {number: 3}})
		if err := c.trySave(t.Context()); !errors.Is(err, state.ErrFenced) {
			t.Errorf("saving returned %v", err)
		}
		if err := c.final(t.Context()); !errors.Is(err, state.ErrFenced) || !errors.Is(err, ErrUnsaved) {
			t.Errorf("the last save returned %v", err)
		}
		r.wantSaved(r.src.origin)
	})
}

func TestSyncer(t *testing.T) {
	bubble(t, "synced before each save, and what Sync said comes back", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		dest := syncSink{r.sink}
		r.cfg.Destination = dest
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if r.sink.synced != 3 {
			t.Errorf("%d events synced", r.sink.synced)
		}
		r.start()
		<-r.p.Ready()
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		a := r.sink.opened
		if len(a) != 2 || string(a[1].Saved) != "3" || a[1].FirstStart || a[1].Key != "shop" {
			t.Errorf("attached as %+v", a)
		}
		if a[0].Fence.Epoch == 0 || a[1].Fence.Epoch <= a[0].Fence.Epoch {
			t.Errorf("epochs %d and %d", a[0].Fence.Epoch, a[1].Fence.Epoch)
		}
	})
	bubble(t, "a failed Sync goes back to the checkpoint, and all events since are redelivered", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.cfg.Destination = syncSink{r.sink}
		r.cfg.SaveInterval = -1
		var failures atomic.Int32
		r.sink.syncErr = func() error {
			if len(r.sink.delivered()) >= 5 && failures.Add(1) == 1 {
				return errors.New("the disk is gone")
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(time.Second)
		r.src.add(batch(4, 5))
		r.sink.wait(t, 7)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.sink.delivered(); !slices.Equal(got, []int{1, 2, 3, 4, 5, 4, 5}) {
			t.Errorf("delivered %v", got)
		}
		r.wantSaved(at(5))
		if n := len(r.sink.opened); n != 2 || r.p.Status()[0].Rewinds != 1 {
			t.Errorf("attached %d times, %d rewinds", n, r.p.Status()[0].Rewinds)
		}
	})
	bubble(t, "a first start accepts output where the store forgets", func(t *testing.T) {
		for _, c := range []struct {
			change func(*Config)
			accept bool
		}{
			{func(c *Config) { c.Store, c.LeaseTTL = durable{c.Store}, -1 }, false},
			{func(c *Config) {}, true}, // the memory store: every start is a first one
			{func(c *Config) { c.Store, c.LeaseTTL = durable{c.Store}, -1; c.FirstStart.Time.T = 7 }, false},
		} {
			r := newRig(t, newFakeSource())
			r.cfg.Destination = syncSink{r.sink}
			c.change(&r.cfg)
			r.start()
			<-r.p.Ready()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if o := r.sink.opened[0]; !o.FirstStart || o.AcceptAnyOutput != c.accept {
				t.Errorf("FirstStart is %v, AcceptAnyOutput %v, want %v", o.FirstStart, o.AcceptAnyOutput, c.accept)
			}
		}
	})
	bubble(t, "the destination is closed at the end, and its error is logged", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		closed := errors.New("closing failed")
		r.cfg.Destination = opensTo{closing{r.sink, closed}}
		r.start()
		<-r.p.Ready()
		if err := r.end(); !errors.Is(err, closed) {
			t.Fatalf("Run returned %v", err)
		}
	})
}

// durable hides that the memory store forgets, and all else that it can.
type durable struct{ state.Store }

// opensTo is a destination that opens to a sink.
type opensTo struct{ Sink }

func (o opensTo) Open(context.Context, Opening) (Sink, error) { return o.Sink, nil }

type closing struct {
	Sink
	err error
}

func (c closing) Close() error { return c.err }

var _ io.Closer = closing{}

func TestSeveralStreams(t *testing.T) {
	bubble(t, "each has its own place, and one that fails stops the others cleanly", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.src.names = []string{"orders", "users"}
		bad := errors.New("no more")
		r.sink.deliver = func(_ context.Context, b *Batch) error {
			if b.Stream == "users" && number(b.Events[0]) > 3 {
				return Permanent(bad)
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 6)
		r.src.add(batch(4, 4))
		err := <-r.ended
		if !errors.Is(err, bad) || !strings.Contains(err.Error(), "shop/users") {
			t.Fatalf("Run returned %v", err)
		}
		for key, min := range map[string]int{"shop/orders": 3, "shop/users": 3} {
			cp, err := r.store.Load(t.Context(), key)
			if err != nil || cp.Token != at(min).Token && cp.Token != at(min+1).Token {
				t.Errorf("%s: %v %v", key, cp.Token, err)
			}
		}
	})
	for want, names := range map[string][]string{"two streams": {"a", "a"}, "no streams": {}, "can't have a checkpoint": {"a\xff"}} {
		t.Run(want+" are refused", func(t *testing.T) {
			r := newRig(t, newFakeSource())
			r.src.names = names
			if _, err := New(r.cfg); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("New returned %v", err)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	good := newRig(t, newFakeSource()).cfg
	for name, change := range map[string]func(*Config){
		"Name is empty":         func(c *Config) { c.Name = "" },
		"has a slash":           func(c *Config) { c.Name = "a/b" },
		"Source is nil":         func(c *Config) { c.Source = nil },
		"Destination is nil":    func(c *Config) { c.Destination = nil },
		"Store is nil":          func(c *Config) { c.Store = nil },
		"MaxBatchEvents is -1":  func(c *Config) { c.MaxBatchEvents = -1 },
		"MaxBatchBytes is -1":   func(c *Config) { c.MaxBatchBytes = -1 },
		"MaxInFlightBytes is":   func(c *Config) { c.MaxInFlightBytes = -1 },
		"MaxBatchAge is -2ns":   func(c *Config) { c.MaxBatchAge = -2 },
		"SaveInterval is -1s":   func(c *Config) { c.SaveInterval = -time.Second },
		"IdleInterval is -1ns":  func(c *Config) { c.IdleInterval = -1 },
		"RetryMin is -1ns":      func(c *Config) { c.RetryMin = -1 },
		"RetryMax (1ns) is les": func(c *Config) { c.RetryMax = 1 },
		"GraceTime is -1ns":     func(c *Config) { c.GraceTime = -1 },
		"LeaseTTL is -2ns":      func(c *Config) { c.LeaseTTL = -2 },
		"Concurrency is -1":     func(c *Config) { c.Concurrency = -1 },
		"MaxAttempts is -2":     func(c *Config) { c.MaxAttempts = -2 },
		"DeliverTimeout is -2":  func(c *Config) { c.DeliverTimeout = -2 },
		"has no leases":         func(c *Config) { c.Store = durable{c.Store} },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: New says %v", name, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}
