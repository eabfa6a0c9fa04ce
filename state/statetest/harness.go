package statetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// SeedVar is the environment variable from which [Run] takes the seed of all that
// is random, to repeat a failure. It prints the seed when something fails.
const SeedVar = "STATETEST_SEED"

// A Harness says how to get at the store under test. Only Open is required. A
// hook that is nil skips the cases that need it, by name.
type Harness struct {
	// Open opens the store. Every call gives another handle on the same data,
	// as another process would have one. The suite closes what can be closed.
	Open func(ctx context.Context) (state.Store, error)

	// Volatile says that the data lives no longer than the handle. Then every
	// call of Open returns the same store, nothing is reopened, and the suite
	// closes it only in the cases about closing, which come last.
	Volatile bool

	// Damage makes what is stored for key unreadable, as a bad disk, an editor or
	// another program would. Called several times, it may do so in several ways.
	Damage func(ctx context.Context, key string) error

	// Newer makes what is stored for key look as if a later version of the store
	// had written it.
	Newer func(ctx context.Context, key string) error

	// Expire lets the time to live of key's checkpoint run out, now. For stores
	// whose checkpoints never expire it is nil.
	Expire func(ctx context.Context, key string) error

	// ExpireLease lets the lease on key run out, as if its owner had not renewed
	// it for too long. If it is nil, the suite takes a short lease and waits, or, if
	// leases end with their owner's process ([state.HeldError].Until is zero),
	// closes the owner's handle.
	ExpireLease func(ctx context.Context, key string) error

	// Break makes the store unreachable for every handle, and Restore ends
	// that. Both or neither.
	Break   func(ctx context.Context) error
	Restore func(ctx context.Context) error

	// Stored counts what the store keeps at this moment (files, rows, keys of a
	// server), whatever it is for. With it the suite sees whether a cleared key
	// leaves something behind.
	Stored func(ctx context.Context) (int, error)

	// Timeout is the longest that a single call may take while the store is
	// broken. 0 means 30 seconds.
	Timeout time.Duration

	// Short makes the random and the concurrent cases shorter. Run sets it if
	// the tests run with -short.
	Short bool

	// Seed is for all that is random. 0 means a new one for each run.
	Seed uint64
}

// Run runs every case as a subtest of t, each with a harness of its own: data
// that one case leaves behind are never seen by another, provided that newHarness
// makes new ones. What newHarness needs to take down again belongs into
// t.Cleanup.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	seed, err := seedFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			h, err := newHarness(t).complete()
			if err != nil {
				t.Fatal(err)
			}
			h.Short = h.Short || testing.Short()
			if seed != 0 {
				h.Seed = seed
			}
			switch r := c.try(t.Context(), h); r.Status {
			case Failed:
				t.Errorf("%s\n%s=%d", r.text(), SeedVar, h.Seed)
			case Skipped:
				t.Skip(r.Detail)
			case Passed:
				if len(r.Left) != 0 {
					t.Logf("left behind: %q", r.Left)
				}
			}
		})
	}
}

// Check runs every case on one harness, one after the other, and reports on each.
// The error is nil if none failed; otherwise it names those that did.
//
// It is meant for a store that holds nothing of value. Of what is there already it
// touches nothing: its keys begin with "statetest-" and something random, but for a
// few that test how a store bears with strange ones ("." for one); if a
// checkpoint lies under one of those, Check says so and does nothing. Afterwards
// it takes its keys away; [Report.Left] has those where that failed. A store
// without [state.Forgetter] keeps an epoch or a last sequence for some.
func Check(ctx context.Context, h Harness) (Report, error) {
	h, err := h.complete()
	if err != nil {
		return Report{}, err
	}
	report := Report{Seed: h.Seed}
	if err := checkFree(ctx, h); err != nil {
		return report, err
	}
	for _, c := range cases() {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		r := c.try(ctx, h)
		report.Results = append(report.Results, r)
		report.Left = append(report.Left, r.Left...)
	}
	if failed := report.Failed(); len(failed) != 0 {
		names := make([]string, len(failed))
		for i, r := range failed {
			names[i] = r.Name
		}
		return report, fmt.Errorf("statetest: %d of %d cases failed: %s", len(failed), len(report.Results), strings.Join(names, ", "))
	}
	return report, nil
}

// checkFree refuses a store in which one of the strange keys is in use.
func checkFree(ctx context.Context, h Harness) (err error) {
	s, err := h.Open(ctx)
	if err != nil {
		return fmt.Errorf("statetest: opening the store: %w", err)
	}
	if !h.Volatile {
		defer func() { err = errors.Join(err, state.Close(s)) }()
	}
	for _, key := range strangeKeys() {
		if cp, err := s.Load(ctx, key); err == nil && !cp.Token.IsZero() {
			return fmt.Errorf("statetest: the store has a checkpoint under the key %q, which the test needs for itself: give it a store without", key)
		}
	}
	return nil
}

// complete fills in what was left zero, and says what is missing.
func (h Harness) complete() (Harness, error) {
	switch {
	case h.Open == nil:
		return h, errors.New("statetest: Harness.Open is nil: say how to open the store")
	case (h.Break == nil) != (h.Restore == nil):
		return h, errors.New("statetest: Harness.Break and Harness.Restore go together: set both or neither")
	}
	if h.Timeout <= 0 {
		h.Timeout = 30 * time.Second
	}
	if h.Seed == 0 {
		h.Seed = rand.Uint64N(1<<53) + 1
	}
	return h, nil
}

func seedFromEnv() (uint64, error) {
	text := os.Getenv(SeedVar)
	if text == "" {
		return 0, nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("statetest: %s=%q is not a number", SeedVar, text)
	}
	return seed, nil
}
