package statetest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// caseLimit ends a case in which a call never returns.
const caseLimit = 3 * time.Minute

// A testCase enforces one rule.
type testCase struct {
	name string
	// rule is the sentence in the doc comments of package state; " … " stands
	// for what was left out.
	rule string
	run  func(t *trial)
}

// cases are all cases, in the order in which they run: those that close a store
// last, because a volatile one is then gone.
func cases() []testCase {
	var all []testCase
	for _, part := range [][]testCase{
		loadCases, saveCases, keyCases, sequenceCases, clearCases, reopenCases,
		acquireCases, fenceCases, epochCases,
		listCases, batchCases, forgetCases, pingCases,
		contextCases, errorCases, damageCases, expiryCases, breakCases,
		concurrentCases, randomCases, closeCases,
	} {
		all = append(all, part...)
	}
	return all
}

// A trial is one run of one case: what testing.T is to a test.
type trial struct {
	h    Harness
	ctx  context.Context
	rand *rand.Rand // the case's own goroutine only
	keys string     // what its keys begin with

	mu      sync.Mutex
	first   *handle
	handles []*handle
	used    []string
	failed  bool
	skipped bool
	detail  []string
}

// A handle is an open store, and the leases that it holds.
type handle struct {
	state.Store
	leases []held // guarded by trial.mu, as is closed
	closed bool
}

// Unwrap lets state.As find what the store can.
func (h *handle) Unwrap() state.Store { return h.Store }

type held struct {
	key   string
	fence state.Fence
}

// try runs the case, and removes what it left in the store.
func (c testCase) try(ctx context.Context, h Harness) Result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, caseLimit)
	defer cancel()
	name := fnv.New64a()
	io.WriteString(name, c.name) // a hash never fails
	t := &trial{
		h:    h,
		ctx:  ctx,
		rand: rand.New(rand.NewPCG(h.Seed, name.Sum64())),
		keys: "statetest-" + strconv.FormatUint(rand.Uint64(), 36) + "-",
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.catch()
		c.run(t)
	}()
	r := Result{Name: c.name, Rule: c.rule}
	select {
	case <-done:
		r.Left = t.cleanUp()
	case <-ctx.Done():
		// A store that observes its context returns now, with the reason.
		select {
		case <-done:
			r.Left = t.cleanUp()
		case <-time.After(10 * time.Second):
			t.note(true, "a call has not returned, though its context ended: %v", context.Cause(ctx))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Status, r.Detail, r.Took = Passed, strings.Join(t.detail, "\n"), time.Since(began)
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
	if len(t.detail) == 20 {
		t.detail = append(t.detail, "(and more)")
	}
	if len(t.detail) < 20 {
		t.detail = append(t.detail, fmt.Sprintf(format, args...))
	}
	t.failed = t.failed || failed
}

// errorf records a failure and returns; any goroutine may call it.
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

// open gives another handle on the data.
func (t *trial) open() *handle {
	s, err := t.h.Open(t.ctx)
	if err != nil {
		t.fatalf("opening the store: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &handle{Store: s}
	t.handles = append(t.handles, h)
	return h
}

// store is the trial's first handle.
func (t *trial) store() *handle {
	if t.first == nil {
		t.first = t.open()
	}
	return t.first
}

// close closes a handle, as the end of its process would.
func (t *trial) close(h *handle) {
	t.mu.Lock()
	h.closed = true
	t.mu.Unlock()
	if err := state.Close(h); err != nil {
		t.errorf("Close: %v", err)
	}
}

// key is a key of this trial's own.
func (t *trial) key(name string) string { return t.use(t.keys + name) }

// use notes that the trial writes key.
func (t *trial) use(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = append(t.used, key)
	return key
}

// held notes a lease, to be released at the end.
func (t *trial) held(h *handle, key string, f state.Fence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.leases = append(h.leases, held{key, f})
}

// cleanUp releases leases, removes keys and closes handles. It returns the keys that
// it could not remove.
func (t *trial) cleanUp() (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), t.h.Timeout)
	defer cancel()
	t.mu.Lock()
	handles, used := t.handles, t.used
	t.mu.Unlock()
	if t.h.Volatile && slices.ContainsFunc(handles, func(h *handle) bool { return h.closed }) {
		return nil // with the handle, all is gone
	}
	i := slices.IndexFunc(handles, func(h *handle) bool { return !h.closed })
	if i < 0 {
		s, err := t.h.Open(ctx)
		if err != nil {
			return used
		}
		i, handles = len(handles), append(handles, &handle{Store: s})
	}
	for _, h := range handles {
		h.release(ctx, handles[i])
	}
	for _, key := range used {
		if remove(ctx, handles[i], key) != nil {
			left = append(left, key)
		}
	}
	if t.h.Volatile {
		return left
	}
	for _, h := range handles {
		if h.closed {
			continue
		}
		if err := state.Close(h); err != nil {
			t.errorf("Close: %v", err)
		}
	}
	return left
}

// release releases what h holds, through another handle if h is closed. What
// can't be released can't be taken away either, and is named for that.
func (h *handle) release(ctx context.Context, other *handle) {
	through := h
	if h.closed {
		through = other
	}
	if l, ok := state.As[state.Leaser](through); ok {
		for _, lease := range h.leases {
			_ = l.Release(ctx, lease.key, lease.fence)
		}
	}
}

func remove(ctx context.Context, s state.Store, key string) error {
	err := state.Forget(ctx, s, key)
	if errors.Is(err, errors.ErrUnsupported) {
		err = s.Clear(ctx, key)
	}
	return err
}

// capability finds T in s, or skips the case.
func capability[T any](t *trial, s state.Store, name string) T {
	c, ok := state.As[T](s)
	if !ok {
		t.skipf("the store has no %s", name)
	}
	return c
}
