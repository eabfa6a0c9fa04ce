package statetest

var clearCases = []testCase{
	{"Clear/NotFound", "Clear removes the checkpoint, so that Load returns ErrNotFound.", clearNotFound},
	{"Clear/Absent", "Clearing a key that has none succeeds.", clearAbsent},
	{"Clear/SaveAgain", "Save makes cp the checkpoint of key.", clearSaveAgain},
	{"Clear/LeavesNothing", "A key that was never leased and whose checkpoints had no sequence leaves nothing behind.", clearLeavesNothing},
}

func (t *trial) clear(h *handle, key string) {
	if err := h.Clear(t.ctx, key); err != nil {
		t.fatalf("Clear(%.60q): %v, want success", key, err)
	}
}

func clearNotFound(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, sample(1))
	t.clear(s, key)
	t.wantNone(s, key)
	t.wantNone(t.open(), key)
}

func clearAbsent(t *trial) {
	s, key := t.store(), t.key("k")
	t.want(s.Clear(t.ctx, key), nil, "Clear of a key that was never saved")
	t.wantNone(s, key)
	t.save(s, key, sample(1))
	for range 3 {
		t.want(s.Clear(t.ctx, key), nil, "Clear")
	}
	t.wantNone(s, key)
}

func clearSaveAgain(t *trial) {
	s, key := t.store(), t.key("k")
	for n := range 3 {
		t.save(s, key, sample(n))
		t.wantLoad(s, key, sample(n), 0)
		t.clear(s, key)
		t.wantNone(s, key)
	}
}

func clearLeavesNothing(t *trial) {
	if t.h.Stored == nil {
		t.skipf("the harness has no Stored")
	}
	count := func() int {
		n, err := t.h.Stored(t.ctx)
		if err != nil {
			t.fatalf("Harness.Stored: %v", err)
		}
		return n
	}
	s := t.store()
	before := count()
	keys := []string{t.key("a"), t.key("b"), t.key("c")}
	for n, key := range keys {
		t.save(s, key, sample(n))
		t.save(s, key, sample(n+10))
	}
	if n := count(); n <= before {
		t.fatalf("Harness.Stored says %d before and %d after three keys were saved: it does not count", before, n)
	}
	for _, key := range keys {
		t.clear(s, key)
	}
	t.clear(s, t.key("never saved"))
	if n := count(); n != before {
		t.errorf("the store kept %d things before, and keeps %d after every key was cleared", before, n)
	}
}
