package statetest

import "github.com/rigatoni-etl/rigatoni/state"

const epochRule = "Acquire grants the lease on key, with a fence whose epoch is greater than every earlier one: release, expiry, clear and restart never lower it."

var epochCases = []testCase{
	{"Epoch/GrowsThroughRelease", epochRule, epochGrows(func(t *trial, s *handle, key string, g state.Grant) {
		t.release(s, key, g.Fence)
	})},
	{"Epoch/GrowsThroughClear", epochRule, epochGrows(func(t *trial, s *handle, key string, g state.Grant) {
		t.saveFenced(s, key, g.Fence, sample(1))
		t.release(s, key, g.Fence)
		t.clear(s, key)
		t.clear(s, key)
	})},
	{"Epoch/GrowsThroughClearFenced", epochRule, epochGrows(func(t *trial, s *handle, key string, g state.Grant) {
		t.saveFenced(s, key, g.Fence, sample(1))
		if err := t.leaser(s).ClearFenced(t.ctx, key, g.Fence); err != nil {
			t.fatalf("ClearFenced: %v", err)
		}
		t.release(s, key, g.Fence)
	})},
	{"Epoch/GrowsThroughSaves", epochRule, epochGrows(func(t *trial, s *handle, key string, g state.Grant) {
		t.saveFenced(s, key, g.Fence, sample(1))
		t.release(s, key, g.Fence)
		t.save(s, key, sample(2))
		t.save(s, key, sample(3))
	})},
	{"Epoch/GrowsThroughExpiry", epochRule, epochGrowsThroughExpiry},
}

// epochGrows wants every grant to have a greater epoch than the one before,
// whatever between does.
func epochGrows(between func(t *trial, s *handle, key string, g state.Grant)) func(t *trial) {
	return func(t *trial) {
		s, key := t.store(), t.key("k")
		last := uint64(0)
		for range 4 {
			g := t.acquire(s, key, "owner")
			if g.Fence.Epoch <= last {
				t.errorf("the epoch is %d, and the grant before had %d", g.Fence.Epoch, last)
			}
			last = g.Fence.Epoch
			between(t, s, key, g)
		}
	}
}

func epochGrowsThroughExpiry(t *trial) {
	s, key := t.store(), t.key("k")
	t.leaser(s)
	_, old := t.lapsed(key, "first")
	var g state.Grant
	err := t.once(func() (err error) { g, err = t.ask(s, key, request("second")); return err })
	if err != nil {
		t.fatalf("Acquire after the lease ran out: %v", err)
	}
	if g.Fence.Epoch <= old.Epoch {
		t.errorf("the epoch is %d, and the grant that ran out had %d", g.Fence.Epoch, old.Epoch)
	}
	t.release(s, key, g.Fence)
	if third := t.acquire(s, key, "third"); third.Fence.Epoch <= g.Fence.Epoch {
		t.errorf("the epoch is %d, and the grant before had %d", third.Fence.Epoch, g.Fence.Epoch)
	}
}
