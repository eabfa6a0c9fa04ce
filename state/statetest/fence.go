package statetest

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

var fenceCases = []testCase{
	{"Fence/OwnerSaves", fencedRule, fenceOwnerSaves},
	{"Fence/WrongEpoch", "Stores compare both for equality, because a replica that takes over from a master may issue an epoch a second time.", fenceWrongEpoch},
	{"Fence/WrongNonce", "Stores compare both for equality, because a replica that takes over from a master may issue an epoch a second time.", fenceWrongNonce},
	{"Fence/NeverLeased", fencedRule, fenceNeverLeased},
	{"Fence/Zero", "The zero Fence is no fence.", fenceZero},
	{"Fence/AfterRelease", fencedRule, fenceAfterRelease},
	{"Fence/Sequence", "SaveFenced is Save for the owner", fenceSequence},
	{"Fence/Clear", "ClearFenced is Clear for the owner of the lease. It returns ErrFenced if the fence is not the current one. The lease is kept.", fenceClear},
	{"Fence/ClearRefused", "ClearFenced is Clear for the owner of the lease. It returns ErrFenced if the fence is not the current one. The lease is kept.", fenceClearRefused},
	{"Fence/LoadUnderLease", "Load never waits for a lease.", fenceLoadUnderLease},
	{"Fence/UnfencedSave", guardRule, fenceUnfencedSave},
	{"Fence/UnfencedClear", "Clear is refused while a lease is held, as Save is.", fenceUnfencedClear},
	{"Fence/UnfencedAfterExpiry", guardRule, fenceUnfencedAfterExpiry},
	{"Fence/UnfencedClearAfterExpiry", guardRule, fenceUnfencedClearAfterExpiry},
	{"Fence/UnfencedAfterRelease", guardRule, fenceUnfencedAfterRelease},
}

// rotate gives a nonce of the same length that is another.
func rotate(nonce string) string { return nonce[1:] + string('A'+(nonce[0]+1)%20) }

func lower(nonce string) string { return strings.ToLower(nonce) }

func fenceOwnerSaves(t *trial) {
	s, key := t.store(), t.key("k")
	g := t.acquire(s, key, "first")
	for n := 1; n <= 3; n++ {
		t.saveFenced(s, key, g.Fence, numbered(n, uint64(n)))
		t.wantLoad(s, key, numbered(n, uint64(n)), g.Fence.Epoch)
	}
	t.saveFenced(s, key, g.Fence, sample(4))
	t.wantLoad(t.open(), key, sample(4), g.Fence.Epoch)
}

// fenced wants every write under one of the fences to be refused, and the owner
// to be as before.
func fenced(t *trial, pick func(what string) bool) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	t.release(s, key, t.acquire(s, key, "earlier").Fence) // so that an older epoch exists
	g := t.acquire(s, key, "first")
	t.saveFenced(s, key, g.Fence, numbered(1, 5))
	for what, f := range wrong(g.Fence) {
		if !pick(what) {
			continue
		}
		for _, cp := range []state.Checkpoint{numbered(2, 6), sample(2), numbered(1, 5)} {
			t.want(l.SaveFenced(t.ctx, key, f, cp), state.ErrFenced, "SaveFenced with %s, sequence %d", what, cp.Sequence)
		}
		t.want(l.ClearFenced(t.ctx, key, f), state.ErrFenced, "ClearFenced with %s", what)
	}
	t.wantLoad(s, key, numbered(1, 5), g.Fence.Epoch)
	t.saveFenced(s, key, g.Fence, numbered(3, 6))
	t.wantLoad(s, key, numbered(3, 6), g.Fence.Epoch)
}

func fenceWrongEpoch(t *trial) {
	fenced(t, func(what string) bool {
		return strings.Contains(what, "epoch") && !strings.HasPrefix(what, "the epoch")
	})
}

func fenceWrongNonce(t *trial) {
	fenced(t, func(what string) bool {
		return strings.HasPrefix(what, "the epoch") || strings.Contains(what, "nonce ")
	})
}

func fenceNeverLeased(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	fences := []state.Fence{{Epoch: 1, Nonce: "n"}, {Epoch: 0, Nonce: "n"}, {Epoch: 1}}
	for _, f := range fences {
		t.want(l.SaveFenced(t.ctx, key, f, sample(1)), state.ErrFenced, "SaveFenced of a key that was never leased, %+v", f)
		t.want(l.ClearFenced(t.ctx, key, f), state.ErrFenced, "ClearFenced of a key that was never leased, %+v", f)
	}
	t.wantNone(s, key)
	t.save(s, key, sample(1))
	for _, f := range fences {
		t.want(l.SaveFenced(t.ctx, key, f, sample(2)), state.ErrFenced, "SaveFenced of a key that was never leased, %+v", f)
	}
	t.wantLoad(s, key, sample(1), 0)
}

