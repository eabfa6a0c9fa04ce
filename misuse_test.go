package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A hostile is a destination and its sink, each of whose calls may be replaced.
type hostile struct {
	*sink
	open   func(context.Context) (Sink, error)
	sync   func(context.Context) (json.RawMessage, error)
	commit func(context.Context, json.RawMessage) error
	close  func() error
}

func (h *hostile) Open(ctx context.Context, o Opening) (Sink, error) {
	if h.open != nil {
		return h.open(ctx)
	}
	_, err := h.sink.Open(ctx, o)
	return h, err
}

func (h *hostile) Sync(ctx context.Context) (json.RawMessage, error) {
	if h.sync == nil {
		return nil, nil
	}
	return h.sync(ctx)
}

func (h *hostile) Committed(ctx context.Context, doc json.RawMessage) error {
	if h.commit == nil {
		return nil
	}
	return h.commit(ctx, doc)
}

func (h *hostile) Close() error {
	if h.close == nil {
		return nil
	}
	return h.close()
}

func newHostileRig(t *testing.T, chunks ...chunk) (*rig, *hostile) {
	r := newRig(t, newFakeSource(chunks...))
	h := &hostile{sink: r.sink}
	r.cfg.Destination = h
	return r, h
}

// Whatever a destination, a source or a store does, Run ends soon after its context,
// and the lease is free.
func TestHungCalls(t *testing.T) {
	for name, c := range map[string]struct {
		set   func(r *rig, h *hostile, hang func())
		alone bool // Run ends by itself
		saved int
	}{
		"Sync": {set: func(r *rig, h *hostile, hang func()) {
			h.sync = func(context.Context) (json.RawMessage, error) { hang(); return nil, nil }
		}, alone: true},
		"Committed": {set: func(r *rig, h *hostile, hang func()) {
			h.commit = func(context.Context, json.RawMessage) error { hang(); return nil }
		}, alone: true, saved: 3},
		"Close": {set: func(r *rig, h *hostile, hang func()) {
			h.close = func() error { hang(); return nil }
		}, saved: 3},
		"Sync, after each batch": {set: func(r *rig, h *hostile, hang func()) {
			h.sync = func(context.Context) (json.RawMessage, error) { hang(); return nil, nil }
			r.cfg.SaveInterval = -1
		}, alone: true},
		"the transform": {set: func(r *rig, h *hostile, hang func()) {
			r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) {
				if number(ev) == 3 {
					hang()
				}
				return ev, true, nil
			}
		}, alone: true},
		"the dead letters": {set: func(r *rig, h *hostile, hang func()) {
			r.cfg.DeadLetters = hungLetters(hang)
			h.deliver = func(context.Context, *Batch) error { return Partial(2, Permanent(errors.New("no"))) }
		}, alone: true, saved: 2},
		"the opening of the destination": {set: func(r *rig, h *hostile, hang func()) {
			h.open = func(context.Context) (Sink, error) { hang(); return h, nil }
		}, saved: -1},
		"a save": {set: func(r *rig, h *hostile, hang func()) {
			r.cfg.Store = state.Intercept(r.store, func(ctx context.Context, c state.Call, next func(context.Context) error) error {
				if c.Op == state.OpSave && len(r.sink.delivered()) > 0 {
					hang()
				}
				return next(ctx)
			})
		}},
	} {
		bubble(t, name, func(t *testing.T) {
			r, h := newHostileRig(t, batch(1, 3))
			free := make(chan struct{})
			var closed atomic.Int32
			h.close = func() error { closed.Add(1); return nil }
			c.set(r, h, func() { <-free })
			r.cfg.GraceTime, r.cfg.LeaseWait = 2*time.Second, time.Hour
			var log logCatcher
			r.cfg.Logger = log.logger()
			r.start()
			begin, limit := time.Now(), 5*time.Minute+slowAfter+10*time.Second // DeliverTimeout, after progress is noticed
			if !c.alone {
				time.Sleep(time.Minute)
				r.stop()
				begin, limit = time.Now(), 2*closeTime+5*time.Second
			}
			err := <-r.ended
			if !errors.Is(err, ErrDeliveryHung) {
				t.Errorf("Run returned %v", err)
			}
			if took := time.Since(begin); took > limit {
				t.Errorf("it took %v", took)
			}
			if c.saved >= 0 && r.savedNumber() != c.saved {
				t.Errorf("event %d is saved, want %d", r.savedNumber(), c.saved)
			}
			if closed.Load() > 0 && (c.alone || name == "Close") {
				t.Error("the sink was closed under a running call")
			}
			if c.alone {
				log.want(t, "slow ", "running_seconds=30")
			}
			r.wantFree()
			close(free)
		})
	}
}

type hungLetters func()

func (hang hungLetters) Put(context.Context, DeadLetter) error { hang(); return nil }

