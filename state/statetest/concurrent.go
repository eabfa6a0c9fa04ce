package statetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

const concurrentRule = "All methods may be called concurrently, also for the same key; saves and clears of one key take effect one after the other, in some order."

var concurrentCases = []testCase{
	{"Concurrent/Sequenced", concurrentRule, concurrentSequenced},
	{"Concurrent/Unordered", concurrentRule, concurrentUnordered},
	{"Concurrent/NeverAMix", "If it fails, the key has the old checkpoint or the new one, never neither and never a mix.", concurrentNeverAMix},
	{"Concurrent/ManyKeys", concurrentRule, concurrentManyKeys},
	{"Concurrent/Clear", concurrentRule, concurrentClear},
	{"Concurrent/Leases", "Each grant has a Fence that no earlier grant had, and the store refuses every write under a fence that is not the current one.", concurrentLeases},
	{"Concurrent/OneOwner", "A Leaser grants one owner at a time the right to write a key.", concurrentOneOwner},
}

// size is full, or a part of it in short mode.
func (t *trial) size(full, short int) int {
	if t.h.Short {
		return short
	}
	return full
}

// crowd runs n goroutines, each with one of several handles and with random
// numbers of its own.
func (t *trial) crowd(n int, do func(i int, h *handle, r *rand.Rand)) {
	handles := []*handle{t.open(), t.open(), t.open()}
	var wg sync.WaitGroup
	for i := range n {
		r := rand.New(rand.NewPCG(t.rand.Uint64(), uint64(i)))
		wg.Go(func() {
			defer t.catch()
			do(i, handles[i%len(handles)], r)
		})
	}
	wg.Wait()
}

// load loads as part of a history; n is known by Extra.
func (t *trial) load(h *history, s state.Store, key string, want func(n uint64) state.Checkpoint) {
	h.record(func() (act, bool) {
		cp, err := s.Load(t.ctx, key)
		if errors.Is(err, state.ErrNotFound) {
			return act{kind: "load"}, true
		}
		if err != nil {
			t.errorf("Load: %v", err)
			return act{}, false
		}
		var n uint64
		if err := json.Unmarshal(cp.Extra["n"], &n); err != nil {
			t.errorf("Load: Extra is %s: %v", cp.Extra, err)
			return act{}, false
		}
		if d := differ(cp, want(n)); d != "" {
			t.errorf("Load gives the checkpoint with Extra %d, and not its other fields: %s", n, d)
		}
		return act{kind: "load", n: n}, true
	})
}

func concurrentSequenced(t *trial) {
	var h history
	var last atomic.Uint64
	key := t.key("k")
	want := func(n uint64) state.Checkpoint { return numbered(int(n), n) }
	t.crowd(6, func(_ int, s *handle, r *rand.Rand) {
		for range t.size(100, 25) {
			n := last.Add(1 + r.Uint64N(3))
			if r.IntN(3) == 0 {
				t.load(&h, s, key, want)
			}
			if r.IntN(4) == 0 {
				runtime.Gosched() // let others overtake
			}
			t.saveNumbered(&h, s, key, n)
			t.load(&h, s, key, want)
		}
	})
	t.load(&h, t.store(), key, want)
	t.judge(h.inOrder())
}

// saveNumbered saves with the sequence n as part of a history.
func (t *trial) saveNumbered(h *history, s state.Store, key string, n uint64) {
	h.record(func() (act, bool) {
		switch err := s.Save(t.ctx, key, numbered(int(n), n)); {
		case err == nil:
			return act{kind: "save", n: n}, true
		case errors.Is(err, state.ErrStale):
			return act{kind: "stale", n: n}, true
		default:
			t.errorf("Save: %v", err)
			return act{}, false
		}
	})
}

func (t *trial) judge(wrong []string) {
	for _, w := range wrong {
		t.errorf("what happened can't have happened in any order: %s", w)
	}
}

func concurrentUnordered(t *trial) {
	unordered(t, t.size(100, 25), func(n uint64) state.Checkpoint { return sample(int(n)) })
}

// concurrentNeverAMix saves checkpoints of very different sizes.
func concurrentNeverAMix(t *trial) {
	unordered(t, t.size(20, 8), func(n uint64) state.Checkpoint {
		cp := sample(int(n))
		cp.Token = bigToken(int(n), int(n%4)*2_500)
		return cp
	})
}

func unordered(t *trial, rounds int, sample func(n uint64) state.Checkpoint) {
	var h history
	var last atomic.Uint64
	key := t.key("k")
	t.crowd(6, func(_ int, s *handle, r *rand.Rand) {
		for range rounds {
			n := last.Add(1)
			h.record(func() (act, bool) {
				err := s.Save(t.ctx, key, sample(n))
				if err != nil {
					t.errorf("Save: %v", err)
				}
				return act{kind: "save", n: n}, err == nil
			})
			for range 1 + r.IntN(3) {
				t.load(&h, s, key, sample)
			}
		}
	})
	t.load(&h, t.store(), key, sample)
	t.judge(h.inSomeOrder())
}

