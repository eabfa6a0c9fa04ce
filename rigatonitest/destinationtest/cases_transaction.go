package destinationtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// transactional begins a session with a sink that is Transactional, or ends the case.
func (t *trial) transactional(n int) (*stream, *owner, rigatoni.Transactional) {
	s := t.stream(n)
	o := s.own()
	if err := o.open(); err != nil {
		t.fatalf("%v", err)
	}
	tx := o.tx()
	if tx == nil {
		t.skipf("%T is not rigatoni.Transactional", o.sink)
	}
	return s, o, tx
}

func (o *owner) must(n int) {
	if err := o.deliver(n); err != nil {
		o.s.t.fatalf("DeliverAt: %v", err)
	}
}

var transactionCases = []testCase{
	{"Transaction/Checkpointer", "Its [Destination] keeps the checkpoints: it is a [Checkpointer].", func(t *trial) {
		s, o, tx := t.transactional(1)
		if !s.keeps {
			t.fatalf("the sink (%T) is Transactional, but its destination (%T) is no Checkpointer", tx, o.d)
		}
		if _, ok := rigatoni.As[rigatoni.Syncer](o.sink); ok {
			t.note(false, "%T is a Syncer too; Sync is called before idle checkpoints", o.sink)
		}
	}},
	{"Transaction/Together", "A Transactional sink takes a batch and the checkpoint after it in one transaction, so that every event takes effect exactly once.", func(t *trial) {
		s, o, _ := t.transactional(30)
		for o.delivered < len(s.events) {
			o.must(min(1+t.rand.IntN(5), len(s.events)-o.delivered))
			if n := s.stored(); n != o.delivered {
				t.errorf("%d events are delivered, and the checkpoint covers %d", o.delivered, n)
			}
			s.check(fmt.Sprintf("after event %d", o.delivered), false)
		}
	}},
	{"Transaction/Repetition", "Where cp is a repetition (record.IsRepetition), an earlier attempt was committed although its answer was lost: DeliverAt then applies nothing and returns nil.", func(t *trial) {
		s, o, tx := t.transactional(6)
		o.must(2)
		b, cp := o.batch(3), o.checkpoint(s.events[4])
		for i := range 3 {
			if err := o.deliverAt(tx, b, cp); err != nil {
				t.fatalf("call %d with the same checkpoint: %v", i+1, err)
			}
			o.delivered = 2
			s.check(fmt.Sprintf("after %d calls with the same checkpoint", i+1), false)
		}
		o.delivered = 5
		if err := o.work(never); err != nil {
			t.fatalf("%v", err)
		}
		s.check("at the end", true)
	}},
	{"Transaction/Fenced", "it reads and locks the record of the checkpoint, admits cp under f as record.Admit does (an error of Admit ends the transaction, and is returned)", func(t *trial) {
		s, old, tx := t.transactional(10)
		old.must(2)
		owner := s.own()
		for _, o := range []takeover{{"before the new owner has delivered", 0}, {"after it has", 3}} {
			if o.n > 0 {
				if err := owner.open(); err != nil {
					t.fatalf("%v", err)
				}
				owner.must(o.n)
			}
			old.delivered = 2
			for _, ahead := range []uint64{0, 10} {
				cp := old.checkpoint(s.events[4])
				cp.Sequence += ahead
				if err := old.deliverAt(tx, old.batch(3), cp); !errors.Is(err, state.ErrFenced) {
					t.errorf("an old owner's DeliverAt, %s: got %v, want ErrFenced", o.when, err)
				}
				old.delivered = 2
			}
			s.check("after an old owner's DeliverAt, "+o.when, false)
		}
		if err := tx.DeliverAt(t.ctx, old.batch(3), state.Fence{}, old.checkpoint(s.events[4])); err == nil {
			t.errorf("DeliverAt without a fence succeeds")
		}
		s.check("after a DeliverAt without a fence", false)
	}},
	{"Transaction/Stale", "admits cp under f as record.Admit does (an error of Admit ends the transaction, and is returned)", func(t *trial) {
		s, o, tx := t.transactional(8)
		o.must(2)
		o.must(2)
		cp := o.checkpoint(s.events[5])
		for _, sequence := range []uint64{o.sequence, o.sequence - 1} {
			cp.Sequence = sequence
			if err := o.deliverAt(tx, o.batch(2), cp); !errors.Is(err, state.ErrStale) {
				t.errorf("another checkpoint with the sequence %d after %d: got %v, want ErrStale", sequence, o.sequence, err)
			}
			s.check("after a checkpoint whose sequence is not later", false)
		}
	}},
	{"Transaction/Race", "an error of Admit ends the transaction, and is returned", func(t *trial) {
		rounds := 30
		if t.h.Short {
			rounds = 5
		}
		s, _, _ := t.transactional(4 * rounds)
		for range rounds {
			old := s.own()
			if err := old.open(); err != nil {
				t.fatalf("%v", err)
			}
			n := min(4, len(s.events)-old.delivered)
			if n == 0 {
				break
			}
			b, cp := old.batch(n), old.checkpoint(s.events[old.delivered+n-1])
			var wg sync.WaitGroup
			wg.Go(func() { _ = old.tx().DeliverAt(t.ctx, b, old.fence, cp) }) // done or fenced off
			owner := s.own()
			wg.Wait()
			if owner.open() == nil && owner.delivered < len(s.events) {
				owner.must(1)
			}
			s.check("after a transaction while another owner took over", false)
			if t.hasFailed() {
				return
			}
		}
		s.finish("at the end")
	}},
	{"Transaction/Refused", "An error that is [Permanent] says that nothing of this attempt took effect.", func(t *trial) {
		if t.h.Refused == nil {
			t.skipf("Harness.Refused is nil")
		}
		s, o, tx := t.transactional(3)
		b := o.batch(3)
		b.Events = append(b.Events[:2:2], t.h.Refused(99))
		err := t.call("DeliverAt", func(ctx context.Context) error { return tx.DeliverAt(ctx, b, o.fence, o.checkpoint(s.events[2])) })
		if !isPermanent(err) {
			t.errorf("got %v, want a rigatoni.Permanent error", err)
		}
		s.check("after a transaction with an event that is refused", false)
		if err := o.work(never); err != nil {
			t.fatalf("%v", err)
		}
		s.check("at the end", true)
	}},
}

type takeover struct {
	when string
	n    int
}
