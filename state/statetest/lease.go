package statetest

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// longLease doesn't expire while a case runs.
const longLease = time.Hour

// leaser finds the Leaser in a handle, or skips the case.
func (t *trial) leaser(h *handle) state.Leaser {
	return capability[state.Leaser](t, h, "state.Leaser")
}

// request asks for a long lease, with a nonce of its own.
func request(owner string) state.LeaseRequest {
	return state.LeaseRequest{Owner: owner, Nonce: rand.Text(), TTL: longLease}
}

// ask acquires with r, and notes the lease if it is granted.
func (t *trial) ask(h *handle, key string, r state.LeaseRequest) (state.Grant, error) {
	g, err := t.leaser(h).Acquire(t.ctx, key, r)
	if err == nil {
		t.held(h, key, g.Fence)
	}
	return g, err
}

// acquire acquires a long lease that must be granted.
func (t *trial) acquire(h *handle, key, owner string) state.Grant {
	g, err := t.ask(h, key, request(owner))
	if err != nil {
		t.fatalf("Acquire(%.60q) by %q: %v, want success", key, owner, err)
	}
	return g
}

// release releases a lease that is held.
func (t *trial) release(h *handle, key string, f state.Fence) {
	if err := t.leaser(h).Release(t.ctx, key, f); err != nil {
		t.fatalf("Release(%.60q): %v, want success", key, err)
	}
}

// saveFenced saves what must be taken.
func (t *trial) saveFenced(h *handle, key string, f state.Fence, cp state.Checkpoint) {
	if err := t.leaser(h).SaveFenced(t.ctx, key, f, cp); err != nil {
		t.fatalf("SaveFenced(%.60q, sequence %d) by the owner: %v, want success", key, cp.Sequence, err)
	}
}

// endsWithProcess reports whether leases end with their owner's process.
func (t *trial) endsWithProcess() bool {
	key := t.key("until")
	a, b := t.open(), t.open()
	g := t.acquire(a, key, "first")
	_, err := t.ask(b, key, request("second"))
	held, ok := errors.AsType[*state.HeldError](err)
	if !ok {
		t.fatalf("Acquire of a lease that is held: %v, want a *state.HeldError", err)
	}
	t.release(a, key, g.Fence)
	return held.Until.IsZero()
}

// canSteal reports whether the store takes a lease from a living holder.
func (t *trial) canSteal() bool {
	key := t.key("steal")
	a, b := t.open(), t.open()
	first := t.acquire(a, key, "first")
	r := request("thief")
	r.Steal = true
	stolen, err := t.ask(b, key, r)
	if err != nil {
		t.wantHeld(err, "first", "Acquire with Steal of a lease that is held, by a store that can't steal")
		t.release(a, key, first.Fence)
		return false
	}
	t.release(b, key, stolen.Fence)
	return true
}

// lapsed gives the fence of a lease that runs out, or has run out already; use
// t.once for what comes next. The handle that held it may be closed.
func (t *trial) lapsed(key, owner string, cps ...state.Checkpoint) (*handle, state.Fence) {
	h := t.open()
	g := t.acquire(h, key, owner)
	for _, cp := range cps {
		t.saveFenced(h, key, g.Fence, cp)
	}
	byClock := t.h.ExpireLease == nil && !t.endsWithProcess()
	switch {
	case t.h.ExpireLease != nil:
		if err := t.h.ExpireLease(t.ctx, key); err != nil {
			t.fatalf("Harness.ExpireLease: %v", err)
		}
	case byClock:
		if err := t.leaser(h).Renew(t.ctx, key, g.Fence, 50*time.Millisecond); err != nil {
			t.fatalf("Renew: %v", err)
		}
	case t.h.Volatile:
		t.skipf("leases end with their owner's process, which can't be tried in memory, and the harness has no ExpireLease")
	default:
		t.close(h)
	}
	return h, g.Fence
}

// once does what becomes possible when a lease has expired: it repeats do while
// the lease is still held.
func (t *trial) once(do func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := do()
		if !errors.Is(err, state.ErrLeaseHeld) || t.h.ExpireLease != nil || time.Now().After(deadline) || t.ctx.Err() != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond) // nothing signals that a lease expires
	}
}
