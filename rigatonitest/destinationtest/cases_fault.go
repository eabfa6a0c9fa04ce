package destinationtest

import (
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// mostSteps is more than a destination needs for the events of a case.
const mostSteps = 10_000

// atEachStep runs do with a fault at step 0, 1, 2 and so on of the destination, until it is
// not reached, each with a stream of its own. It ends with a clean stop of the stream,
// by a process without faults if need be.
func (t *trial) atEachStep(kind Kind, do func(s *stream, d rigatoni.Destination, reached func() bool, thaw func())) {
	t.atEachStepOf(kind, func() *stream { return t.stream(8) }, do)
}

// atEachStepOf is atEachStep with streams of another kind.
func (t *trial) atEachStepOf(kind Kind, newStream func() *stream, do func(s *stream, d rigatoni.Destination, reached func() bool, thaw func())) {
	if t.h.OpenFaulty == nil {
		t.skipf("Harness.OpenFaulty is nil")
	}
	for step := 0; step < mostSteps; step++ {
		ch := make(chan struct{})
		thawed := false
		thaw := func() {
			if !thawed {
				close(ch)
				thawed = true
			}
		}
		defer thaw()
		d, reached, err := t.h.OpenFaulty(t.ctx, Fault{Step: step, Kind: kind, Thaw: ch})
		if err != nil {
			t.fatalf("Harness.OpenFaulty: %v", err)
		}
		t.opens(d)
		s := newStream()
		do(s, d, reached, thaw)
		s.check(fmt.Sprintf("when step %d %s, before the stream has ended", step, kind), false)
		s.finish(fmt.Sprintf("when step %d %s", step, kind))
		if !reached() || t.hasFailed() {
			return
		}
	}
	t.fatalf("the destination needs more than %d steps for 8 events", mostSteps)
}

// workWith makes a process with a destination the owner, and has it work. Without a lease
// it tries again.
func (s *stream) workWith(d rigatoni.Destination, dead func() bool) error {
	var err error
	for range attempts {
		var o *owner
		if o, err = s.take(d); err == nil {
			return o.work(dead)
		}
		if dead() {
			return err
		}
	}
	return fmt.Errorf("acquiring the lease: %w", err)
}

func failing(kind Kind) func(t *trial) {
	return func(t *trial) {
		t.atEachStep(kind, func(s *stream, d rigatoni.Destination, _ func() bool, _ func()) {
			if err := s.workWith(d, never); err != nil {
				t.fatalf("a step that %s is one too many: %v", kind, err)
			}
		})
	}
}

var faultCases = []testCase{
	{"Fault/StepFails", "After an error the events that were not delivered are delivered again, after a pause, until that succeeds", failing(Fail)},
	{"Fault/AnswerIsLost", "What may have been delivered before the error is delivered again, so delivering twice should be harmless.", failing(LoseAnswer)},
	{"Fault/Crash", "A crash may come between the save and the call: the next Open has the same in [Opening].Saved, and does what is left.", func(t *trial) {
		t.atEachStep(Crash, func(s *stream, d rigatoni.Destination, reached func() bool, _ func()) {
			err := s.workWith(d, reached)
			if err != nil && !reached() {
				t.fatalf("without a fault: %v", err)
			}
		})
	}},
	{"Fault/CrashOfTheNext", "A crash may come between the save and the call: the next Open has the same in [Opening].Saved, and does what is left.", func(t *trial) {
		t.atEachStep(Crash, func(s *stream, d rigatoni.Destination, reached func() bool, _ func()) {
			first := s.own()
			if err := first.open(); err != nil {
				t.fatalf("%v", err)
			}
			if err := first.deliver(3); err != nil {
				t.fatalf("%v", err)
			}
			s.mustSave(first)
			if err := first.deliver(2); err != nil { // and is killed
				t.fatalf("%v", err)
			}
			first.abandon()
			_ = s.workWith(d, reached) // is killed, too
		})
	}},
	{"Fault/Freeze", "No two owners of a key have the same.", func(t *trial) {
		if !t.h.ExactlyOnce && !t.isTransactional() {
			t.skipf(lateEvents)
		}
		t.atEachStep(Freeze, func(s *stream, d rigatoni.Destination, reached func() bool, thaw func()) {
			frozen := s.freeze(d, reached)
			next := make(chan *owner, 1)
			go func() { next <- s.takeOver() }()
			var owner *owner
			select {
			case owner = <-next:
			case <-time.After(20 * time.Millisecond): // it waits for a lock of the frozen one
			}
			thaw()
			<-frozen
			if owner == nil {
				owner = <-next
			}
			if owner == nil {
				return // atEachStep has another one
			}
			err := owner.work(never)
			if err != nil && s.isCurrent(owner) { // what froze may have been an Acquire
				t.fatalf("the new owner, after the old one thawed: %v", err)
			}
		})
	}},
}

const lateEvents = "an old owner's late events may be there twice, since neither Harness.ExactlyOnce is set nor the sink Transactional"

// isTransactional reports whether the destination is a Checkpointer.
func (t *trial) isTransactional() bool {
	_, ok := rigatoni.As[rigatoni.Checkpointer](t.destination())
	return ok
}

// freeze has a process work until it freezes or comes to its end. The channel is closed
// when it has ended, which it does soon after it has thawed: it is not the owner any more.
func (s *stream) freeze(d rigatoni.Destination, reached func() bool) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.t.catch()
		o, err := s.take(d)
		if err != nil {
			return
		}
		o.once = true
		_ = o.work(func() bool { return !s.isCurrent(o) })
	}()
	for !reached() {
		select {
		case <-done:
			return done
		case <-time.After(time.Millisecond):
		}
	}
	return done
}

// takeOver makes another process the owner, which delivers some events. It returns nil if
// that does not work while the one before is frozen.
func (s *stream) takeOver() *owner {
	defer s.t.catch()
	o, err := s.take(s.t.destination())
	if err != nil {
		return nil
	}
	if o.open() == nil && o.delivered < len(s.events) && o.deliver(min(2, len(s.events)-o.delivered)) == nil {
		_ = o.save()
	}
	return o
}
