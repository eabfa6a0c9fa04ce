package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// sweeping has the rig's sink sweep with a function.
func (r *snapRig) sweeping(sweep func(ctx context.Context, end rigatoni.SnapshotEnd) error) {
	r.cfg.Destination = sweepingSink{r.dest, sweep}
}

func TestSweep(t *testing.T) {
	bubble(t, "after all documents of the collection, and before anything later", func(t *testing.T) {
		for _, n := range []int{1, 8} {
			r := newSnapRig(t, 5)
			r.source.Populate("shop.users", doc(1, 1))
			r.source.Append(rigatonitest.Insert("shop.new", doc(9, 1)))
			r.dest.deliver = func(context.Context, *rigatoni.Batch) error { time.Sleep(time.Millisecond); return nil }
			var began []rigatoni.SnapshotEnd
			r.sweeping(func(_ context.Context, end rigatoni.SnapshotEnd) error { began = append(began, end); return nil })
			if n > 1 {
				r.cfg.Concurrency, r.cfg.Destination = n, concurrentSweeper{r.cfg.Destination.(sweepingSink)}
			}
			r.mustRun()
			got := r.dest.delivered()
			sweep := slices.Index(got, "sweep shop.orders")
			if slices.Sort(got[:sweep]); sweep != 6 || !slices.Equal(got[:sweep], []string{"insert 9:1", "read 1:0", "read 2:0", "read 3:0", "read 4:0", "read 5:0"}) {
				t.Errorf("with %d lanes: %q", n, got)
			}
			if got[7] != "read 1:1" || got[8] != "sweep shop.users" {
				t.Errorf("with %d lanes: %q", n, got)
			}
			for _, e := range began {
				if first, _ := r.dest.events[0].Token(); n == 1 && e.Began != first {
					t.Errorf("the copy of %v began at %v, want %v", e.Namespace, e.Began, first)
				}
			}
			r.wantNoCopy()
		}
	})
	bubble(t, "an error is retried, and the checkpoint waits", func(t *testing.T) {
		r := newSnapRig(t, 2)
		tries := 0
		r.sweeping(func(ctx context.Context, _ rigatoni.SnapshotEnd) error {
			if tries++; tries != rigatoni.Attempt(ctx) {
				t.Errorf("attempt %d is number %d", tries, rigatoni.Attempt(ctx))
			}
			time.Sleep(3 * time.Second)
			if len(r.saved().Extra[rigatoni.ExtraSnapshot]) == 0 {
				t.Error("the checkpoint no longer has the copy, and the sweep is not done")
			}
			if tries < 4 {
				return errors.New("the table is locked")
			}
			return nil
		})
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "sweep shop.orders")
		r.wantNoCopy()
		r.wantLog(2, "level=WARN", "delivery failed; retrying", "the sweep after the copy failed", "shop.orders") // the 1st and the 2nd
		r.wantLog(1, "level=INFO", "attempts=4", "namespace=shop.orders")
	})
	bubble(t, "a refused sweep stops the pipeline, dead letters or not", func(t *testing.T) {
		for _, c := range []struct {
			attempts int
			err      error
			want     string
		}{
			{0, rigatoni.Permanent(errors.New("no right to delete")), "no right to delete"},
			{3, errors.New("the table is locked"), "in 3 attempts"},
		} {
			r := newSnapRig(t, 2)
			r.cfg.MaxAttempts = c.attempts
			r.cfg.DeadLetters = refusingLetters{t}
			r.sweeping(func(context.Context, rigatoni.SnapshotEnd) error { return c.err })
			err := r.run()
			var refused *rigatoni.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "shop.orders") {
				t.Errorf("got %v", err)
			}
			if len(r.saved().Extra[rigatoni.ExtraSnapshot]) == 0 {
				t.Error("the checkpoint no longer has the copy, and the sweep is not done")
			}
			r.wantDelivered("read 1:0", "read 2:0")

			r.sweeping(nil) // it is mended
			r.mustRun()
			r.wantDelivered("read 1:0", "read 2:0", "sweep shop.orders")
			r.wantNoCopy()
		}
	})
	bubble(t, "a crash after it repeats it", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.sweeping(func(context.Context, rigatoni.SnapshotEnd) error { return nil })
		away := awayStore{Store: r.store, away: new(atomic.Bool)}
		r.cfg.Store, r.cfg.LeaseTTL = away, -1
		r.sweeping(func(context.Context, rigatoni.SnapshotEnd) error {
			time.Sleep(2 * time.Second)
			away.away.Store(true)
			return nil
		})
		if err := r.run(); !errors.Is(err, rigatoni.ErrUnsaved) {
			t.Fatal(err)
		}
		away.away.Store(false)
		r.sweeping(nil)
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "sweep shop.orders", "sweep shop.orders")
		r.wantNoCopy()
	})
	bubble(t, "one that hangs stops the pipeline, and nothing runs beside it", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.cfg.DeliverTimeout, r.cfg.GraceTime = 2*time.Second, time.Second
		r.source.Append(rigatonitest.Insert("shop.new", doc(1, 1)))
		release := make(chan struct{})
		s := &syncingSweeper{sweepingSink: sweepingSink{r.dest, nil}}
		s.sweep = func(context.Context, rigatoni.SnapshotEnd) error { <-release; return nil }
		r.cfg.Destination = s
		if err := r.run(); !errors.Is(err, rigatoni.ErrDeliveryHung) {
			t.Error(err)
		}
		r.wantDelivered("read 1:0", "read 2:0")
		if s.closed.Load() {
			t.Error("the sink is closed while a sweep runs")
		}
		if s.beside.Load() {
			t.Error("Sync was called beside a sweep")
		}
		close(release)
	})
	bubble(t, "Sync is not called beside it", func(t *testing.T) {
		r := newSnapRig(t, 2)
		s := &syncingSweeper{sweepingSink: sweepingSink{r.dest, nil}}
		s.sweep = func(context.Context, rigatoni.SnapshotEnd) error { time.Sleep(10 * time.Second); return nil }
		r.cfg.Destination = s
		r.mustRun()
		if s.beside.Load() || s.syncs.Load() == 0 {
			t.Errorf("Sync was called %d times, beside a sweep: %v", s.syncs.Load(), s.beside.Load())
		}
	})
	bubble(t, "a slow one is cut off and tried again", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.cfg.DeliverTimeout = 2 * time.Second
		left := 5
		r.sweeping(func(ctx context.Context, _ rigatoni.SnapshotEnd) error {
			for ; left > 0; left-- {
				select {
				case <-time.After(900 * time.Millisecond):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "sweep shop.orders")
		r.wantLog(2, "delivery failed; retrying", "no progress for 2s")
	})
	bubble(t, "found through a decorator", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.sweeping(nil)
		r.cfg.Destination = wrapping{r.cfg.Destination}
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "sweep shop.orders")
	})
	bubble(t, "a panic is an error", func(t *testing.T) {
		r := newSnapRig(t, 2)
		n := 0
		r.sweeping(func(context.Context, rigatoni.SnapshotEnd) error {
			if n++; n == 1 {
				panic("oops")
			}
			return nil
		})
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "sweep shop.orders")
		r.wantLog(1, "panic: oops")
	})
	bubble(t, "the destination is closed", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.sweeping(func(context.Context, rigatoni.SnapshotEnd) error {
			return fmt.Errorf("%w: gone", rigatoni.ErrDestinationClosed)
		})
		if err := r.run(); !errors.Is(err, rigatoni.ErrDestinationClosed) {
			t.Error(err)
		}
	})
}

