package rigatoni_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

var errTx = errors.New("the connection is lost")

// A txRig is a pipeline of a source into a database. Each call of DeliverAt goes
// through deliver, if there is one.
type txRig struct {
	t       *testing.T
	db      *rigatonitest.Database
	source  *rigatonitest.Source
	cfg     rigatoni.Config
	deliver func(c txCall) error

	mu      sync.Mutex
	calls   []txCall
	opened  int
	letters []rigatoni.DeadLetter
}

// A txCall is a call of DeliverAt.
type txCall struct {
	ctx    context.Context
	number int // from 1 on
	tx     rigatoni.Transactional
	batch  *rigatoni.Batch
	fence  state.Fence
	cp     state.Checkpoint
}

// do has the database execute the call.
func (c txCall) do() error { return c.tx.DeliverAt(c.ctx, c.batch, c.fence, c.cp) }

// late has the database execute the call after a time, and returns an error at once.
func (c txCall) late(after time.Duration) error {
	ctx := context.WithoutCancel(c.ctx)
	time.AfterFunc(after, func() { _ = c.tx.DeliverAt(ctx, c.batch, c.fence, c.cp) })
	return errTx
}

// newTxRig makes a rig whose source has this many events.
func newTxRig(t *testing.T, events int) *txRig {
	r := &txRig{t: t, db: rigatonitest.NewDatabase(), source: rigatonitest.NewSource()}
	for n := 1; n <= events; n++ {
		r.source.Append(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: n}, {Key: "n", Value: n}}))
	}
	r.cfg = rigatoni.Config{
		Name: "shop", Source: r.source, Destination: r, DeadLetters: r, RetryMin: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	return r
}

func (r *txRig) Checkpoints() state.Store { return r.db.Checkpoints() }

func (r *txRig) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s, err := r.db.Open(ctx, o)
	tx, _ := rigatoni.As[rigatoni.Transactional](s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened++
	return txRigSink{tx, r}, err
}

func (r *txRig) Put(_ context.Context, l rigatoni.DeadLetter) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letters = append(r.letters, l)
	return nil
}

type txRigSink struct {
	rigatoni.Transactional
	rig *txRig
}

func (s txRigSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	r := s.rig
	r.mu.Lock()
	c := txCall{ctx, len(r.calls) + 1, s.Transactional, b, f, cp}
	r.calls = append(r.calls, c)
	r.mu.Unlock()
	if r.deliver == nil {
		return c.do()
	}
	return r.deliver(c)
}

// run runs the pipeline to the end of its source and for a while after that.
func (r *txRig) run() error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Hour)
	defer cancel()
	return rigatoni.Run(ctx, r.cfg)
}

// want wants these events to be applied, and those to be dead letters.
func (r *txRig) want(applied, letters []int) {
	r.t.Helper()
	var got, dead []int
	for _, ev := range r.db.Events() {
		got = append(got, number(ev))
	}
	for _, l := range r.letters {
		dead = append(dead, number(l.Event))
	}
	if !slices.Equal(got, applied) || !slices.Equal(dead, letters) {
		r.t.Errorf("applied: %v, want %v; dead letters: %v, want %v", got, applied, dead, letters)
	}
}

// sizes are those of the batches of all calls.
func (r *txRig) sizes() (sizes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		sizes = append(sizes, len(c.batch.Events))
	}
	return sizes
}

// TestTransactionOutcomeBeforeDeadLetter: an event becomes a dead letter only once
// it is certain that no attempt has delivered it or will.
func TestTransactionOutcomeBeforeDeadLetter(t *testing.T) {
	for _, c := range []struct {
		name             string
		deliver          func(c txCall) error
		applied, letters []int
		attempts         int
	}{
		{"committed before the refusal", func(c txCall) error {
			if c.number == 1 {
				return c.late(1)
			}
			time.Sleep(time.Second)
			return rigatoni.Permanent(errTx)
		}, []int{1, 2}, nil, 0},
		{"committed by the last attempt", func(c txCall) error {
			if c.number == 2 {
				_ = c.do()
			}
			return errTx
		}, []int{1, 2}, nil, 0},
		{"too late", func(c txCall) error { return c.late(time.Minute) }, []int{2}, []int{1}, 2},
		{"refused at once", func(c txCall) error { return rigatoni.Permanent(errTx) }, []int{2}, []int{1}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTxRig(t, 2)
				r.cfg.MaxAttempts, r.cfg.MaxBatchEvents = 2, 1
				r.deliver = func(call txCall) error {
					if number(call.batch.Events[0]) == 2 {
						return call.do()
					}
					return c.deliver(call)
				}
				if err := r.run(); err != nil {
					t.Fatal(err)
				}
				r.want(c.applied, c.letters)
				if len(r.letters) > 0 && r.letters[0].Attempts != c.attempts {
					t.Errorf("after %d attempts, want %d", r.letters[0].Attempts, c.attempts)
				}
			})
		})
	}
}

