package statetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

const (
	corruptRule     = "If there is one that can't be read, it returns ErrCorrupt, or ErrNewer if a later version of the store wrote it."
	expiredRule     = "If its time to live has expired, it returns ErrExpired."
	unavailableRule = "If the store can't answer, it returns ErrUnavailable. Only ErrNotFound may lead to a start at \"now\""
)

var damageCases = []testCase{
	{"Damage/Load", corruptRule, damageLoad},
	{"Damage/NotGranted", "A key whose checkpoint can't be read is not granted: the error is Load's.", damageNotGranted},
	{"Damage/List", "The error of one key is in its Entry.LoadErr, and the list goes on; an error beside a zero Entry ends the list.", damageList},
	{"Damage/Newer", corruptRule, damageNewer},
}

var expiryCases = []testCase{
	{"Expiry/Load", expiredRule, expiryLoad},
	{"Expiry/Grant", "LoadErr is ErrNotFound if the key has no checkpoint, ErrExpired if its time to live has expired, and otherwise nil.", expiryGrant},
	{"Expiry/LastSequence", "The last sequence survives Clear and expiry.", expiryLastSequence},
	{"Expiry/Epoch", epochRule, expiryEpoch},
	{"Expiry/Clear", "Clear removes the checkpoint, so that Load returns ErrNotFound.", expiryClear},
}

var breakCases = []testCase{
	{"Break/Unavailable", unavailableRule, breakUnavailable},
	{"Break/Retryable", "Retryable reports whether the same call may succeed later without manual intervention.", breakRetryable},
	{"Break/Deadline", "ErrUnavailable: the store can't answer now; a later attempt may succeed.", breakDeadline},
	{"Break/OldOrNew", "If it fails, the key has the old checkpoint or the new one, never neither and never a mix.", breakOldOrNew},
}

// damaged saves cp and lets the harness damage it.
func (t *trial) damaged(name string, cp state.Checkpoint) string {
	if t.h.Damage == nil {
		t.skipf("the harness has no Damage")
	}
	key := t.key(name)
	t.save(t.store(), key, cp)
	if err := t.h.Damage(t.ctx, key); err != nil {
		t.fatalf("Harness.Damage: %v", err)
	}
	return key
}

// wantUnread wants key to be unreadable, for want, and never absent.
func (t *trial) wantUnread(h *handle, key string, want error) {
	cp, err := h.Load(t.ctx, key)
	t.want(err, want, "Load of a checkpoint that can't be read")
	if errors.Is(err, state.ErrNotFound) {
		t.errorf("Load of a checkpoint that can't be read says that there is none: %v", err)
	}
	if !cp.Equal(state.Checkpoint{}) {
		t.errorf("Load of a checkpoint that can't be read gives one")
	}
}

func damageLoad(t *trial) {
	s, healthy := t.store(), t.key("healthy")
	t.save(s, healthy, sample(1))
	for i := range 6 { // each may be damaged in another way
		cp := sample(i)
		if i%2 == 1 {
			cp = numbered(i, 5)
		}
		key := t.damaged(fmt.Sprint("k", i), cp)
		for range 2 {
			t.wantUnread(s, key, state.ErrCorrupt)
		}
		t.wantUnread(t.open(), key, state.ErrCorrupt)
	}
	t.wantLoad(s, healthy, sample(1), 0)
}

func damageNotGranted(t *trial) {
	s := t.store()
	t.leaser(s)
	for i := range 4 {
		key := t.damaged(fmt.Sprint("k", i), sample(i))
		g, err := t.ask(s, key, request("first"))
		t.want(err, state.ErrCorrupt, "Acquire of a key whose checkpoint is damaged")
		if !g.Fence.IsZero() {
			t.errorf("a fence was given together with the error")
		}
		t.wantUnread(s, key, state.ErrCorrupt)
	}
}