// A sweep into a transactional sink is made under the fence: an old owner's changes nothing, and
// the pipeline acquires the lease again.
func TestSweepIsFenced(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 2)
		db := rigatonitest.NewDatabase()
		stolen := false
		client := db.Client(func(s rigatonitest.Step) rigatonitest.Fault {
			if s.Sweep && s.Point == rigatonitest.Began && !stolen {
				stolen = true
				store, _ := state.As[state.Leaser](db.Checkpoints())
				if _, err := store.Acquire(context.Background(), "shop", state.LeaseRequest{Owner: "thief", Nonce: state.NewNonce(), TTL: time.Second, Steal: true}); err != nil {
					t.Error(err)
				}
			}
			return rigatonitest.Fault{}
		})
		r.cfg.Destination, r.cfg.Store, r.cfg.LeaseWait = client, nil, time.Minute
		if err := r.runFor(5 * time.Minute); err != nil {
			t.Fatal(err)
		}
		if got := len(db.Sweeps()); got != 1 || !stolen {
			t.Errorf("%d sweeps, want that of the second lease", got)
		}
		if got := len(db.Events()); got != 2 {
			t.Errorf("%d events are applied, want 2", got)
		}
		r.wantLog(1, "lease lost; acquiring it again")
		cp, err := db.Checkpoints().Load(t.Context(), "shop")
		if err != nil || len(cp.Extra) != 0 {
			t.Errorf("the checkpoint has %v, %v", cp.Extra, err)
		}
	})
}