// fenceZero: who has lost track of a fence must not write as if none were needed.
func fenceZero(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	refuse := func(when string) {
		t.want(l.SaveFenced(t.ctx, key, state.Fence{}, numbered(9, 99)), state.ErrFenced, "SaveFenced with the zero Fence %s", when)
		t.want(l.ClearFenced(t.ctx, key, state.Fence{}), state.ErrFenced, "ClearFenced with the zero Fence %s", when)
		t.want(l.Renew(t.ctx, key, state.Fence{}, longLease), state.ErrFenced, "Renew with the zero Fence %s", when)
		t.want(l.Release(t.ctx, key, state.Fence{}), nil, "Release with the zero Fence %s", when)
	}
	refuse("of a key that was never saved")
	t.wantNone(s, key)
	t.save(s, key, numbered(1, 5))
	refuse("of a key that was never leased")
	t.wantLoad(s, key, numbered(1, 5), 0)
	g := t.acquire(s, key, "first")
	refuse("while a lease is held")
	t.release(s, key, g.Fence)
	refuse("after Release")
	t.wantLoad(s, key, numbered(1, 5), 0)
}

func fenceAfterRelease(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	g := t.acquire(s, key, "first")
	t.saveFenced(s, key, g.Fence, numbered(1, 5))
	t.release(s, key, g.Fence)
	for _, f := range []state.Fence{g.Fence, {Epoch: g.Fence.Epoch}} {
		t.want(l.SaveFenced(t.ctx, key, f, numbered(2, 6)), state.ErrFenced, "SaveFenced after Release, %+v", f)
		t.want(l.ClearFenced(t.ctx, key, f), state.ErrFenced, "ClearFenced after Release, %+v", f)
	}
	t.wantLoad(s, key, numbered(1, 5), g.Fence.Epoch)
}

func fenceSequence(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	t.save(s, key, numbered(1, 10))
	g := t.acquire(s, key, "first")
	t.want(l.SaveFenced(t.ctx, key, g.Fence, numbered(2, 9)), state.ErrStale, "SaveFenced with sequence 9 after 10")
	t.want(l.SaveFenced(t.ctx, key, g.Fence, numbered(2, 10)), state.ErrStale, "SaveFenced with sequence 10 and another token")
	t.wantLoad(s, key, numbered(1, 10), 0)
	t.saveFenced(s, key, g.Fence, numbered(1, 10))
	t.wantLoad(s, key, numbered(1, 10), g.Fence.Epoch)
	t.saveFenced(s, key, g.Fence, numbered(3, 11))
	t.saveFenced(s, key, g.Fence, sample(4))
	t.want(l.SaveFenced(t.ctx, key, g.Fence, numbered(3, 11)), state.ErrStale, "SaveFenced with sequence 11 and its token, after an unordered save")
	t.wantLoad(s, key, sample(4), g.Fence.Epoch)
}

func fenceClear(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	l := t.leaser(a)
	g := t.acquire(a, key, "first")
	t.want(l.ClearFenced(t.ctx, key, g.Fence), nil, "ClearFenced by the owner of a key without a checkpoint")
	t.saveFenced(a, key, g.Fence, numbered(1, 5))
	t.want(l.ClearFenced(t.ctx, key, g.Fence), nil, "ClearFenced by the owner")
	t.wantNone(b, key)
	_, err := t.ask(b, key, request("second"))
	t.wantHeld(err, "first", "Acquire by another after ClearFenced")
	t.want(l.SaveFenced(t.ctx, key, g.Fence, numbered(1, 5)), state.ErrStale, "SaveFenced with sequence 5 after it was cleared")
	t.saveFenced(a, key, g.Fence, numbered(2, 6))
	t.wantLoad(b, key, numbered(2, 6), g.Fence.Epoch)
}

func fenceClearRefused(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	old := t.acquire(s, key, "first")
	t.saveFenced(s, key, old.Fence, numbered(1, 5))
	t.release(s, key, old.Fence)
	t.want(l.ClearFenced(t.ctx, key, old.Fence), state.ErrFenced, "ClearFenced after Release")
	g := t.acquire(s, key, "second")
	t.want(l.ClearFenced(t.ctx, key, old.Fence), state.ErrFenced, "ClearFenced by the old owner")
	t.wantLoad(s, key, numbered(1, 5), old.Fence.Epoch)
	t.want(l.ClearFenced(t.ctx, key, g.Fence), nil, "ClearFenced by the owner")
}

