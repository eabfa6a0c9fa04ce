package destinationtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
)

var deliverCases = []testCase{
	{"Deliver/All", "Deliver returns nil once every event of b is delivered in the destination's own terms", func(t *trial) {
		for _, n := range []int{1, 2, 3, 10, 100, 400} {
			s := t.stream(n)
			o := s.own()
			if err := o.open(); err != nil {
				t.fatalf("%v", err)
			}
			if err := o.deliver(n); err != nil {
				t.fatalf("a batch of %d events: %v", n, err)
			}
			s.stop(o)
			s.check(fmt.Sprintf("after a batch of %d events", n), true)
		}
	}},
	{"Deliver/Order", "Without concurrency they are in the order of the stream; with it, those of each document are.", func(t *trial) {
		s := t.stream(60)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		for o.delivered < len(s.events) {
			if err := o.deliver(min(1+t.rand.IntN(5), len(s.events)-o.delivered)); err != nil {
				t.fatalf("%v", err)
			}
			if t.rand.IntN(3) == 0 {
				s.mustSave(o)
			}
		}
		s.stop(o)
		s.check("after many small batches", true)
	}},
	{"Deliver/Again", "What may have been delivered before the error is delivered again, so delivering twice should be harmless.", func(t *trial) {
		for _, synced := range []bool{false, true} {
			s := t.stream(9)
			o := s.own()
			if err := o.open(); err != nil {
				t.fatalf("%v", err)
			}
			if err := o.deliver(5); err != nil {
				t.fatalf("%v", err)
			}
			if y, ok := rigatoni.As[rigatoni.Syncer](o.sink); ok && synced {
				s.sync(y)
			}
			if o.tx() == nil { // the session ends before the checkpoint is saved
				if err := o.closeSink(); err != nil {
					t.errorf("Close, with events that no checkpoint covers: %v", err)
				}
			}
			if err := o.work(never); err != nil {
				t.fatalf("%v", err)
			}
			s.check("after the first 5 events were delivered a second time", true)
		}
	}},
	{"Deliver/EndedContext", "A Deliver that has not returned a second after that is abandoned.", func(t *trial) {
		s := t.stream(6)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		before := t.ctx
		ended, cancel := context.WithCancel(before)
		cancel()
		t.ctx = ended
		err := o.deliverEnded(3) // it may have been delivered all the same
		t.ctx = before
		if err != nil && !errors.Is(err, context.Canceled) {
			t.note(false, "with a context that has ended, Deliver returns %v", err)
		}
		if err := o.work(never); err != nil {
			t.fatalf("after a delivery whose context had ended: %v", err)
		}
		s.check("after a delivery whose context had ended", true)
	}},
	{"Deliver/Keys", "those of different streams run concurrently", func(t *trial) {
		names := []string{"shop/orders", "shop", "Shop", "shop-0000000001-000001", "a b", "ü", "x'y\"z", "%2f", "..", strings.Repeat("long", 60)}
		var all []*stream
		for i, name := range names {
			s := t.stream(3 + i)
			s.key = t.keys + name
			all = append(all, s)
		}
		d := t.destination()
		for _, s := range all {
			o, err := s.take(d)
			if err != nil {
				t.fatalf("acquiring the lease of %q: %v", s.key, err)
			}
			if err := o.open(); err != nil {
				t.fatalf("the key %q: %v", s.key, err)
			}
		}
		for len(all) > 0 { // their sessions overlap
			s := all[0]
			all = all[1:]
			o := s.current
			if err := o.deliver(min(2, len(s.events)-o.delivered)); err != nil {
				t.fatalf("the key %q: %v", s.key, err)
			}
			if o.delivered < len(s.events) {
				all = append(all, s)
				continue
			}
			s.stop(o)
			s.check(fmt.Sprintf("the key %q", s.key), true)
		}
	}},
}

// deliverEnded is deliver with a context that has ended.
func (o *owner) deliverEnded(n int) error {
	b := o.batch(n)
	done := make(chan error, 1)
	// A call that hangs goes on after the case is over, and must not use what is the case's.
	ctx, sink, tx, fence, cp := o.s.t.ctx, o.sink, o.tx(), o.fence, o.checkpoint(b.Events[n-1])
	go func() {
		if tx != nil {
			done <- tx.DeliverAt(ctx, b, fence, cp)
			return
		}
		done <- sink.Deliver(ctx, b)
	}()
	err, returned := within(done)
	if !returned {
		o.s.t.fatalf("a delivery has not returned five seconds after its context had ended")
	}
	var p *rigatoni.PartialError
	switch {
	case o.tx() != nil:
		if err == nil {
			o.delivered, o.sequence = o.delivered+n, o.sequence+1
		}
	case err == nil:
		o.delivered += n
	case errors.As(err, &p):
		o.delivered += p.Delivered
	}
	return err
}

// stop saves and closes, as a pipeline that is stopped does.
func (s *stream) stop(o *owner) {
	s.mustSave(o)
	if err := o.closeSink(); err != nil {
		s.t.fatalf("Close: %v", err)
	}
}

func (s *stream) mustSave(o *owner) {
	if err := o.save(); err != nil {
		s.t.fatalf("saving a checkpoint: %v", err)
	}
}