// After the last sweep no transaction may follow for long. That the copy has ended is saved
// and logged all the same, also by a session that had nothing to do but the sweep.
func TestTheEndOfACopyIsSavedSoon(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		bubble(t, fmt.Sprint("interrupted ", interrupted), func(t *testing.T) {
			r := newSnapRig(t, 3)
			db := rigatonitest.NewDatabase()
			fails := interrupted
			r.cfg.Destination, r.cfg.Store, r.cfg.IdleInterval = db.Client(func(s rigatonitest.Step) rigatonitest.Fault {
				if s.Sweep && fails {
					return rigatonitest.Fault{Err: fmt.Errorf("%w: gone", rigatoni.ErrDestinationClosed)}
				}
				return rigatonitest.Fault{}
			}), nil, time.Hour
			if interrupted {
				if err := r.run(); !errors.Is(err, rigatoni.ErrDestinationClosed) {
					t.Fatal(err)
				}
				if cp, err := db.Checkpoints().Load(t.Context(), "shop"); err != nil || len(cp.Extra) == 0 {
					t.Fatalf("before the sweep the checkpoint has %v, %v", cp.Extra, err)
				}
				fails = false
			}
			r.start()
			time.Sleep(5 * time.Second)
			if cp, err := db.Checkpoints().Load(t.Context(), "shop"); err != nil || len(db.Sweeps()) != 1 || len(cp.Extra) != 0 {
				t.Errorf("after %d sweeps the checkpoint has %v, %v", len(db.Sweeps()), cp.Extra, err)
			}
			r.wantLog(1, "snapshot ended")
			r.stop()
			if err := <-r.ended; err != nil {
				t.Fatal(err)
			}
		})
	}
}

type concurrentSweeper struct{ sweepingSink }

func (s concurrentSweeper) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	_, err := s.snapSink.Open(ctx, o)
	return s, err
}

func (concurrentSweeper) Concurrent() bool { return true }

// A syncingSweeper is a Syncer, and notices calls beside a sweep.
type syncingSweeper struct {
	sweepingSink
	sweeps, beside, closed atomic.Bool
	syncs                  atomic.Int32
}

func (s *syncingSweeper) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	_, err := s.snapSink.Open(ctx, o)
	return s, err
}

func (s *syncingSweeper) Sweep(ctx context.Context, end rigatoni.SnapshotEnd) error {
	s.sweeps.Store(true)
	defer s.sweeps.Store(false)
	return s.sweepingSink.Sweep(ctx, end)
}

func (s *syncingSweeper) Sync(context.Context) (json.RawMessage, error) {
	s.syncs.Add(1)
	if s.sweeps.Load() {
		s.beside.Store(true)
	}
	return nil, nil
}

func (s *syncingSweeper) Close() error { s.closed.Store(true); return nil }

var _ io.Closer = (*syncingSweeper)(nil)

// refusingLetters fails the test if something becomes a dead letter.
type refusingLetters struct{ t *testing.T }

func (l refusingLetters) Put(_ context.Context, d rigatoni.DeadLetter) error {
	l.t.Errorf("a dead letter: %v", d.Event.Raw)
	return nil
}

// An awayStore can be away.
type awayStore struct {
	state.Store
	away *atomic.Bool
}

func (s awayStore) Volatile() bool { return false }

func (s awayStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	if s.away.Load() {
		return state.ErrUnavailable
	}
	return s.Store.Save(ctx, key, cp)
}

// wrapping decorates a destination and its sinks.
type wrapping struct{ rigatoni.Destination }

func (w wrapping) Unwrap() rigatoni.Destination { return w.Destination }

func (w wrapping) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s, err := w.Destination.Open(ctx, o)
	return wrappingSink{s}, err
}

type wrappingSink struct{ sink rigatoni.Sink }

func (w wrappingSink) Unwrap() rigatoni.Sink { return w.sink }

func (w wrappingSink) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	return w.sink.Deliver(ctx, b)
}