// TestTransactionRefused: a batch that is refused is delivered event by event, under
// another fence, and only the event to blame becomes a dead letter.
func TestTransactionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTxRig(t, 5)
		r.deliver = func(c txCall) error {
			if slices.ContainsFunc(c.batch.Events, func(ev rigatoni.Event) bool { return number(ev) == 3 }) {
				return rigatoni.Permanent(errTx)
			}
			return c.do()
		}
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		r.want([]int{1, 2, 4, 5}, []int{3})
		if got, want := r.sizes(), []int{5, 1, 1, 1, 1, 1}; !slices.Equal(got, want) {
			t.Errorf("the batches had %v events, want %v", got, want)
		}
		if r.calls[0].fence == r.calls[1].fence {
			t.Error("the events are delivered one by one under the fence of the batch")
		}
	})
}

// TestTransactionFenced: a transaction that is fenced off has the lease acquired
// again, and makes no event a dead letter.
func TestTransactionFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTxRig(t, 3)
		r.cfg.MaxAttempts = 1
		r.deliver = func(c txCall) error {
			if c.number == 1 {
				store, _ := state.As[state.Leaser](r.db.Checkpoints())
				if _, err := store.Acquire(t.Context(), "shop", state.LeaseRequest{Nonce: state.NewNonce(), TTL: time.Minute, Steal: true}); err != nil {
					t.Error(err)
				}
			}
			return c.do()
		}
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		r.want([]int{1, 2, 3}, nil)
	})
}

// TestTransactionCheckpointRefused: an error about the checkpoint stops the pipeline
// and blames no event.
func TestTransactionCheckpointRefused(t *testing.T) {
	for _, final := range []error{state.ErrStale, state.ErrCorrupt, state.ErrNewer, state.ErrInvalid, state.ErrClosed} {
		synctest.Test(t, func(t *testing.T) {
			r := newTxRig(t, 3)
			r.cfg.MaxAttempts = 1
			r.deliver = func(txCall) error { return final }
			if err := r.run(); !errors.Is(err, final) {
				t.Errorf("%v: the pipeline returned %v", final, err)
			}
			r.want(nil, nil)
			if len(r.calls) != 1 {
				t.Errorf("%v: %d attempts", final, len(r.calls))
			}
		})
	}
}

// TestTransactionHasNoParts: what a sink reports before the end of a transaction
// delivers nothing.
func TestTransactionHasNoParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTxRig(t, 3)
		r.deliver = func(c txCall) error {
			c.batch.Done(2)
			switch c.number {
			case 1:
				time.Sleep(time.Minute) // an idle save is due
				return errTx
			case 2:
				return rigatoni.Partial(0, errTx)
			}
			return c.do()
		}
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		r.want([]int{1, 2, 3}, nil)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newTxRig(t, 3)
		r.deliver = func(txCall) error { return rigatoni.Partial(1, errTx) }
		if err := r.run(); err == nil || !strings.Contains(err.Error(), "the sink reports that it delivered 1 of 3 events") {
			t.Errorf("a part of a transaction: %v", err)
		}
		r.want(nil, nil)
	})
}

