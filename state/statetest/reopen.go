package statetest

import "github.com/rigatoni-etl/rigatoni/state"

var reopenCases = []testCase{
	{"Reopen/Checkpoint", "A Store keeps one checkpoint for each key, across crashes.", reopenCheckpoint},
	{"Reopen/LastSequence", "Clear keeps what protects the key: its epoch and the last accepted sequence, so that a delayed save can't bring a cleared checkpoint back.", reopenLastSequence},
	{"Reopen/Epoch", "Acquire grants the lease on key, with a fence whose epoch is greater than every earlier one: release, expiry, clear and restart never lower it.", reopenEpoch},
}

// reopen closes every handle, and opens the data again.
func (t *trial) reopen() *handle {
	if t.h.Volatile {
		t.skipf("the data dies with the handle (Harness.Volatile)")
	}
	for _, h := range t.handles {
		if !h.closed {
			t.close(h)
		}
	}
	t.first = nil
	return t.store()
}

func reopenCheckpoint(t *trial) {
	s := t.store()
	full := numbered(1, 7)
	full.Token = bigToken(1, 10<<10)
	keys := map[string]state.Checkpoint{t.key("a"): full, t.key("A"): sample(2), t.key("a/b:c"): numbered(3, state.MaxSequence)}
	gone := t.key("gone")
	t.save(s, gone, sample(4))
	for key, cp := range keys {
		t.save(s, key, sample(9))
		t.save(s, key, cp)
	}
	t.clear(s, gone)
	for range 2 {
		s = t.reopen()
		for key, cp := range keys {
			t.wantLoad(s, key, cp, 0)
		}
		t.wantNone(s, gone)
		t.wantNone(s, t.key("never"))
	}
}

func reopenLastSequence(t *trial) {
	s, kept, cleared := t.store(), t.key("kept"), t.key("cleared")
	t.save(s, kept, numbered(1, 10))
	t.save(s, kept, sample(2))
	t.save(s, cleared, numbered(3, 10))
	t.clear(s, cleared)
	s = t.reopen()
	t.want(s.Save(t.ctx, kept, numbered(4, 9)), state.ErrStale, "Save with sequence 9 after 10, an unordered save and a restart")
	t.want(s.Save(t.ctx, cleared, numbered(4, 9)), state.ErrStale, "Save with sequence 9 after 10, Clear and a restart")
	t.want(s.Save(t.ctx, cleared, numbered(3, 10)), state.ErrStale, "Save with sequence 10 and its token after Clear and a restart")
	t.wantLoad(s, kept, sample(2), 0)
	t.wantNone(s, cleared)
	t.save(s, cleared, numbered(5, 11))
}

func reopenEpoch(t *trial) {
	s, key := t.store(), t.key("k")
	old := t.acquire(s, key, "first")
	if err := t.leaser(s).SaveFenced(t.ctx, key, old.Fence, numbered(1, 3)); err != nil {
		t.fatalf("SaveFenced: %v", err)
	}
	t.release(s, key, old.Fence)
	s = t.reopen()
	t.wantLoad(s, key, numbered(1, 3), old.Fence.Epoch)
	next := t.acquire(s, key, "second")
	if next.Fence.Epoch <= old.Fence.Epoch {
		t.errorf("epoch %d was granted before the restart and %d after it", old.Fence.Epoch, next.Fence.Epoch)
	}
	if next.LastSequence != 3 {
		t.errorf("the grant after the restart has last sequence %d, want 3", next.LastSequence)
	}
	t.want(t.leaser(s).SaveFenced(t.ctx, key, old.Fence, numbered(2, 4)), state.ErrFenced, "SaveFenced with the fence of before the restart")
}
