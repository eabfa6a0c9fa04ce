package statetest

import (
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

const sequenceRule = "A store refuses a save whose sequence is below the last one that it accepted, or equal to it with another token, with ErrStale, because a delayed save must not overwrite a later one."

var sequenceCases = []testCase{
	{"Sequence/Lower", sequenceRule, sequenceLower},
	{"Sequence/SameOtherToken", sequenceRule, sequenceSameOtherToken},
	{"Sequence/SameAgain", "A repeated save, with the last sequence and the same token, succeeds.", sequenceSameAgain},
	{"Sequence/Higher", "Sequence numbers the saves of one key.", sequenceHigher},
	{"Sequence/Zero", "0 means unordered: such a save is always accepted, and leaves the last sequence as it is.", sequenceZero},
	{"Sequence/OutlivesClear", "The last sequence survives Clear and expiry.", sequenceOutlivesClear},
	{"Sequence/Greatest", "MaxSequence is the greatest sequence that a store accepts: the greatest integer that Lua, in which some stores have their scripts, represents exactly.", sequenceGreatest},
	{"Sequence/EachKeyItsOwn", "Sequence numbers the saves of one key.", sequenceEachKeyItsOwn},
}

func sequenceLower(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, numbered(1, 10))
	for _, seq := range []uint64{9, 1} {
		t.want(s.Save(t.ctx, key, numbered(2, seq)), state.ErrStale, "Save with sequence %d after 10", seq)
		t.want(s.Save(t.ctx, key, numbered(1, seq)), state.ErrStale, "Save with sequence %d after 10, the same token", seq)
	}
	t.wantLoad(s, key, numbered(1, 10), 0)
}

func sequenceSameOtherToken(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, numbered(1, 10))
	t.want(s.Save(t.ctx, key, numbered(2, 10)), state.ErrStale, "Save with sequence 10 again and another token")
	t.wantLoad(s, key, numbered(1, 10), 0)
	typed := numbered(3, 11)
	typed.Token = typedToken()
	t.save(s, key, typed)
	t.want(s.Save(t.ctx, key, numbered(4, 11)), state.ErrStale, "Save with sequence 11 again and another token")
	t.wantLoad(s, key, typed, 0)
}

func sequenceSameAgain(t *trial) {
	s, key := t.store(), t.key("k")
	cp := numbered(1, 10)
	cp.SavedAt = time.Time{} // which the store fills in each time
	cp.Token = bigToken(1, 4<<10)
	for range 3 {
		t.want(s.Save(t.ctx, key, cp), nil, "Save with sequence 10 and the same token")
	}
	cp.SavedAt = time.UnixMilli(1_800_000_000_000)
	t.save(s, key, cp)
	got, err := s.Load(t.ctx, key)
	if err != nil {
		t.fatalf("Load: %v", err)
	}
	cp.SavedAt = got.SavedAt
	if d := differ(got, cp); d != "" {
		t.errorf("Load: %s", d)
	}
	t.save(s, key, numbered(2, 11))
	t.want(s.Save(t.ctx, key, cp), state.ErrStale, "Save with sequence 10 and its token, after 11")
}

func sequenceHigher(t *trial) {
	s, key := t.store(), t.key("k")
	for i, seq := range []uint64{1, 2, 5, 9, 10, 99, 100, 1 << 31, 1 << 32, 1 << 52} {
		t.save(s, key, numbered(i, seq))
		t.wantLoad(s, key, numbered(i, seq), 0)
		if seq > 1 {
			t.want(s.Save(t.ctx, key, numbered(99, seq-1)), state.ErrStale, "Save with sequence %d after %d", seq-1, seq)
		}
	}
}

func sequenceZero(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, numbered(1, 10))
	t.save(s, key, sample(2))
	t.wantLoad(s, key, sample(2), 0)
	t.save(s, key, sample(3))
	t.want(s.Save(t.ctx, key, numbered(4, 9)), state.ErrStale, "Save with sequence 9 after 10 and an unordered save")
	t.want(s.Save(t.ctx, key, numbered(3, 10)), state.ErrStale,
		"Save with sequence 10 and the token of the unordered save that came after 10 (whose own token was another)")
	t.want(s.Save(t.ctx, key, numbered(1, 10)), state.ErrStale, "Save with sequence 10 and its own token, after an unordered save (it would step back)")
	t.wantLoad(s, key, sample(3), 0)
	t.save(s, key, numbered(5, 11))
	t.wantLoad(s, key, numbered(5, 11), 0)
}

func sequenceOutlivesClear(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, numbered(1, 10))
	if err := s.Clear(t.ctx, key); err != nil {
		t.fatalf("Clear: %v", err)
	}
	t.want(s.Save(t.ctx, key, numbered(2, 9)), state.ErrStale, "Save with sequence 9 after 10 was cleared")
	t.want(s.Save(t.ctx, key, numbered(1, 10)), state.ErrStale, "Save with sequence 10 and its token after it was cleared (it would bring it back)")
	t.wantNone(s, key)
	if err := s.Clear(t.ctx, key); err != nil {
		t.fatalf("Clear again: %v", err)
	}
	t.want(s.Save(t.ctx, key, numbered(2, 9)), state.ErrStale, "Save with sequence 9 after 10 was cleared twice")
	t.save(s, key, sample(3))
	t.wantLoad(s, key, sample(3), 0)
	t.save(s, key, numbered(4, 11))
	t.wantLoad(s, key, numbered(4, 11), 0)
}

func sequenceGreatest(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, numbered(1, state.MaxSequence-1))
	t.save(s, key, numbered(2, state.MaxSequence))
	t.save(s, key, numbered(2, state.MaxSequence))
	t.want(s.Save(t.ctx, key, numbered(3, state.MaxSequence)), state.ErrStale, "Save with MaxSequence again and another token")
	t.want(s.Save(t.ctx, key, numbered(1, state.MaxSequence-1)), state.ErrStale, "Save with MaxSequence-1 after MaxSequence")
	t.wantLoad(s, key, numbered(2, state.MaxSequence), 0)
}

func sequenceEachKeyItsOwn(t *trial) {
	s := t.store()
	t.save(s, t.key("a"), numbered(1, 10))
	t.save(s, t.key("b"), numbered(2, 3))
	t.want(s.Save(t.ctx, t.key("a"), numbered(3, 4)), state.ErrStale, "Save with sequence 4 after 10, while another key is at 3")
	t.wantLoad(s, t.key("b"), numbered(2, 3), 0)
}
