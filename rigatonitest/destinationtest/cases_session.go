package destinationtest

import (
	"errors"
	"fmt"

	"github.com/rigatoni-etl/rigatoni"
)

var sessionCases = []testCase{
	{"Session/Idle", "A session lasts from there until the pipeline stops, loses its lease, or has to go back to its last checkpoint: then Open is called again.", func(t *trial) {
		s := t.stream(5)
		for range 3 { // sessions without an event
			o := s.own()
			if err := o.open(); err != nil {
				t.fatalf("a session without an event: %v", err)
			}
			s.mustSave(o)
			s.stop(o)
		}
		s.finish("after sessions without an event")
		for range 2 {
			o := s.own()
			if err := o.open(); err != nil {
				t.fatalf("a session after the last event: %v", err)
			}
			s.mustSave(o)
			s.stop(o)
			s.check("after a session without an event", true)
		}
		s.grow(t.rand, 4)
		s.finish("after events that followed sessions without one")
	}},
	{"Session/FollowsAnother", "Sessions of one stream follow one another", func(t *trial) {
		s := t.stream(0)
		d := t.destination()
		o, err := s.take(d)
		if err != nil {
			t.fatalf("acquiring the lease: %v", err)
		}
		for i := range 6 {
			s.grow(t.rand, 4)
			if i == 3 { // another process
				o = s.own()
			}
			if err := o.work(never); err != nil {
				t.fatalf("session %d: %v", i+1, err)
			}
			s.check(fmt.Sprintf("after session %d", i+1), true)
		}
	}},
	{"Session/CrashAtEachCall", "A crash may come between the save and the call: the next Open has the same in [Opening].Saved, and does what is left.", func(t *trial) {
		for calls := 0; ; calls++ {
			s := t.stream(8)
			if !s.crashAfter(calls) {
				break
			}
			when := fmt.Sprintf("after a crash after %d calls", calls)
			s.check(when, false)
			s.finish(when)
			if t.hasFailed() {
				return
			}
		}
	}},
	{"Session/GoesBack", "After an error the pipeline saves nothing and goes back to the last checkpoint: it opens destination and stream again, and redelivers what was delivered since.", func(t *trial) {
		s := t.stream(20)
		o := s.own()
		for o.delivered < len(s.events) {
			if err := o.open(); err != nil {
				t.fatalf("%v", err)
			}
			for range 2 {
				if err := o.deliver(min(2, len(s.events)-o.delivered)); err != nil {
					t.fatalf("%v", err)
				}
				if o.delivered == len(s.events) {
					break
				}
			}
			if t.rand.IntN(3) > 0 || o.delivered == len(s.events) {
				s.mustSave(o)
			} else if o.tx() == nil {
				t.note(false, "goes back from event %d to %d", o.delivered, s.last.covered)
			}
			if err := o.closeSink(); err != nil {
				t.fatalf("Close: %v", err)
			}
			if s.keeps {
				if err := o.acquire(); err != nil {
					t.fatalf("%v", err)
				}
			}
			o.delivered = o.begin().covered
			s.check(fmt.Sprintf("after a session whose checkpoint covers %d events", o.delivered), false)
		}
		s.check("at the end", true)
	}},
	{"Session/FirstStart", "A destination that has output of Key all the same refuses, with an [OutputError] of [ErrOutputExists], unless AcceptAnyOutput is set", func(t *trial) {
		if t.h.Forgets {
			t.skipf("Harness.Forgets: the destination can't know")
		}
		s := t.stream(5)
		s.finish("at the first start")
		o := s.own()
		at := o.opening()
		at.FirstStart, at.Saved = true, nil // the checkpoint is lost
		err := o.openAt(at)
		var refused *rigatoni.OutputError
		switch {
		case err == nil:
			t.fatalf("there is output and no checkpoint, and Open succeeds")
		case !errors.As(err, &refused) || !errors.Is(err, rigatoni.ErrOutputExists):
			t.fatalf("there is output and no checkpoint: got %v, want an OutputError of ErrOutputExists", err)
		case refused.Facts == "":
			t.errorf("the OutputError has no Facts: nobody can decide by it")
		}
		s.check("after a first start that was refused", true)
		at.AcceptAnyOutput = true
		if err := o.openAt(at); err != nil {
			t.errorf("with AcceptAnyOutput: %v", err)
		}
	}},
	{"Session/EpochGoesBack", "The epoch grows with each owner, except that it can go back where the store was restored from a backup, lost, or exchanged for another.", func(t *trial) {
		for _, epochs := range [][]uint64{{7, 3, 4}, {7, 7, 7}, {12, 2, 11, 1}} {
			s := t.stream(4 * len(epochs))
			for i, epoch := range epochs {
				var o *owner
				for range 2 { // the first one is killed at once
					s.epoch = epoch - 1 // of the one before
					if o = s.own(); s.keeps {
						t.skipf("the destination keeps the checkpoints itself")
					}
					if err := o.open(); err != nil {
						t.fatalf("an owner of epoch %d of %v: %v", epoch, epochs, err)
					}
				}
				for range 2 {
					if err := o.deliver(2); err != nil {
						t.fatalf("%v", err)
					}
					s.mustSave(o)
				}
				if i%2 == 0 {
					o.abandon()
				} else if err := o.closeSink(); err != nil {
					t.fatalf("Close: %v", err)
				}
				s.check(fmt.Sprintf("after the owner of epoch %d of %v", epoch, epochs), false)
			}
			s.finish(fmt.Sprintf("after the epochs %v", epochs))
		}
	}},
	{"Session/OldOwner", "No two owners of a key have the same.", func(t *trial) {
		if !t.h.ExactlyOnce && !t.isTransactional() {
			t.skipf(lateEvents)
		}
		for saved := range 5 {
			s := t.stream(12)
			old := s.own()
			if err := old.open(); err != nil {
				t.fatalf("%v", err)
			}
			for range saved {
				if err := old.deliver(1); err != nil {
					t.fatalf("%v", err)
				}
				s.mustSave(old)
			}
			if err := old.deliver(2); err != nil { // frozen after that
				t.fatalf("%v", err)
			}
			owner := s.own()
			if err := owner.open(); err != nil {
				t.fatalf("a new owner, while the old one is frozen: %v", err)
			}
			if err := owner.deliver(3); err != nil {
				t.fatalf("%v", err)
			}
			if err := old.deliver(2); err == nil { // it thaws
				_ = old.save()
			}
			_ = old.closeSink()
			if err := owner.work(never); err != nil {
				t.fatalf("the new owner, after the old one thawed: %v", err)
			}
			s.check("after an old owner thawed", true)
		}
	}},
}

// crashAfter makes calls of the destination, as a first owner does, and stops after n of
// them. It reports false if there are fewer.
func (s *stream) crashAfter(n int) bool {
	o := s.own()
	step := func() bool { n--; return n >= 0 }
	if !step() {
		return true
	}
	if err := o.open(); err != nil {
		s.t.fatalf("%v", err)
	}
	for o.delivered < len(s.events) {
		if !step() {
			return true
		}
		if err := o.deliver(min(batchSize, len(s.events)-o.delivered)); err != nil {
			s.t.fatalf("%v", err)
		}
		if !step() {
			return true
		}
		if crashed := s.saveUntil(o, step); crashed {
			return true
		}
	}
	o.abandon()
	return false
}

// saveUntil is save, with a crash between its calls.
func (s *stream) saveUntil(o *owner, step func() bool) (crashed bool) {
	y, ok := rigatoni.As[rigatoni.Syncer](o.sink)
	if !ok || o.tx() != nil {
		s.mustSave(o)
		return false
	}
	doc := s.sync(y)
	if !step() {
		return true
	}
	s.put(o, doc)
	if !step() {
		return true
	}
	if err := o.commit(doc); err != nil {
		s.t.fatalf("%v", err)
	}
	return false
}