func damageList(t *trial) {
	s := t.store()
	capability[state.Lister](t, s, "state.Lister")
	before, after := t.key("a"), t.key("z")
	t.save(s, before, sample(1))
	key := t.damaged("m", sample(2))
	t.save(s, after, sample(3))
	entries := t.list(s, t.keys)
	for _, healthy := range []string{before, after} {
		if e, ok := entries[healthy]; !ok || e.LoadErr != nil {
			t.errorf("List does not give %q as it is, beside a damaged one: %v", healthy, e.LoadErr)
		}
	}
	e, ok := entries[key]
	if !ok {
		t.fatalf("List does not give the key whose checkpoint is damaged")
	}
	t.want(e.LoadErr, state.ErrCorrupt, "Entry.LoadErr of a damaged checkpoint")
}

func damageNewer(t *trial) {
	if t.h.Newer == nil {
		t.skipf("the harness has no Newer")
	}
	s, key := t.store(), t.key("k")
	t.save(s, key, sample(1))
	if err := t.h.Newer(t.ctx, key); err != nil {
		t.fatalf("Harness.Newer: %v", err)
	}
	t.wantUnread(s, key, state.ErrNewer)
	t.wantUnread(t.open(), key, state.ErrNewer)
	if l, ok := state.As[state.Leaser](s); ok {
		_, err := l.Acquire(t.ctx, key, request("first"))
		t.want(err, state.ErrNewer, "Acquire of a key whose checkpoint a later version wrote")
	}
}

// expire lets the checkpoint of key expire, or skips the case.
func (t *trial) expire(key string) {
	if t.h.Expire == nil {
		t.skipf("the harness has no Expire")
	}
	if err := t.h.Expire(t.ctx, key); err != nil {
		t.fatalf("Harness.Expire: %v", err)
	}
}

func expiryLoad(t *trial) {
	s, key, other := t.store(), t.key("k"), t.key("k2")
	t.save(s, key, sample(1))
	t.save(s, other, sample(2))
	t.expire(key)
	t.wantUnread(s, key, state.ErrExpired)
	t.wantUnread(t.open(), key, state.ErrExpired)
	t.wantLoad(s, other, sample(2), 0)
	t.save(s, key, sample(3))
	t.wantLoad(s, key, sample(3), 0)
}

func expiryGrant(t *trial) {
	s, key := t.store(), t.key("k")
	t.leaser(s)
	t.save(s, key, numbered(1, 5))
	t.expire(key)
	g := t.acquire(s, key, "first")
	t.want(g.LoadErr, state.ErrExpired, "Grant.LoadErr of a key whose checkpoint expired")
	if g.LastSequence != 5 {
		t.errorf("the grant's LastSequence is %d after expiry, want 5", g.LastSequence)
	}
	t.saveFenced(s, key, g.Fence, numbered(2, 6))
	t.wantLoad(s, key, numbered(2, 6), g.Fence.Epoch)
}

func expiryLastSequence(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, numbered(1, 10))
	t.expire(key)
	t.want(s.Save(t.ctx, key, numbered(2, 9)), state.ErrStale, "Save with sequence 9 after 10 expired")
	t.want(s.Save(t.ctx, key, numbered(1, 10)), state.ErrStale, "Save with sequence 10 and its token after it expired")
	t.wantUnread(s, key, state.ErrExpired)
	t.save(s, key, numbered(3, 11))
	t.wantLoad(s, key, numbered(3, 11), 0)
}

func expiryEpoch(t *trial) {
	s, key := t.store(), t.key("k")
	old := t.acquire(s, key, "first")
	t.saveFenced(s, key, old.Fence, sample(1))
	t.release(s, key, old.Fence)
	t.expire(key)
	if g := t.acquire(s, key, "second"); g.Fence.Epoch <= old.Fence.Epoch {
		t.errorf("the epoch is %d after the checkpoint expired, and was %d before", g.Fence.Epoch, old.Fence.Epoch)
	}
	t.want(t.leaser(s).SaveFenced(t.ctx, key, old.Fence, sample(2)), state.ErrFenced, "SaveFenced by the old owner")
}

func expiryClear(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, sample(1))
	t.expire(key)
	t.clear(s, key)
	t.wantNone(s, key)
}

// broken does what do says while the store is unreachable.
func (t *trial) broken(do func()) {
	if err := t.h.Break(t.ctx); err != nil {
		t.fatalf("Harness.Break: %v", err)
	}
	defer func() {
		if err := t.h.Restore(context.WithoutCancel(t.ctx)); err != nil {
			t.errorf("Harness.Restore: %v", err)
		}
	}()
	do()
}

