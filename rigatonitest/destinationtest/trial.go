package destinationtest

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// caseLimit ends a case in which a call never returns.
const caseLimit = 5 * time.Minute

// A testCase enforces one rule.
type testCase struct {
	name string
	// rule is the sentence in the doc comments of package rigatoni; " … " stands for
	// what was left out.
	rule string
	run  func(t *trial)
}

// cases are all cases, in the order in which they run.
func cases() []testCase {
	var all []testCase
	for _, part := range [][]testCase{
		deliverCases, sessionCases, syncCases, concurrentCases, refusedCases, transactionCases, snapshotCases, sweepCases, faultCases, randomCases,
	} {
		all = append(all, part...)
	}
	return all
}

// A trial is one run of one case: what testing.T is to a test.
type trial struct {
	h    Harness
	ctx  context.Context
	rand *rand.Rand
	keys string // what its keys begin with

	streams int         // made
	store   state.Store // see checkpoints

	mu      sync.Mutex
	owners  []*owner
	opened  []rigatoni.Destination
	failed  bool
	skipped bool
	detail  []string
}

// try runs the case, and closes what it has opened.
func (c testCase) try(ctx context.Context, h Harness) Result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, caseLimit)
	defer cancel()
	name := fnv.New64a()
	_, _ = io.WriteString(name, c.name) // a hash never fails
	t := &trial{
		h: h, ctx: ctx, rand: rand.New(rand.NewPCG(h.Seed, name.Sum64())),
		keys: "destinationtest-" + strconv.FormatUint(rand.Uint64(), 36) + "-",
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.catch()
		defer t.closeAll()
		c.run(t)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.note(true, "a call has not returned, though its context ended: %v", context.Cause(ctx))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Result{Name: c.name, Rule: c.rule, Status: Passed, Detail: strings.Join(t.detail, "\n"), Took: time.Since(began)}
	switch {
	case t.failed:
		r.Status = Failed
	case t.skipped:
		r.Status = Skipped
	}
	return r
}

func (t *trial) catch() {
	if p := recover(); p != nil {
		t.note(true, "panic: %v\n%s", p, debug.Stack())
	}
}

func (t *trial) note(failed bool, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.detail) < 20 {
		t.detail = append(t.detail, fmt.Sprintf(format, args...))
	}
	t.failed = t.failed || failed
}

// errorf records a failure and returns.
func (t *trial) errorf(format string, args ...any) { t.note(true, format, args...) }

// fatalf says what is wrong and ends the case; from the case's own goroutine.
func (t *trial) fatalf(format string, args ...any) {
	t.note(true, format, args...)
	runtime.Goexit()
}

// skipf ends the case for want of something.
func (t *trial) skipf(format string, args ...any) {
	t.mu.Lock()
	t.skipped = true
	t.mu.Unlock()
	t.note(false, format, args...)
	runtime.Goexit()
}

func (t *trial) hasFailed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// call makes one call of the destination, for as long as Harness.Timeout. One that does
// not return then is a failure.
func (t *trial) call(what string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.h.Timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				t.errorf("%s panics: %v\n%s", what, p, debug.Stack())
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- do(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		t.fatalf("%s has not returned after %v, five seconds after its context ended", what, t.h.Timeout)
		return nil
	}
}

// closeAll closes what is still open at the end.
func (t *trial) closeAll() {
	for _, o := range t.owners {
		_ = o.closeSink() // the case is over
	}
	for _, d := range t.opened {
		if c, ok := rigatoni.As[io.Closer](d); ok {
			_ = c.Close()
		}
	}
}

// own notes an owner whose sink is closed at the end.
func (t *trial) own(o *owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owners = append(t.owners, o)
}

// destination opens the destination, as another process would.
func (t *trial) destination() rigatoni.Destination {
	var d rigatoni.Destination
	err := t.call("Harness.Open", func(ctx context.Context) (err error) {
		d, err = t.h.Open(ctx)
		return err
	})
	if err != nil {
		t.fatalf("opening the destination: %v", err)
	}
	t.opens(d)
	return d
}

// opens notes a destination that is closed at the end.
func (t *trial) opens(d rigatoni.Destination) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, d)
}

// checkpoints is the store of a destination without faults.
func (t *trial) checkpoints() state.Store {
	if t.store == nil {
		c, _ := rigatoni.As[rigatoni.Checkpointer](t.destination())
		t.store = c.Checkpoints()
	}
	return t.store
}
