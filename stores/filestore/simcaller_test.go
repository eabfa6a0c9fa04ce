package filestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A caller makes random calls to the stores of a history, for keys that nobody else
// calls for at the same time.
type caller struct {
	h    *history
	r    *rand.Rand
	keys []*simKey
}

// live is a history with one caller.
func (h *history) live(lives, steps int) {
	c := &caller{h, h.r, h.keys}
	for range lives {
		for range steps {
			c.step()
		}
		if h.failed.Load() > 0 {
			for _, k := range h.keys {
				c.heal(k)
			}
		}
		h.die()
	}
	h.shutDown()
}

// leaseMost takes leases on most keys, so that batches have more to save than a limit on
// open files would allow of others.
func (h *history) leaseMost() {
	c := &caller{h, h.r, h.keys}
	for i, k := range h.keys {
		if k.leased = i%4 > 0; k.leased {
			c.acquire(k)
		}
	}
}

// gather lets many callers at a time make some calls each.
func (h *history) gather(callers, steps int) {
	h.m.slow, h.gathered = time.Millisecond, true
	var wg sync.WaitGroup
	for i := range callers {
		c := &caller{h: h, r: rand.New(rand.NewPCG(h.r.Uint64(), 4))}
		for j := i; j < len(h.keys); j += callers {
			c.keys = append(c.keys, h.keys[j])
		}
		wg.Go(func() {
			for range steps {
				c.step()
			}
		})
	}
	wg.Wait()
	h.m.slow, h.gathered = 0, false
	if h.t.Failed() {
		h.t.FailNow()
	}
}

// step makes one random call.
func (c *caller) step() {
	k := c.keys[c.r.IntN(len(c.keys))]
	f := c.fence(k)
	n := c.r.IntN(100)
	if len(c.keys) > 5 && c.r.IntN(3) == 0 {
		n = 99
	}
	switch {
	case n < 45 && k.leased == (n < 40):
		cp, what := c.numbered()
		c.do(k, fmt.Sprintf("SaveFenced %s under %v", what, f), saving(f, cp), func(s *Store) error { return s.SaveFenced(ctx, k.name, f, cp) })
	case n < 45:
		cp, what := c.numbered()
		c.do(k, "Save "+what, saving(state.Fence{}, cp), func(s *Store) error { return s.Save(ctx, k.name, cp) })
	case n < 57 && (k.leased || n == 45):
		c.acquire(k)
	case n < 60:
		c.do(k, "Renew", renewing(f), func(s *Store) error { return s.Renew(ctx, k.name, f, time.Minute) })
	case n < 64:
		c.release(k, f)
	case n < 67:
		c.do(k, "Clear", clearing(state.Fence{}), func(s *Store) error { return s.Clear(ctx, k.name) })
	case n < 69:
		c.do(k, "ClearFenced", clearing(f), func(s *Store) error { return s.ClearFenced(ctx, k.name, f) })
	case n < 71:
		c.do(k, "Forget", vanishing, func(s *Store) error { return s.Forget(ctx, k.name) })
	case n < 74 && !c.h.crowd:
		c.reopen(k.store)
	case n < 78:
		c.load(k)
	case n < 80 && c.h.faults:
		c.h.failed.Add(1)
		c.h.m.spoil()
	case n < 82:
		time.Sleep(2 * checkEvery)
	case n < 84:
		c.removeFile(k)
	default:
		c.batch(k.store)
	}
}

// do makes a call, cuts the power at all its moments, and after it.
func (c *caller) do(k *simKey, what string, e effect, call func(*Store) error) error {
	c.h.begin(k, e)
	c.arm()
	err := call(c.h.stores[k.store])
	c.h.end(k, what, e, err)
	c.settle(what)
	return err
}

// arm makes a call fail that comes soon, now and then.
func (c *caller) arm() {
	if c.h.crowd || !c.h.faults {
		return
	}
	switch c.r.IntN(12) {
	case 0, 1:
		c.h.failIn, c.h.failFor, c.h.failSync = c.r.IntN(12), 1<<c.r.IntN(3), false
	case 2:
		c.h.failIn, c.h.failFor, c.h.failSync = c.r.IntN(2), 1, true
	}
}

// settle looks at the crashes during the last call, and at those right after it.
func (c *caller) settle(what string) {
	c.h.m.mu.Lock()
	c.h.failFor = 0
	if c.h.m.r.IntN(c.h.rarely) == 0 {
		c.h.crash("after " + what)
	}
	c.h.m.mu.Unlock()
	if !c.h.crowd {
		c.h.checkCrashes()
	}
}

// numbered returns a checkpoint that differs from all others.
func (c *caller) numbered() (cp state.Checkpoint, name string) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.n++
	size := c.r.IntN(400)
	switch c.r.IntN(12) {
	case 0:
		size = c.r.IntN(9000)
	case 1, 2:
		size = c.r.IntN(3500)
	}
	cp = numberedOf(c.h.t, c.h.n, size)
	if c.r.IntN(8) == 0 {
		cp.Extra = map[string]json.RawMessage{"gap": json.RawMessage(fmt.Sprintf(`{"n":%d}`, c.h.n))}
	}
	switch c.r.IntN(10) {
	case 0:
		cp.Sequence = 0
	case 1:
		cp.Sequence = uint64(1 + c.r.IntN(c.h.n)) // late, most likely
	}
	return cp, fmt.Sprint(c.h.n)
}

// fence is mostly the last fence of a key, sometimes one of before.
func (c *caller) fence(k *simKey) state.Fence {
	switch n := len(k.fences); {
	case n == 0:
		return state.Fence{Epoch: 1, Nonce: "nobody's"}
	case c.r.IntN(10) == 0:
		return k.fences[c.r.IntN(n)]
	default:
		return k.fences[n-1]
	}
}