func fenceLoadUnderLease(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	g := t.acquire(a, key, "first")
	t.wantNone(b, key)
	t.saveFenced(a, key, g.Fence, sample(1))
	t.wantLoad(b, key, sample(1), g.Fence.Epoch)
	t.saveFenced(a, key, g.Fence, sample(2))
	t.wantLoad(b, key, sample(2), g.Fence.Epoch)
	t.saveFenced(a, key, g.Fence, sample(3))
}

func fenceUnfencedSave(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	g := t.acquire(a, key, "the owner")
	for _, h := range []*handle{a, b} {
		t.wantHeld(h.Save(t.ctx, key, sample(1)), "the owner", "Save without a fence while a lease is held on a key without a checkpoint")
		t.wantNone(h, key)
	}
	t.saveFenced(a, key, g.Fence, numbered(1, 5))
	for _, h := range []*handle{a, b} {
		t.wantHeld(h.Save(t.ctx, key, numbered(2, 6)), "the owner", "Save without a fence while a lease is held")
		t.wantLoad(h, key, numbered(1, 5), g.Fence.Epoch)
	}
	t.saveFenced(a, key, g.Fence, numbered(2, 6))
}

func fenceUnfencedClear(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	g := t.acquire(a, key, "the owner")
	t.saveFenced(a, key, g.Fence, numbered(1, 5))
	for _, h := range []*handle{a, b} {
		t.wantHeld(h.Clear(t.ctx, key), "the owner", "Clear without a fence while a lease is held")
		t.wantLoad(h, key, numbered(1, 5), g.Fence.Epoch)
	}
	t.saveFenced(a, key, g.Fence, numbered(2, 6))
}

// shutOut wants the owner of an expired lease to be fenced off.
func (t *trial) shutOut(s *handle, key string, owner *handle, old state.Fence) {
	handles := []*handle{s}
	if !owner.closed {
		handles = append(handles, owner)
	}
	for _, h := range handles {
		l := t.leaser(h)
		t.want(l.SaveFenced(t.ctx, key, old, numbered(9, 99)), state.ErrFenced, "SaveFenced by the owner whose lease ran out, after an unfenced write")
		t.want(l.ClearFenced(t.ctx, key, old), state.ErrFenced, "ClearFenced by the owner whose lease ran out, after an unfenced write")
		t.want(l.Renew(t.ctx, key, old, longLease), state.ErrFenced, "Renew by the owner whose lease ran out, after an unfenced write")
	}
}

func fenceUnfencedAfterExpiry(t *trial) {
	s, key := t.store(), t.key("k")
	t.leaser(s)
	owner, old := t.lapsed(key, "first", numbered(1, 5))
	if err := t.once(func() error { return s.Save(t.ctx, key, numbered(2, 6)) }); err != nil {
		t.fatalf("Save after the lease ran out: %v", err)
	}
	t.shutOut(s, key, owner, old)
	got, err := s.Load(t.ctx, key)
	if err != nil {
		t.fatalf("Load: %v", err)
	}
	if d := differ(got, stored(numbered(2, 6), got.Epoch)); d != "" {
		t.errorf("Load: %s", d)
	}
	if g := t.acquire(s, key, "second"); g.Fence.Epoch <= old.Epoch {
		t.errorf("the next epoch is %d, want one greater than %d", g.Fence.Epoch, old.Epoch)
	}
}

func fenceUnfencedClearAfterExpiry(t *trial) {
	s, key := t.store(), t.key("k")
	t.leaser(s)
	owner, old := t.lapsed(key, "first", numbered(1, 5))
	if err := t.once(func() error { return s.Clear(t.ctx, key) }); err != nil {
		t.fatalf("Clear after the lease ran out: %v", err)
	}
	t.shutOut(s, key, owner, old)
	t.wantNone(s, key)
	if g := t.acquire(s, key, "second"); g.Fence.Epoch <= old.Epoch || g.LastSequence != 5 {
		t.errorf("the next grant has epoch %d and last sequence %d, want an epoch greater than %d and 5", g.Fence.Epoch, g.LastSequence, old.Epoch)
	}
}

func fenceUnfencedAfterRelease(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	g := t.acquire(a, key, "first")
	t.saveFenced(a, key, g.Fence, numbered(1, 5))
	t.release(a, key, g.Fence)
	t.save(b, key, numbered(2, 6))
	t.want(b.Save(t.ctx, key, numbered(3, 5)), state.ErrStale, "Save with sequence 5 after 6")
	t.want(b.Clear(t.ctx, key), nil, "Clear after Release")
	t.want(t.leaser(a).SaveFenced(t.ctx, key, g.Fence, numbered(3, 7)), state.ErrFenced, "SaveFenced with the fence that was released")
	t.wantNone(a, key)
}
