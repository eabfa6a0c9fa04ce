package destinationtest

import (
	"errors"
	"fmt"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

var snapshotCases = []testCase{
	{"Snapshot/Order", "The documents come as events of the type \"read\" ([Event.IsSnapshot]), between the changes, so that each document's versions are in order.", func(t *trial) {
		for range 5 {
			s := t.copiedStream(6)
			o := s.own()
			if err := o.open(); err != nil {
				t.fatalf("%v", err)
			}
			for o.delivered < len(s.events) {
				if err := o.deliver(min(1+t.rand.IntN(5), len(s.events)-o.delivered)); err != nil {
					t.fatalf("%v", err)
				}
				if t.rand.IntN(2) == 0 {
					s.mustSave(o)
					s.check(fmt.Sprintf("after event %d of a copy", o.delivered), false)
				}
			}
			s.stop(o)
			s.check("after a copy", true)
		}
	}},
	{"Snapshot/CrashAtEachCall", "The position after an event covers the event, all that came before it, and nothing that comes after.", func(t *trial) {
		for calls := 0; ; calls++ {
			s := t.copiedStream(2)
			if !s.crashAfter(calls) {
				break
			}
			when := fmt.Sprintf("after a crash in a copy, after %d calls", calls)
			s.check(when, false)
			s.finish(when)
			if t.hasFailed() {
				return
			}
		}
	}},
	{"Snapshot/CrashAtEachStep", "What may have been delivered before the error is delivered again, so delivering twice should be harmless.", func(t *trial) {
		for _, kind := range []Kind{Crash, LoseAnswer} {
			t.atEachStepOf(kind, func() *stream { return t.copiedStream(2) }, func(s *stream, d rigatoni.Destination, reached func() bool, _ func()) {
				dead := never
				if kind == Crash {
					dead = reached
				}
				if err := s.workWith(d, dead); err != nil && !(kind == Crash && reached()) {
					t.fatalf("a copy, and a step that %s: %v", kind, err)
				}
			})
			if t.hasFailed() {
				return
			}
		}
	}},
}

// sweepers ends the case unless the destination is a mirror whose sink is a Sweeper.
func (t *trial) sweepers() {
	o := t.stream(1).own()
	if err := o.open(); err != nil {
		t.fatalf("%v", err)
	}
	if _, ok := rigatoni.As[rigatoni.Sweeper](o.sink); !ok {
		t.skipf("%T is no rigatoni.Sweeper", o.sink)
	}
	if !t.h.Mirror {
		t.skipf("Harness.Mirror is not set: what a sweep does to a log is the destination's own business")
	}
	if err := o.closeSink(); err != nil {
		t.fatalf("Close: %v", err)
	}
}

// beforeSweep delivers all that comes before the sweep of a stream.
func (s *stream) beforeSweep() (*owner, sweep) {
	o := s.own()
	if err := o.open(); err != nil {
		s.t.fatalf("%v", err)
	}
	for {
		if w, ok := s.sweeps[o.delivered]; ok {
			s.mustSave(o)
			return o, w
		}
		if err := o.deliver(1); err != nil {
			s.t.fatalf("%v", err)
		}
	}
}

const sweepRule = "Sweep deletes, or marks as deleted, what the destination has of end.Namespace with a version before end.Began, and nothing else: what has that version or a later one was found by the copy, or touched by an event since."

var sweepCases = []testCase{
	{"Sweep/Removes", sweepRule, func(t *trial) {
		t.sweepers()
		for range 5 {
			s := t.sweptStream()
			o, w := s.beforeSweep()
			s.check("before the sweep", false)
			if err := o.sweep(w); err != nil {
				t.fatalf("%v", err)
			}
			s.mustSave(o)
			s.check("after the sweep", false)
			if err := o.work(never); err != nil {
				t.fatalf("%v", err)
			}
			s.check("at the end", true)
		}
	}},
	{"Sweep/OtherCollections", sweepRule, func(t *trial) {
		t.sweepers()
		s := t.stream(6)
		o := s.own()
		if err := o.work(never); err != nil {
			t.fatalf("%v", err)
		}
		o = s.own()
		if err := o.open(); err != nil {
			t.fatalf("%v", err)
		}
		began, err := rigatonitest.Insert("destinationtest.others", document(Record{ID: 1, N: 1})).Token()
		if err != nil {
			t.fatalf("%v", err)
		}
		if err := o.sweepTo(rigatoni.SnapshotEnd{Namespace: rigatoni.Namespace{DB: "destinationtest", Coll: "others"}, Began: began}); err != nil {
			t.fatalf("a sweep of a collection of which nothing is there: %v", err)
		}
		s.check("after a sweep of another collection", true)
	}},
	{"Sweep/Again", "It may be called again after it returned nil, after a crash.", func(t *trial) {
		t.sweepers()
		s := t.sweptStream()
		o, w := s.beforeSweep()
		for range 2 {
			if err := o.sweepTo(w.end); err != nil {
				t.fatalf("%v", err)
			}
			o.abandon() // before the checkpoint is saved
			o = s.own()
			if err := o.open(); err != nil {
				t.fatalf("%v", err)
			}
		}
		if err := o.work(never); err != nil {
			t.fatalf("%v", err)
		}
		s.check("after a sweep that was repeated", true)
	}},
	{"Sweep/Fenced", "where the sink is [Transactional], Sweep checks in its own transactions that the fence it was opened with ([Opening].Fence) is still that of the record, and otherwise changes nothing and returns state.ErrFenced.", func(t *trial) {
		if !t.isTransactional() {
			t.skipf("the destination is no rigatoni.Checkpointer")
		}
		t.sweepers()
		s := t.sweptStream()
		old, w := s.beforeSweep()
		for len(w.removed) == 0 {
			s = t.sweptStream()
			old, w = s.beforeSweep()
		}
		want := s.wanted(old.delivered)
		owner := s.own()
		if err := old.sweepTo(w.end); !errors.Is(err, state.ErrFenced) {
			t.errorf("an old owner's Sweep: got %v, want ErrFenced", err)
		}
		s.checkDocuments("after an old owner's Sweep", want)
		if err := owner.work(never); err != nil {
			t.fatalf("%v", err)
		}
		s.check("at the end", true)
	}},
	{"Sweep/CrashAtEachStep", "It may be called again after it returned nil, after a crash.", func(t *trial) {
		t.sweepers()
		for _, kind := range []Kind{Crash, Fail, LoseAnswer} {
			t.atEachStepOf(kind, t.sweptStream, func(s *stream, d rigatoni.Destination, reached func() bool, _ func()) {
				o, _ := s.beforeSweep()
				_ = o.closeSink() // the fault is in what follows
				dead := never
				if kind == Crash {
					dead = reached
				}
				if err := s.workWith(d, dead); err != nil && !(kind == Crash && reached()) {
					t.fatalf("a sweep, and a step that %s: %v", kind, err)
				}
			})
			if t.hasFailed() {
				return
			}
		}
	}},
}