func (c *caller) acquire(k *simKey) {
	q := state.LeaseRequest{Owner: "o", Nonce: fmt.Sprintf("nonce%d", len(k.fences)), TTL: time.Minute}
	if n := len(k.fences); n > 0 && c.r.IntN(4) == 0 {
		q.Nonce = k.fences[n-1].Nonce
	}
	before := slices.Clone(k.may)
	var g state.Grant
	err := c.do(k, "Acquire "+q.Nonce, acquiring(q), func(s *Store) (err error) {
		g, err = s.Acquire(ctx, k.name, q)
		return err
	})
	if err != nil {
		return
	}
	if !slices.ContainsFunc(before, func(r record.Record) bool {
		_, want, err := admitAcquire(r, q)
		return err == nil && want.Fence == g.Fence && want.Checkpoint.Equal(g.Checkpoint) && want.LastSequence == g.LastSequence && want.LoadErr == g.LoadErr
	}) {
		c.h.fail("granted %+v, of %s", g, briefs(before))
	}
	c.h.mu.Lock()
	k.may = slices.DeleteFunc(slices.Clone(k.may), func(r record.Record) bool {
		cp, _ := r.Load()
		return r.Fence() != g.Fence || !cp.Equal(g.Checkpoint) || r.LastSequence != g.LastSequence
	})
	c.h.mu.Unlock()
	k.fences = append(k.fences, g.Fence)
}

// release succeeds, too, where there is nothing to release. It says nothing of the disk
// then: what was read may be in the page cache alone.
func (c *caller) release(k *simKey, f state.Fence) {
	c.do(k, "Release", releasing(f), func(s *Store) error {
		c.h.mu.Lock()
		if slices.ContainsFunc(k.may, func(r record.Record) bool { return r.Fence() != f }) {
			k.next = append(k.next, k.may...)
		}
		c.h.mu.Unlock()
		return s.Release(ctx, k.name, f)
	})
}

func (c *caller) load(k *simKey) {
	c.arm()
	cp, err := c.h.stores[k.store].Load(ctx, k.name)
	c.settle("Load")
	if errors.Is(err, state.ErrUnavailable) && c.h.failed.Load() > 0 {
		return
	}
	if !slices.ContainsFunc(k.may, func(r record.Record) bool {
		want, wantErr := r.Load()
		return errors.Is(err, wantErr) && cp.Equal(want)
	}) {
		c.h.fail("lost: Load of %.9q says %d (%v), of %s", k.name, cp.Sequence, err, briefs(k.may))
	}
}

// removeFile is a person who removes a key's file, and says sync. A store that has its record in
// memory writes it again; another doesn't know that it was there.
func (c *caller) removeFile(k *simKey) {
	c.do(k, "rm", func(r record.Record) (record.Record, error) { return r, nil }, func(s *Store) error {
		c.h.mu.Lock()
		k.may = distinct(append(slices.Clone(k.may), record.Record{}))
		k.next = k.may
		c.h.mu.Unlock()
		c.h.m.mu.Lock()
		defer c.h.m.mu.Unlock()
		name := stem(k.name) + dataSuffix
		if c.h.m.dir.now[name] != nil {
			c.h.m.dir.do(simOp{take: name})
			c.h.m.dir.flush(c.h.m.dir.last())
		}
		return nil
	})
}

func (c *caller) reopen(i int) {
	c.h.mu.Lock()
	c.h.log = append(c.h.log, fmt.Sprintf("store %d is closed and opened", i))
	c.h.mu.Unlock()
	c.arm()
	if err := c.h.stores[i].Close(); err != nil && c.h.failed.Load() == 0 {
		c.h.fail("close: %v", err)
	}
	c.h.failFor = 0
	c.h.open(i)
	c.settle("Close and Open")
}

// batch saves most of the caller's keys that go by one store.
func (c *caller) batch(store int) {
	var items []state.Item
	var keys []*simKey
	for _, k := range c.keys {
		if k.store != store || c.r.IntN(16) == 0 {
			continue
		}
		var it state.Item
		it.Key = k.name
		it.Checkpoint, _ = c.numbered()
		if k.leased {
			it.Fence = c.fence(k)
		}
		c.h.begin(k, saving(it.Fence, it.Checkpoint))
		items, keys = append(items, it), append(keys, k)
	}
	c.arm()
	errs := state.SaveBatch(ctx, c.h.stores[store], items)
	for i, k := range keys {
		c.h.end(k, fmt.Sprintf("SaveBatch %d of %d", i+1, len(items)), saving(items[i].Fence, items[i].Checkpoint), errs[i])
	}
	c.settle("SaveBatch")
}

// heal wants the second call to succeed, whatever has failed before, once the disk is
// well.
func (c *caller) heal(k *simKey) {
	defer func(faults bool) { c.h.faults = faults }(c.h.faults)
	c.h.faults = false
	var err error
	for range 2 {
		cp, what := c.numbered()
		f := state.Fence{}
		if n := len(k.fences); n > 0 && k.leased {
			f = k.fences[n-1]
		}
		err = c.do(k, "once more, "+what, saving(f, cp), func(s *Store) error {
			if f.IsZero() {
				return s.Save(ctx, k.name, cp)
			}
			return s.SaveFenced(ctx, k.name, f, cp)
		})
		if !errors.Is(err, state.ErrUnavailable) {
			return
		}
	}
	c.h.fail("nothing fails any more, and still: %v", err)
}
