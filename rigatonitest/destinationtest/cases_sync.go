package destinationtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/rigatoni-etl/rigatoni"
)

// syncer is the sink as a Syncer, or ends the case.
func (o *owner) syncer() rigatoni.Syncer {
	y, ok := rigatoni.As[rigatoni.Syncer](o.sink)
	if !ok {
		o.s.t.skipf("%T is no rigatoni.Syncer", o.sink)
	}
	return y
}

func (s *stream) sync(y rigatoni.Syncer) (doc json.RawMessage) {
	err := s.t.call("Sync", func(ctx context.Context) (err error) {
		doc, err = y.Sync(ctx)
		return err
	})
	if err != nil {
		s.t.fatalf("Sync: %v", err)
	}
	if doc != nil && !json.Valid(doc) {
		s.t.errorf("Sync returned %q, which is not JSON and can't be saved", doc)
	}
	return slices.Clone(doc)
}

var syncCases = []testCase{
	{"Sync/Durable", "Sync makes durable what has been delivered, and is called before each checkpoint is saved.", func(t *trial) {
		s := t.stream(6)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		y := o.syncer()
		if err := o.deliver(4); err != nil {
			t.fatalf("%v", err)
		}
		s.put(o, s.sync(y))
		o.abandon() // and the checkpoint was saved
		s.finish("after a crash behind Sync")
	}},
	{"Sync/Repeated", "What it returns, if anything, is saved in the same write as the checkpoint, and is [Opening].Saved in the next session.", func(t *trial) {
		s := t.stream(6)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		y := o.syncer()
		for o.delivered < len(s.events) {
			if err := o.deliver(2); err != nil {
				t.fatalf("%v", err)
			}
			for range 3 { // idle
				doc := s.sync(y)
				if t.rand.IntN(2) == 0 {
					if err := o.commit(doc); err != nil {
						t.fatalf("%v", err)
					}
				}
			}
		}
		s.mustSave(o)
		o.abandon()
		s.finish("after Sync without a delivery since")
	}},
	{"Sync/Behind", "Events may have been delivered since.", func(t *trial) {
		s := t.stream(10)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		y := o.syncer()
		for o.delivered < 8 {
			if err := o.deliver(2); err != nil {
				t.fatalf("%v", err)
			}
			doc, covered := s.sync(y), o.delivered
			if err := o.deliver(2); err != nil {
				t.fatalf("%v", err)
			}
			ahead := o.delivered
			o.delivered = covered // of the checkpoint
			err := o.commit(doc)
			if o.delivered = ahead; err != nil {
				t.fatalf("Committed, with events delivered since: %v", err)
			}
			s.check("after a checkpoint behind what was delivered", false)
		}
		o.abandon()
		s.finish("after a crash with events delivered since the checkpoint")
	}},
	{"Sync/NotConcurrent", "A Syncer is never [Concurrent].", func(t *trial) {
		s := t.stream(1)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		o.syncer()
		if c, ok := rigatoni.As[rigatoni.Concurrent](o.sink); ok && c.Concurrent() {
			t.errorf("%T is a Syncer, and Concurrent returns true", o.sink)
		}
	}},
}

var concurrentCases = []testCase{
	{"Concurrent/Documents", "Each call has events of different documents; those of one document come in order.", func(t *trial) {
		s := t.stream(80)
		o := s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		if c, ok := rigatoni.As[rigatoni.Concurrent](o.sink); !ok || !c.Concurrent() {
			t.skipf("%T is not rigatoni.Concurrent", o.sink)
		}
		if o.tx() != nil {
			t.fatalf("%T is Transactional, and Concurrent returns true: transactions come one at a time", o.sink)
		}
		var wg sync.WaitGroup
		for id := range int32(5) { // a lane for each document
			var lane []rigatoni.Event
			for i, r := range s.records {
				if r.ID == id {
					lane = append(lane, s.events[i])
				}
			}
			wg.Go(func() {
				for len(lane) > 0 {
					n := min(len(lane), 1+len(lane)%3)
					b := &rigatoni.Batch{Events: lane[:n]}
					if err := o.sink.Deliver(t.ctx, b); err != nil {
						t.errorf("one of several calls at once: %v", err)
						return
					}
					lane = lane[n:]
				}
			})
		}
		wg.Wait()
		o.delivered = len(s.events)
		s.stop(o)
		s.check("after deliveries of several documents at once", true)
	}},
}

var refusedCases = []testCase{
	{"Refused/Permanent", "the error is [Permanent], or Config.MaxAttempts is reached", func(t *trial) {
		if t.h.Refused == nil {
			t.skipf("Harness.Refused is nil")
		}
		for at := range 4 { // its place in the batch
			s := t.stream(3)
			o := s.own()
			if err := o.open(); err != nil {
				t.fatalf("%v", err)
			}
			s.refuse(o, at)
			if err := o.work(never); err != nil {
				t.fatalf("after an event was refused: %v", err)
			}
			s.check(fmt.Sprintf("after event %d of a batch was refused", at), true)
		}
	}},
}

// refuse delivers a batch with an event that the destination refuses, and puts it aside
// as the pipeline does.
func (s *stream) refuse(o *owner, at int) {
	good, records, sent := s.events, s.records, s.sent
	bad := s.t.h.Refused(99)
	s.events = slices.Insert(slices.Clone(good), at, bad)
	s.records = slices.Insert(slices.Clone(records), at, Record{})
	s.sent = slices.Insert(slices.Clone(sent), at, slices.Clone(bad.Raw))
	err := o.deliver(len(s.events))
	if err == nil {
		s.t.fatalf("a batch with the event of Harness.Refused was delivered")
	}
	if o.delivered > at {
		s.t.fatalf("Deliver says that %d events are delivered, and event %d of them is one that the destination refuses", o.delivered, at)
	}
	for o.delivered < at { // event by event, to find it
		if err := o.deliver(1); err != nil {
			s.t.fatalf("an event before the one that is refused: %v", err)
		}
	}
	if err := o.deliver(1); err == nil || !isPermanent(err) {
		s.t.errorf("the event of Harness.Refused alone: got %v, want a rigatoni.Permanent error", err)
	}
	s.events, s.records, s.sent = good, records, sent
}