// breakable gives a key with a checkpoint and the fence of its lease, or skips.
func (t *trial) breakable() (s *handle, key string, f state.Fence) {
	if t.h.Break == nil {
		t.skipf("the harness has no Break")
	}
	s, key = t.store(), t.key("k")
	if _, ok := state.As[state.Leaser](s); !ok {
		t.save(s, key, sample(1))
		return s, key, f
	}
	g := t.acquire(s, key, "first")
	t.saveFenced(s, key, g.Fence, sample(1))
	t.release(s, key, g.Fence)
	return s, key, g.Fence
}

// patient does one thing until it succeeds or a while has passed: a store that
// was restored may need some time to notice.
func (t *trial) patient(do func() error) (err error) {
	for deadline := time.Now().Add(t.h.Timeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = do(); !errors.Is(err, state.ErrUnavailable) {
			return err
		}
	}
	return err
}

func breakUnavailable(t *trial) {
	s, key, f := t.breakable()
	t.broken(func() {
		began := time.Now()
		_, err := s.Load(t.ctx, t.key("never saved"))
		t.want(err, state.ErrUnavailable, "Load of a key that was never saved, while the store is unreachable")
		if took := time.Since(began); took > t.h.Timeout {
			t.errorf("Load took %v while the store was unreachable, more than %v", took, t.h.Timeout)
		}
		for what, err := range t.everyCall(s, key, f) {
			t.want(err, state.ErrUnavailable, "%s while the store is unreachable", what)
		}
	})
	err := t.patient(func() error { _, err := s.Load(t.ctx, key); return err })
	t.want(err, nil, "Load on the same handle after the store was restored")
	t.wantNone(s, t.key("never saved"))
}

func breakRetryable(t *trial) {
	s, key, f := t.breakable()
	t.broken(func() {
		for what, err := range t.everyCall(s, key, f) {
			if e, ok := errors.AsType[*state.Error](err); !ok || !e.Retryable() {
				t.errorf("%s while the store is unreachable: the error is no *state.Error that is retryable: %v", what, err)
			}
			t.noToken(what+" while the store is unreachable", err)
		}
	})
}

func breakDeadline(t *trial) {
	const limit, slack = 300 * time.Millisecond, 8 * time.Second
	s, key, _ := t.breakable()
	calls := map[string]func(ctx context.Context) error{
		"Load":  func(ctx context.Context) error { _, err := s.Load(ctx, key); return err },
		"Save":  func(ctx context.Context) error { return s.Save(ctx, key, sample(2)) },
		"Clear": func(ctx context.Context) error { return s.Clear(ctx, key) },
	}
	t.broken(func() {
		for what, call := range calls {
			ctx, cancel := context.WithTimeout(t.ctx, limit)
			began := time.Now()
			err := call(ctx)
			took := time.Since(began)
			cancel()
			if took > limit+slack {
				t.errorf("%s with a deadline in %v took %v while the store was unreachable", what, limit, took)
			}
			if !errors.Is(err, state.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
				t.errorf("%s with a deadline while the store is unreachable: %v, want %q or %q", what, err, state.ErrUnavailable, context.DeadlineExceeded)
			}
		}
	})
}

func breakOldOrNew(t *trial) {
	s, key, _ := t.breakable()
	old, err := s.Load(t.ctx, key)
	if err != nil {
		t.fatalf("Load: %v", err)
	}
	t.broken(func() {
		t.want(s.Save(t.ctx, key, sample(2)), state.ErrUnavailable, "Save while the store is unreachable")
	})
	var got state.Checkpoint
	if err := t.patient(func() (err error) { got, err = s.Load(t.ctx, key); return err }); err != nil {
		t.fatalf("Load after the store was restored: %v", err)
	}
	if asOld, asNew := differ(got, old), differ(got, stored(sample(2), got.Epoch)); asOld != "" && asNew != "" {
		t.errorf("after a Save that failed, the checkpoint is neither the old one (%s) nor the new one (%s)", asOld, asNew)
	}
	if err := t.patient(func() error { return s.Save(t.ctx, key, sample(3)) }); err != nil {
		t.fatalf("Save after the store was restored: %v", err)
	}
}