func concurrentManyKeys(t *trial) {
	n := t.size(100, 20)
	t.crowd(8, func(i int, s *handle, _ *rand.Rand) {
		key := t.key(fmt.Sprint("k", i))
		for j := 1; j <= n; j++ {
			cp := numbered(1000*i+j, uint64(j))
			if err := s.Save(t.ctx, key, cp); err != nil {
				t.errorf("Save: %v", err)
				return
			}
			t.wantLoad(s, key, cp, 0)
		}
	})
	for i := range 8 {
		t.wantLoad(t.store(), t.keys+fmt.Sprint("k", i), numbered(1000*i+n, uint64(n)), 0)
	}
}

// concurrentClear has saves held up while others clear: what was cleared may
// come back only by a save with a later sequence.
func concurrentClear(t *trial) {
	var h history
	var last atomic.Uint64
	key := t.key("k")
	want := func(n uint64) state.Checkpoint { return numbered(int(n), n) }
	t.crowd(6, func(i int, s *handle, r *rand.Rand) {
		for range t.size(60, 20) {
			if i < 2 {
				h.record(func() (act, bool) {
					err := s.Clear(t.ctx, key)
					if err != nil {
						t.errorf("Clear: %v", err)
					}
					return act{kind: "clear"}, err == nil
				})
			} else {
				t.saveNumbered(&h, s, key, last.Add(1+r.Uint64N(2)))
			}
			t.load(&h, s, key, want)
		}
	})
	s := t.store()
	t.clear(s, key)
	var greatest uint64
	for _, a := range h.of("save") {
		greatest = max(greatest, a.n)
	}
	t.want(s.Save(t.ctx, key, numbered(1, greatest)), state.ErrStale, "Save with the greatest sequence that was accepted, after Clear")
	t.wantNone(s, key)
	t.judge(h.cleared())
}

// A reign is what one owner does between its grant and its end.
type reign struct {
	t       *trial
	h       *history
	key     string
	holders *atomic.Int32 // nil if leases may be stolen
}

// run waits for the lease, saves a few times, and gives it back.
func (g *reign) run(s *handle, r *rand.Rand) {
	t, l := g.t, g.t.leaser(s)
	grant, ok := g.wait(s, l, r)
	if !ok {
		return
	}
	if g.holders != nil && g.holders.Add(1) != 1 {
		t.errorf("two hold the lease at once")
	}
	n := grant.LastSequence
	for range 1 + r.IntN(4) {
		n++
		fenced := false
		g.h.record(func() (act, bool) {
			err := l.SaveFenced(t.ctx, g.key, grant.Fence, numbered(int(n), n))
			fenced = errors.Is(err, state.ErrFenced)
			if err != nil && (!fenced || g.holders != nil) {
				t.errorf("SaveFenced by the owner: %v", err)
			}
			return act{kind: "save", n: n, epoch: grant.Fence.Epoch}, err == nil
		})
		if fenced {
			break
		}
	}
	if g.holders != nil {
		g.holders.Add(-1)
	}
	if err := l.Release(t.ctx, g.key, grant.Fence); err != nil {
		t.errorf("Release: %v", err)
	}
}

// wait asks for the lease until it is granted.
func (g *reign) wait(s *handle, l state.Leaser, r *rand.Rand) (grant state.Grant, ok bool) {
	t, ask := g.t, request(fmt.Sprint("owner ", r.Uint32()))
	for deadline := time.Now().Add(t.h.Timeout); !ok; {
		var err error
		ask.Steal = g.holders == nil && r.IntN(3) == 0
		g.h.record(func() (act, bool) {
			grant, err = l.Acquire(t.ctx, g.key, ask)
			return act{kind: "grant", n: grant.LastSequence, epoch: grant.Fence.Epoch}, err == nil
		})
		switch {
		case err == nil:
			t.held(s, g.key, grant.Fence)
			if grant.Checkpoint.Sequence != grant.LastSequence {
				t.errorf("the grant has last sequence %d, and a checkpoint with %d", grant.LastSequence, grant.Checkpoint.Sequence)
			}
			return grant, true
		case !errors.Is(err, state.ErrLeaseHeld):
			t.errorf("Acquire: %v", err)
			return grant, false
		case time.Now().After(deadline):
			t.errorf("no grant in %v, though every owner gives the lease back at once: %v", t.h.Timeout, err)
			return grant, false
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
	}
	return grant, ok
}

// concurrentLeases has owners push each other aside, where the store can steal.
func concurrentLeases(t *trial) {
	t.leaser(t.store())
	if !t.canSteal() {
		t.skipf("the store can't steal; Concurrent/OneOwner looks at the rest")
	}
	var h history
	g := &reign{t: t, h: &h, key: t.key("k")}
	t.crowd(6, func(_ int, s *handle, r *rand.Rand) {
		for range t.size(20, 5) {
			g.run(s, r)
		}
	})
	t.judge(h.owned())
	t.judge(h.inOrder())
}

func concurrentOneOwner(t *trial) {
	t.leaser(t.store())
	var h history
	g := &reign{t: t, h: &h, key: t.key("k"), holders: new(atomic.Int32)}
	t.crowd(6, func(_ int, s *handle, r *rand.Rand) {
		for range t.size(12, 4) {
			g.run(s, r)
		}
	})
	t.judge(h.owned())
	t.judge(h.inOrder())
}
