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

// SeedVar is the environment variable from which [Run] takes the random seed, to
// repeat a failure. Run prints the seed when a case fails.
const SeedVar = "STATETEST_SEED"

// A Harness gives access to the store under test. Only Open is required. A hook that
// is nil skips the cases that need it, by name.
type Harness struct {
	// Open opens the store. Every call returns another handle on the same data, as
	// another process would have. The suite closes it if it is an [io.Closer].
	Open func(ctx context.Context) (state.Store, error)

	// Volatile means that the data lives no longer than the handle. Then every call
	// of Open returns the same store, the suite doesn't reopen it, and it closes it
	// only in the cases about closing, which are the last ones.
	Volatile bool

	// Damage makes what is stored for key unreadable, as a bad disk, an editor or
	// another program would. Each call may do so in another way.
	Damage func(ctx context.Context, key string) error

	// Newer makes what is stored for key look as if a later version of the store
	// had written it.
	Newer func(ctx context.Context, key string) error

	// Expire makes the time to live of key's checkpoint expire now. It is nil for
	// stores whose checkpoints never expire.
	Expire func(ctx context.Context, key string) error

	// ExpireLease makes the lease on key expire, as if its owner had not renewed it.
	// If it is nil, the suite acquires a short lease and waits, or, if leases end
	// with their owner's process ([state.HeldError].Until is zero), closes the owner's
	// handle.
	ExpireLease func(ctx context.Context, key string) error

	// Break makes the store unreachable for every handle, and Restore ends that. Set
	// both or neither.
	Break   func(ctx context.Context) error
	Restore func(ctx context.Context) error

	// Stored counts everything that the store keeps (files, rows, keys of a server).
	// With it the suite tests whether a cleared key leaves anything behind.
	Stored func(ctx context.Context) (int, error)

	// Timeout limits a single call while the store is broken. The default is 30
	// seconds.
	Timeout time.Duration

	// Short shortens the random and the concurrent cases. Run sets it if the tests run
	// with -short.
	Short bool

	// Seed is the random seed. By default each run has a new one.
	Seed uint64
}

// Run runs every case as a subtest of t, each with a harness of its own, so that no
// case sees the data of another if newHarness makes new data. newHarness registers
// what it has to clean up with t.Cleanup.
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

// Check runs every case on one harness, one after the other, and reports the result
// of each. The error names the cases that failed, and is nil if none did.
//
// It is for a store that holds nothing of value, but changes no key that exists: its
// keys begin with "statetest-" and a random text, except for some that test unusual
// keys, such as "."; if the store has a checkpoint under one of those, Check returns
// an error and does nothing. At the end it removes its keys; [Report.Left] has those
// where that failed. A store that is no [state.Forgetter] keeps an epoch or a last
// sequence for some of them.
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
			return fmt.Errorf("statetest: the store has a checkpoint under the key %q, which the test needs; use a store without it", key)
		}
	}
	return nil
}

// complete fills in the defaults, and returns an error if something is missing.
func (h Harness) complete() (Harness, error) {
	switch {
	case h.Open == nil:
		return h, errors.New("statetest: Harness.Open is nil; set it to a function that opens the store")
	case (h.Break == nil) != (h.Restore == nil):
		return h, errors.New("statetest: only one of Harness.Break and Harness.Restore is set; set both or neither")
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
