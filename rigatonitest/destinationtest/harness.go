package destinationtest

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

	"github.com/rigatoni-etl/rigatoni"
)

// SeedVar is the environment variable from which [Run] takes the random seed, to
// repeat a failure. Run prints the seed when a case fails.
const SeedVar = "DESTINATIONTEST_SEED"

// A Harness gives access to the destination under test. Open and Read are required. A
// hook that is nil skips the cases that need it, by name.
type Harness struct {
	// Open opens the destination. Every call returns another one on the same data, as
	// another process would have.
	Open func(ctx context.Context) (rigatoni.Destination, error)

	// Read returns what a reader of the destination finds of the stream with this
	// checkpoint key: a record for each event, in the order that readers see, or, with
	// Mirror, one for each document.
	Read func(ctx context.Context, key string) ([]Record, error)

	// Mirror means that the destination keeps the last state of each document rather
	// than the events.
	Mirror bool

	// ExactlyOnce means that readers see each event once, whatever happens. A
	// Transactional sink always claims it.
	ExactlyOnce bool

	// Forgets means that the destination can't compare its output with the checkpoint,
	// as a function or a pipe can't, and refuses no first start.
	Forgets bool

	// OpenFaulty opens the destination as Open does, as a process that has the fault.
	// reached reports whether it has come to its step. Steps are whatever the
	// destination does outside of its process: a write, a statement, a packet, a
	// commit. The suite begins with step 0 and ends when a step is not reached.
	OpenFaulty func(ctx context.Context, f Fault) (d rigatoni.Destination, reached func() bool, err error)

	// Refused returns an event with this _id that the destination refuses for good,
	// with [rigatoni.Permanent].
	Refused func(id int32) rigatoni.Event

	// Timeout limits a single call. The default is 30 seconds.
	Timeout time.Duration

	// Short shortens the random cases. Run sets it if the tests run with -short.
	Short bool

	// Seed is the random seed. By default each run has a new one.
	Seed uint64
}

// A Record is what a reader finds of an event, or, in a mirror, of a document.
type Record struct {
	ID int32 // the document's _id
	N  int32 // its field n; 0 for the delete of a document
}

// A Fault is what goes wrong at a step of the destination.
type Fault struct {
	Step int // from 0; steps are counted from OpenFaulty on
	Kind Kind
	// Thaw is closed when a Freeze ends.
	Thaw <-chan struct{}
}

// A Kind is a kind of fault.
type Kind int

const (
	// Fail: the step is not done, and reports an error. Later steps succeed.
	Fail Kind = iota
	// LoseAnswer: the step is done, and reports an error all the same. Where the
	// destination notices that at once (a write to a local file), it is Fail.
	LoseAnswer
	// Crash: the process dies before the step. It and all later ones fail and have no
	// effect, and what the process held (locks, connections) is released.
	Crash
	// Freeze: the step is done when Thaw is closed, and not before.
	Freeze
)

func (k Kind) String() string {
	return [...]string{"fails", "is done and its answer lost", "is where the process dies", "is where the process freezes"}[k]
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
			}
		})
	}
}

// Check runs every case on one harness, one after the other, and reports the result
// of each. The error names the cases that failed, and is nil if none did. The keys of
// its streams begin with "destinationtest-" and a random text; what it has written
// stays.
func Check(ctx context.Context, h Harness) (Report, error) {
	h, err := h.complete()
	if err != nil {
		return Report{}, err
	}
	report := Report{Seed: h.Seed}
	for _, c := range cases() {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		report.Results = append(report.Results, c.try(ctx, h))
	}
	failed := report.Failed()
	if len(failed) == 0 {
		return report, nil
	}
	names := make([]string, len(failed))
	for i, r := range failed {
		names[i] = r.Name
	}
	return report, fmt.Errorf("destinationtest: %d of %d cases failed: %s", len(failed), len(report.Results), strings.Join(names, ", "))
}

// complete fills in the defaults, and returns an error if something is missing.
func (h Harness) complete() (Harness, error) {
	switch {
	case h.Open == nil:
		return h, errors.New("destinationtest: Harness.Open is nil; set it to a function that opens the destination")
	case h.Read == nil:
		return h, errors.New("destinationtest: Harness.Read is nil; set it to a function that reads what was written")
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
		return 0, fmt.Errorf("destinationtest: %s=%q is not a number", SeedVar, text)
	}
	return seed, nil
}