func TestMisuse(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(r *rig, h *hostile)
		want string
	}{
		"a destination that opens to nil": {func(r *rig, h *hostile) {
			h.open = func(context.Context) (Sink, error) { return nil, nil }
		}, "opened no sink"},
		"a source that opens to nil": {func(r *rig, h *hostile) { r.cfg.Source = nilSource{r.src} }, "opened no stream"},
		"a Close that panics": {func(r *rig, h *hostile) {
			h.close = func() error { panic("oops") }
			h.deliver = func(context.Context, *Batch) error { return Permanent(errors.New("no")) }
		}, "closing the destination: panic: oops"},
		"an Open that panics": {func(r *rig, h *hostile) {
			h.open = func(context.Context) (Sink, error) { panic("oops") }
		}, "opening the destination: panic: oops"},
		"a stream that starts nowhere":      {func(r *rig, h *hostile) { r.src.origin = Position{} }, "gave no position"},
		"an opening with a context's error": {func(r *rig, h *hostile) { r.src.openErrs = []error{context.Canceled} }, "context canceled"},
		"a stream with a context's error":   {func(r *rig, h *hostile) { r.src.add(chunk{err: context.Canceled}) }, "context canceled"},
		"a stream with events and an error": {func(r *rig, h *hostile) { r.src.add(chunk{events: events(4, 5), err: ErrHistoryLost}) }, ErrHistoryLost.Error()},
		"a Sync that returns no JSON": {func(r *rig, h *hostile) {
			h.sync = func(context.Context) (json.RawMessage, error) { return json.RawMessage("{"), nil }
		}, state.ErrInvalid.Error()},
		"an event without an _id": {func(r *rig, h *hostile) {
			r.src.add(chunk{events: []Event{{Raw: []byte{5, 0, 0, 0, 0}}}, end: at(9)})
		}, "has no usable _id"},
	} {
		bubble(t, name+" is an error, and the lease is released", func(t *testing.T) {
			r, h := newHostileRig(t, batch(1, 3))
			c.set(r, h)
			r.start()
			if err := <-r.ended; err == nil || !contains(err, c.want) {
				t.Errorf("Run returned %v", err)
			}
			if err := r.p.Wait(t.Context()); err != nil && !contains(err, c.want) {
				t.Errorf("Wait returned %v", err)
			}
			r.wantFree()
		})
	}
	bubble(t, "a Deliver that keeps its batch can't report later", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		var kept *Batch
		h.deliver = func(_ context.Context, b *Batch) error {
			if kept != nil {
				kept.Done(3)
			} else {
				kept = b
			}
			return errors.New("not now")
		}
		r.start()
		time.Sleep(10 * time.Second)
		r.wantSaved(r.src.origin)
		if err := r.end(); !errors.Is(err, ErrUndelivered) {
			t.Errorf("Run returned %v", err)
		}
	})
	for name, err := range map[string]error{
		"an empty PartialError":              &PartialError{},
		"Partial in Partial":                 Partial(0, Partial(2, errors.New("no"))),
		"a context's error":                  fmt.Errorf("no: %w", context.Canceled),
		"the store's error":                  fmt.Errorf("no: %w", state.ErrFenced),
		"an error as if the store were away": fmt.Errorf("no: %w", state.ErrUnavailable),
	} {
		bubble(t, name+" is an error like any other", func(t *testing.T) {
			r, h := newHostileRig(t, batch(1, 3))
			r.cfg.MaxAttempts = 3
			var calls atomic.Int32
			h.deliver = func(context.Context, *Batch) error {
				if calls.Add(1) > 100 {
					time.Sleep(time.Hour)
				}
				return err
			}
			r.start()
			if err := <-r.ended; !errors.As(err, new(*RefusedError)) {
				t.Errorf("Run returned %v", err)
			}
			if n := calls.Load(); n > 6 {
				t.Errorf("%d calls", n)
			}
		})
	}
	bubble(t, "Permanent around Partial refuses the event after those", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 3))
		h.deliver = func(context.Context, *Batch) error { return Permanent(Partial(1, errors.New("no"))) }
		r.start()
		var refused *RefusedError
		if err := <-r.ended; !errors.As(err, &refused) || number(refused.Event) != 2 {
			t.Errorf("Run returned %v", err)
		}
		r.wantSaved(at(1))
	})
	bubble(t, "a source that ignores its context does not have its stream closed", func(t *testing.T) {
		r, _ := newHostileRig(t, batch(1, 3))
		src := &deafSource{fakeSource: r.src, free: make(chan struct{})}
		r.cfg.Source = src
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.wantSaved(at(3))
		if n := src.closed.Load(); n != 0 {
			t.Errorf("the stream was closed %d times under Next", n)
		}
		close(src.free)
	})
	bubble(t, "any other has it closed once", func(t *testing.T) {
		r, _ := newHostileRig(t, batch(1, 3))
		src := &deafSource{fakeSource: r.src, free: make(chan struct{})}
		close(src.free)
		r.cfg.Source = src
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil || src.closed.Load() != 1 {
			t.Errorf("Run returned %v, the stream was closed %d times", err, src.closed.Load())
		}
	})
	bubble(t, "an event is refused as the server sent it, whatever a transform made of it", func(t *testing.T) {
		r, h := newHostileRig(t, batch(1, 1))
		r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) { return ev.With(event(9).Raw), true, nil }
		h.deliver = func(context.Context, *Batch) error { return Permanent(errors.New("no")) }
		r.start()
		var refused *RefusedError
		if err := <-r.ended; !errors.As(err, &refused) || number(refused.Event) != 1 {
			t.Errorf("Run returned %v", err)
		}
	})
}

type nilSource struct{ *fakeSource }

func (nilSource) Open(context.Context, string, Start) (Stream, error) { return nil, nil }

// A deafSource's streams ignore the end of their context.
type deafSource struct {
	*fakeSource
	free   chan struct{}
	closed atomic.Int32
}

func (s *deafSource) Open(ctx context.Context, name string, at Start) (Stream, error) {
	st, err := s.fakeSource.Open(ctx, name, at)
	return deafStream{st, s}, err
}

type deafStream struct {
	Stream
	s *deafSource
}

func (d deafStream) Next(ctx context.Context) ([]Event, Position, error) {
	evs, pos, err := d.Stream.Next(ctx)
	if err != nil {
		<-d.s.free
	}
	return evs, pos, err
}

func (d deafStream) Close(context.Context) error { d.s.closed.Add(1); return nil }
