package statetest

import (
	"context"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

// TestReference runs everything on a store that is right. With every hook there
// is nothing to skip.
func TestReference(t *testing.T) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, err := newDisk(nil).harness().complete()
			if err != nil {
				t.Fatal(err)
			}
			h.Short = testing.Short()
			if r := c.try(t.Context(), h); r.Status != Passed || len(r.Left) != 0 {
				t.Errorf("%s (left: %q, seed %d)\n%s", r.Status, r.Left, h.Seed, r.text())
			}
		})
	}
}

// TestLeasesByTheClock has no hook for leases: the suite takes short ones and
// waits.
func TestLeasesByTheClock(t *testing.T) {
	Run(t, func(t *testing.T) Harness {
		h := newDisk(nil).harness()
		h.ExpireLease = nil
		return h
	})
}

// TestLeasesOfProcesses is the kind of store that holds a lock of the operating
// system: no time, no stealing, and nobody but the holding handle writes.
func TestLeasesOfProcesses(t *testing.T) {
	h := ownersHarness()
	report, err := Check(t.Context(), h)
	if err != nil {
		t.Errorf("%v\n%s", err, report)
	}
	skipped := map[string]bool{"Acquire/Until": true, "Acquire/Steal": true, "Renew/Extends": true, "Renew/AfterExpiry": true, "Concurrent/Leases": true}
	for _, r := range report.Results {
		if (r.Status == Skipped) != skipped[r.Name] {
			t.Errorf("%s: %s %s", r.Name, r.Status, r.Detail)
		}
	}
}

func ownersHarness() Harness {
	d := newDisk(nil)
	d.owners = true
	h := d.harness()
	h.ExpireLease = nil
	return h
}

// A three has the three methods and nothing more.
type three struct{ state.Store }

func TestThreeMethods(t *testing.T) {
	Run(t, func(t *testing.T) Harness {
		d := newDisk(nil)
		return Harness{Open: func(context.Context) (state.Store, error) { return three{d.open()}, nil }}
	})
}

// A wrapped passes everything on, through Unwrap alone.
type wrapped struct{ inner state.Store }

func (w wrapped) Unwrap() state.Store { return w.inner }
func (w wrapped) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return w.inner.Save(ctx, key, cp)
}
func (w wrapped) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	return w.inner.Load(ctx, key)
}
func (w wrapped) Clear(ctx context.Context, key string) error { return w.inner.Clear(ctx, key) }

// TestDecorated wants what a decorator passes on to be found and tested.
func TestDecorated(t *testing.T) {
	h := newDisk(nil).harness()
	open := h.Open
	h.Open = func(ctx context.Context) (state.Store, error) {
		s, err := open(ctx)
		return wrapped{s}, err
	}
	report, err := Check(t.Context(), h)
	if err != nil {
		t.Errorf("%v\n%s", err, report)
	}
	if skipped := report.Skipped(); len(skipped) != 0 {
		t.Errorf("skipped: %v", skipped)
	}
}
