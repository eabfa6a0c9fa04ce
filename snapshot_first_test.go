package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A copy into a destination that may have documents already is one that delivers the changes of
// documents that it has not reached: a delete among them must not be lost.
func TestSnapshotAgain(t *testing.T) {
	bubble(t, "output that was accepted", func(t *testing.T) {
		r := newSnapRig(t, 2)
		db := rigatonitest.NewDatabase()
		r.cfg.Destination, r.cfg.Store = forgetful{db}, nil
		r.mustRun()
		store := db.Checkpoints()
		if err := store.Clear(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if err := store.Clear(t.Context(), rigatoni.LostKey("shop")); err != nil {
			t.Fatal(err)
		}
		var refused *rigatoni.FirstStartError
		if err := r.run(); !errors.As(err, &refused) || !errors.Is(err, rigatoni.ErrOutputExists) {
			t.Fatalf("a copy into output that exists: %v", err)
		}
		r.cfg.FirstStart.Accept = refused.Accept
		r.mustRun()
		if got := r.starts(); got != "now+copy now+copy+again" {
			t.Errorf("opened at %s", got)
		}
		cp, err := store.Load(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		if gaps, err := rigatoni.Gaps(cp); len(gaps) != 1 || err != nil || gaps[0].Policy != "accept-first-start: snapshot" || gaps[0].Healed.IsZero() {
			t.Errorf("the gaps are %+v, %v", gaps, err)
		}
	})
	bubble(t, "a store that forgets", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.cfg.Store = r.store
		r.mustRun()
		if got := r.starts(); got != "now+copy+again" {
			t.Errorf("opened at %s", got)
		}
	})
}

// forgetful is a database whose checkpoints are not taken for output.
type forgetful struct{ *rigatonitest.Database }

// A stream that continues other checkpoints of the pipeline also continues their copy.
func TestSnapshotOfASeed(t *testing.T) {
	for _, copying := range []bool{false, true} {
		for _, snapshot := range []string{"never", "initial"} {
			bubble(t, snapshot, func(t *testing.T) {
				r := newSnapRig(t, 0)
				r.source = rigatonitest.NewStreams("orders")
				r.source.Populate("shop.orders", doc(1, 0))
				pos, err := rigatoni.PositionAfter(rigatonitest.Insert("shop.users", doc(1, 1)))
				if err != nil {
					t.Fatal(err)
				}
				cp := state.Checkpoint{Token: pos.Token, ClusterTime: pos.ClusterTime, Fingerprint: "of all collections"}
				if copying {
					cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(underWay)}
				}
				if err := r.store.Save(t.Context(), "shop", cp); err != nil {
					t.Fatal(err)
				}
				r.cfg.Source, r.cfg.Snapshot = overlapping{r.source}, snapshot
				r.mustRun()
				want := "time"
				if copying {
					want = "time+copy+again"
				}
				if got := r.starts(); got != want {
					t.Errorf("opened at %s, want %s", got, want)
				}
			})
		}
	}
}

// overlapping is a source whose streams are part of every other.
type overlapping struct{ *rigatonitest.Source }

func (overlapping) Overlaps(context.Context, string) (func(string) rigatoni.Overlap, error) {
	return func(string) rigatoni.Overlap { return rigatoni.SameButCollections }, nil
}

// A checkpoint that is lost while a copy is under way leaves a note of that, and the first start that
// is accepted after it copies.
func TestSnapshotOfALostCheckpoint(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 20)
		r.cfg.MaxBatchEvents, r.cfg.MaxInFlightBytes = 1, 1
		losing := &losingStore{lasting: lasting{r.store}}
		r.cfg.Store = losing
		n := 0
		r.dest.deliver = func(context.Context, *rigatoni.Batch) error {
			if n++; n == 5 {
				losing.lost.Store(true)
				r.stop()
			}
			return nil
		}
		var lost *rigatoni.LostError
		if err := r.run(); !errors.As(err, &lost) {
			t.Fatal(err)
		}
		losing.lost.Store(false)
		if err := r.store.Clear(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		r.dest.deliver = nil
		r.dest.clear()
		r.cfg.Snapshot, r.cfg.FirstStart.Time, r.cfg.FirstStart.Accept = "never", lost.Checkpoint.ClusterTime, lost.Accept
		r.mustRun()
		if got := r.starts(); got != "now+copy time+copy+again" {
			t.Errorf("opened at %s", got)
		}
		if got := len(r.dest.delivered()); got != 20 {
			t.Errorf("%d documents are delivered, want 20", got)
		}
		r.wantLog(1, "its snapshot had not ended")
	})
}

// A losingStore loses its checkpoint.
type losingStore struct {
	lasting
	lost atomic.Bool
}

func (s *losingStore) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	if s.lost.Load() && key == "shop" {
		return state.Checkpoint{}, state.ErrNotFound
	}
	return s.lasting.Load(ctx, key)
}

// Check says what a start would do, and copies nothing.
func TestCheckStartOfASnapshot(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 3)
		check := func() rigatoni.StartCheck {
			p, err := rigatoni.New(r.cfg)
			if err != nil {
				t.Fatal(err)
			}
			return p.CheckStart(t.Context())[0]
		}
		if c := check(); c.Err != nil || c.Position.Snapshot == "" {
			t.Errorf("before the first start: %+v", c)
		}
		r.mustRun()
		if c := check(); c.Err != nil || c.Position.Snapshot != "" {
			t.Errorf("after it: %+v", c)
		}
		r.wantDelivered("read 1:0", "read 2:0", "read 3:0")
	})
}