// TestTransactionTakesLong: nothing is saved, and nobody looks all the time whether
// something could be, while the outcome of a transaction is unknown.
func TestTransactionTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTxRig(t, 3)
		var before state.Checkpoint
		r.cfg.Transform = func(_ context.Context, ev rigatoni.Event) (rigatoni.Event, bool, error) {
			return ev, number(ev) != 1, nil // there is a position to save while 2 and 3 are in flight
		}
		r.cfg.IdleInterval, r.cfg.RetryMin, r.cfg.RetryMax, r.cfg.DeliverTimeout = time.Second, time.Minute, time.Minute, -1
		r.deliver = func(c txCall) error {
			cp, err := r.db.Checkpoints().Load(t.Context(), "shop")
			if c.number == 1 {
				before = cp
			}
			if err != nil || cp.Sequence != before.Sequence {
				t.Errorf("the checkpoint is %d, %v", cp.Sequence, err)
			}
			if c.number < 3 {
				time.Sleep(time.Minute)
				return errTx
			}
			return c.do()
		}
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		r.want([]int{2, 3}, nil)
	})
}

// TestTransactionAnswerLost: an attempt whose answer is lost is repeated as it was.
func TestTransactionAnswerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTxRig(t, 3)
		r.deliver = func(c txCall) error {
			if err := c.do(); err != nil {
				t.Error(err)
			}
			if c.number < 3 {
				return errTx
			}
			return nil
		}
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		r.want([]int{1, 2, 3}, nil)
		if first, last := r.calls[0].cp, r.calls[2].cp; first.Sequence == 0 || first.Sequence != last.Sequence || first.Token != last.Token {
			t.Errorf("the first attempt had sequence %d, the third %d", first.Sequence, last.Sequence)
		}
	})
}

// TestTransactionHangs: a DeliverAt that ignores its context ends the pipeline, with
// the lease or without it; what it does later is fenced off, or is the checkpoint.
func TestTransactionHangs(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newTxRig(t, 3)
			r.cfg.DeliverTimeout, r.cfg.GraceTime = time.Minute, time.Second
			var broken atomic.Bool // the store can't be reached to renew the lease
			broken.Store(lost)
			client := r.db.Client(func(s rigatonitest.Step) (f rigatonitest.Fault) {
				if s.Op == state.OpRenew && broken.Load() {
					f.Err = errTx
				}
				return f
			})
			r.cfg.Destination = otherCheckpoints{r, client}
			r.deliver = func(c txCall) error {
				if c.number == 1 {
					time.Sleep(10 * time.Minute)
					c.ctx = context.WithoutCancel(c.ctx)
				}
				return c.do()
			}
			if err := r.run(); !errors.Is(err, rigatoni.ErrDeliveryHung) {
				t.Errorf("the pipeline returned %v", err)
			}
			if sizes := r.sizes(); r.opened != 1 || len(sizes) != 1 {
				t.Errorf("%d sessions, with batches of %v", r.opened, sizes)
			}
			broken.Store(false)
			if err := r.run(); err != nil {
				t.Error(err)
			}
			r.want([]int{1, 2, 3}, nil)
		})
	}
}

// otherCheckpoints is a destination with the store of a client.
type otherCheckpoints struct {
	rigatoni.Destination
	client *rigatonitest.Client
}

func (o otherCheckpoints) Checkpoints() state.Store { return o.client.Checkpoints() }

// TestTransactionalNeedsCheckpointer: one without the other, or with what can't be, is
// refused.
func TestTransactionalNeedsCheckpointer(t *testing.T) {
	db := rigatonitest.NewDatabase()
	for name, c := range map[string]struct {
		change func(*rigatoni.Config)
		want   string
	}{
		"a sink alone": {func(c *rigatoni.Config) {
			c.Destination, c.Store = struct{ rigatoni.Destination }{db}, memstore.New()
		}, "is Transactional, but its destination"},
		"a destination alone": {func(c *rigatoni.Config) {
			c.Destination = otherCheckpoints{rigatoni.Func(rigatoni.Ignore), db.Client(nil)}
		}, "is a Checkpointer, but its sink"},
		"a store beside it": {func(c *rigatoni.Config) { c.Store = memstore.New() }, "Config.Store is set"},
		"no lease":          {func(c *rigatoni.Config) { c.LeaseTTL = -1 }, "need a lease"},
		"concurrency":       {func(c *rigatoni.Config) { c.Concurrency = 2 }, "in one transaction with its checkpoint; it takes 1"},
	} {
		cfg := rigatoni.Config{Name: "shop", Source: rigatonitest.NewSource(), Destination: db, Logger: slog.New(slog.DiscardHandler)}
		c.change(&cfg)
		if err := rigatoni.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
