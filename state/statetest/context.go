package statetest

import (
	"context"
	"errors"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

const contextRule = "If the context is done before the call, nothing happens and the context's error is returned; if it ends during a Save or Clear, that may or may not have taken effect."

var contextCases = []testCase{
	{"Context/Save", contextRule, contextSave},
	{"Context/Load", contextRule, contextLoad},
	{"Context/Clear", contextRule, contextClear},
	{"Context/Acquire", contextRule, contextAcquire},
	{"Context/Owner", contextRule, contextOwner},
	{"Context/List", contextRule, contextList},
	{"Context/Batch", contextRule, contextBatch},
	{"Context/Forget", contextRule, contextForget},
}

// ended gives contexts that have ended, with the errors that they have for it.
func (t *trial) ended() map[error]context.Context {
	cancelled, cancel := context.WithCancel(t.ctx)
	cancel()
	late, cancel := context.WithDeadline(t.ctx, time.Now().Add(-time.Hour))
	cancel()
	return map[error]context.Context{context.Canceled: cancelled, context.DeadlineExceeded: late}
}

func contextSave(t *trial) {
	s, key := t.store(), t.key("k")
	for want, ctx := range t.ended() {
		t.want(s.Save(ctx, key, numbered(1, 9)), want, "Save of a new key")
		t.wantNone(s, key)
	}
	t.save(s, key, numbered(2, 5))
	for want, ctx := range t.ended() {
		t.want(s.Save(ctx, key, numbered(3, 9)), want, "Save over a checkpoint")
		t.wantLoad(s, key, numbered(2, 5), 0)
	}
	t.save(s, key, numbered(4, 6)) // 9 was never accepted
}

func contextLoad(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, sample(1))
	for want, ctx := range t.ended() {
		_, err := s.Load(ctx, key)
		t.want(err, want, "Load")
		_, err = s.Load(ctx, t.key("never saved"))
		t.want(err, want, "Load of a key that was never saved")
		if errors.Is(err, state.ErrNotFound) {
			t.errorf("Load with a context that has ended says that there is no checkpoint; it can't know: %v", err)
		}
	}
}

func contextClear(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, sample(1))
	for want, ctx := range t.ended() {
		t.want(s.Clear(ctx, key), want, "Clear")
		t.wantLoad(s, key, sample(1), 0)
	}
}

func contextAcquire(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	for want, ctx := range t.ended() {
		_, err := l.Acquire(ctx, key, request("cancelled"))
		t.want(err, want, "Acquire")
	}
	t.save(s, key, sample(1)) // nobody holds it
	t.acquire(s, key, "first")
}

func contextOwner(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	g := t.acquire(s, key, "first")
	t.saveFenced(s, key, g.Fence, numbered(1, 5))
	for want, ctx := range t.ended() {
		t.want(l.SaveFenced(ctx, key, g.Fence, numbered(2, 9)), want, "SaveFenced")
		t.want(l.ClearFenced(ctx, key, g.Fence), want, "ClearFenced")
		t.want(l.Renew(ctx, key, g.Fence, longLease), want, "Renew")
		t.want(l.Release(ctx, key, g.Fence), want, "Release")
	}
	t.wantLoad(s, key, numbered(1, 5), g.Fence.Epoch)
	_, err := t.ask(s, key, request("second"))
	t.wantHeld(err, "first", "Acquire after a Release that was cancelled")
	t.saveFenced(s, key, g.Fence, numbered(3, 6))
}

func contextList(t *trial) {
	s := t.store()
	l := capability[state.Lister](t, s, "state.Lister")
	t.save(s, t.key("k"), sample(1))
	for want, ctx := range t.ended() {
		failed := false
		for e, err := range l.List(ctx, t.keys) {
			if err == nil {
				t.errorf("List gives the key %q", e.Key)
				continue
			}
			failed = true
			t.want(err, want, "List")
		}
		if !failed {
			t.errorf("List ends without an error, as if there were no keys")
		}
	}
}

func contextBatch(t *trial) {
	s := t.store()
	b := capability[state.BatchSaver](t, s, "state.BatchSaver")
	items := []state.Item{{Key: t.key("a"), Checkpoint: sample(1)}, {Key: t.key("b"), Checkpoint: sample(2)}}
	for want, ctx := range t.ended() {
		errs := b.SaveBatch(ctx, items)
		if len(errs) != len(items) {
			t.fatalf("SaveBatch gives %d answers to %d items", len(errs), len(items))
		}
		for i, err := range errs {
			t.want(err, want, "the answer to item %d", i)
			t.wantNone(s, items[i].Key)
		}
	}
}

func contextForget(t *trial) {
	s, key := t.store(), t.key("k")
	f := capability[state.Forgetter](t, s, "state.Forgetter")
	t.save(s, key, sample(1))
	for want, ctx := range t.ended() {
		t.want(f.Forget(ctx, key), want, "Forget")
	}
	t.wantLoad(s, key, sample(1), 0)
}
