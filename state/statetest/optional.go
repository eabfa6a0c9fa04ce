package statetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

const (
	listRule   = "List yields the keys that begin with prefix and have a checkpoint or a lease, in no particular order. Keys that are added or removed meanwhile may be missing."
	batchRule  = "SaveBatch saves each item as Save would or, if the item has a fence, as SaveFenced would, and returns one error per item, in the order of items. The failure of one item doesn't affect the others: it is not a transaction."
	forgetRule = "Forget removes the key's checkpoint, epoch, nonce and last sequence."
)

var listCases = []testCase{
	{"List/Checkpoints", listRule, listCheckpoints},
	{"List/Prefix", listRule, listPrefix},
	{"List/Cleared", listRule, listCleared},
	{"List/Leased", "LoadErr is the error that Load would return: ErrNotFound for a key that is leased and has no checkpoint.", listLeased},
	{"List/Owner", "Owner is the owner of the lease on the key, \"\" if there is none.", listOwner},
	{"List/Many", listRule, listMany},
	{"List/Stop", listRule, listStop},
}

var batchCases = []testCase{
	{"Batch/SavesAll", batchRule, batchSavesAll},
	{"Batch/EachItsAnswer", batchRule, batchEachItsAnswer},
	{"Batch/Twice", "All items of a key that occurs more than once are refused with ErrInvalid, because their order would be undefined.", batchTwice},
	{"Batch/Fenced", batchRule, batchFenced},
	{"Batch/NoSharedMemory", "A Store keeps no reference to the memory of its arguments (Checkpoint.Extra), and returns none to its own.", batchNoSharedMemory},
	{"Batch/Empty", batchRule, batchEmpty},
}

var forgetCases = []testCase{
	{"Forget/All", forgetRule, forgetAll},
	{"Forget/Absent", "Forgetting an absent key succeeds.", forgetAbsent},
	{"Forget/UnderLease", "It returns ErrLeaseHeld while a lease is held.", forgetUnderLease},
}

var pingCases = []testCase{
	{"Ping", "Ping returns nil if the store could serve a call now, and otherwise the error that the call would return.", ping},
}

// list gives the entries with a prefix, each key once.
func (t *trial) list(h *handle, prefix string) map[string]state.Entry {
	entries := make(map[string]state.Entry)
	for e, err := range capability[state.Lister](t, h, "state.Lister").List(t.ctx, prefix) {
		if err != nil {
			t.fatalf("List(%q): %v", prefix, err)
		}
		if _, twice := entries[e.Key]; twice {
			t.errorf("List(%q) gives the key %q twice", prefix, e.Key)
		}
		entries[e.Key] = e
	}
	return entries
}

// wantEntries wants the keys with a prefix to be exactly these.
func (t *trial) wantEntries(h *handle, prefix string, keys ...string) {
	entries := t.list(h, prefix)
	for _, key := range keys {
		if _, ok := entries[key]; !ok {
			t.errorf("List(%q) does not give %q", prefix, key)
		}
		delete(entries, key)
	}
	for key := range maps.Keys(entries) {
		t.errorf("List(%q) gives %q", prefix, key)
	}
}

func listCheckpoints(t *trial) {
	a, b := t.open(), t.open()
	capability[state.Lister](t, a, "state.Lister")
	cps := map[string]state.Checkpoint{t.key("a"): numbered(1, 5), t.key("b/c"): sample(2), t.key("B/c"): {Token: typedToken(), SavedAt: sample(3).SavedAt}}
	for key, cp := range cps {
		t.save(a, key, cp)
	}
	entries := t.list(b, t.keys)
	for key, cp := range cps {
		e, ok := entries[key]
		switch {
		case !ok:
			t.errorf("List does not give %q", key)
		case e.LoadErr != nil:
			t.errorf("the entry of %q has the error %v", key, e.LoadErr)
		default:
			if d := differ(e.Checkpoint, stored(cp, 0)); d != "" {
				t.errorf("the entry of %q: %s", key, d)
			}
		}
	}
	if len(entries) != len(cps) {
		t.errorf("List gives %d entries, want %d", len(entries), len(cps))
	}
}

func listPrefix(t *trial) {
	s := t.store()
	capability[state.Lister](t, s, "state.Lister")
	names := []string{"a", "ab", "a/b", "a*", "a*c", "a?c", "a[b]c", "a%", "a_b", "A", "b", "a\\", "a\\*", ".", "..", "é", "é/x", "{a}", "a b"}
	for n, name := range names {
		t.save(s, t.key(name), sample(n))
	}
	for prefix, want := range map[string][]string{
		"ab": {"ab"}, "a/": {"a/b"}, "a*": {"a*", "a*c"}, "a?": {"a?c"}, "a[b": {"a[b]c"}, "a[b]": {"a[b]c"}, "a%": {"a%"}, "a_": {"a_b"}, "A": {"A"},
		"a\\": {"a\\", "a\\*"}, "a\\*": {"a\\*"}, ".": {".", ".."}, "é": {"é", "é/x"}, "{a": {"{a}"}, "a ": {"a b"},
		"*": nil, "?": nil, "[a-z]": nil, "%": nil, "_": nil, "^a": nil, "a.*": nil, "abc": nil, "zzz": nil, "": names,
	} {
		keys := make([]string, len(want))
		for i, name := range want {
			keys[i] = t.keys + name
		}
		t.wantEntries(s, t.keys+prefix, keys...)
	}
	all := t.list(s, "")
	for _, name := range names {
		if _, ok := all[t.keys+name]; !ok {
			t.errorf("List(\"\") does not give %q", t.keys+name)
		}
	}
}

func listCleared(t *trial) {
	s := t.store()
	capability[state.Lister](t, s, "state.Lister")
	kept, cleared, numberedKey := t.key("kept"), t.key("cleared"), t.key("cleared, with a sequence")
	t.save(s, kept, sample(1))
	t.save(s, cleared, sample(2))
	t.save(s, numberedKey, numbered(3, 9))
	t.clear(s, cleared)
	t.clear(s, numberedKey)
	t.clear(s, t.key("never saved"))
	t.wantEntries(s, t.keys, kept)
	if _, ok := state.As[state.Leaser](s); ok {
		leased := t.key("cleared, leased once")
		g := t.acquire(s, leased, "first")
		t.saveFenced(s, leased, g.Fence, sample(4))
		t.release(s, leased, g.Fence)
		t.clear(s, leased)
		t.wantEntries(s, t.keys, kept)
	}
}

func listLeased(t *trial) {
	s, key := t.store(), t.key("k")
	capability[state.Lister](t, s, "state.Lister")
	t.acquire(s, key, "the owner")
	e, ok := t.list(t.open(), t.keys)[key]
	if !ok {
		t.fatalf("List does not give a key that is leased")
	}
	t.want(e.LoadErr, state.ErrNotFound, "Err of the entry of a key that is leased and has no checkpoint")
	if e.Owner != "the owner" {
		t.errorf("the entry's owner is %q, want %q", e.Owner, "the owner")
	}
}

func listOwner(t *trial) {
	s, mine, free, released := t.store(), t.key("mine"), t.key("free"), t.key("released")
	capability[state.Lister](t, s, "state.Lister")
	g := t.acquire(s, mine, "the \"owner\"\n")
	t.saveFenced(s, mine, g.Fence, sample(1))
	t.save(s, free, sample(2))
	r := t.acquire(s, released, "an earlier owner")
	t.saveFenced(s, released, r.Fence, sample(3))
	t.release(s, released, r.Fence)
	entries := t.list(t.open(), t.keys)
	for key, owner := range map[string]string{mine: "the \"owner\"\n", free: "", released: ""} {
		e := entries[key]
		if e.Owner != owner || e.LoadErr != nil {
			t.errorf("the entry of %q has owner %q and error %v, want %q and none", key, e.Owner, e.LoadErr, owner)
		}
		if now := time.Now(); !e.Until.IsZero() && (owner == "" || e.Until.Before(now) || e.Until.After(now.Add(longLease+time.Minute))) {
			t.errorf("the entry of %q, with the owner %q, says that its lease runs out at %v; it was acquired just now for %v", key, e.Owner, e.Until, longLease)
		}
	}
}

func listMany(t *trial) {
	s := t.store()
	capability[state.Lister](t, s, "state.Lister")
	keys := make([]string, t.size(150, 60))
	for i := range keys {
		keys[i] = t.key(fmt.Sprintf("%04d", i))
		t.save(s, keys[i], sample(i))
	}
	t.wantEntries(s, t.keys, keys...)
}

func listStop(t *trial) {
	s := t.store()
	l := capability[state.Lister](t, s, "state.Lister")
	for n := range 5 {
		t.save(s, t.key(fmt.Sprint(n)), sample(n))
	}
	for range 3 {
		for range l.List(t.ctx, t.keys) {
			break // must neither panic nor hold anything
		}
	}
	for e := range l.List(t.ctx, t.keys) { // the body may use the store
		t.save(s, e.Key, sample(9))
	}
	t.wantLoad(s, t.key("0"), sample(9), 0)
}

// batch saves items and wants as many answers.
func (t *trial) batch(h *handle, items []state.Item) []error {
	errs := capability[state.BatchSaver](t, h, "state.BatchSaver").SaveBatch(t.ctx, items)
	if len(errs) != len(items) {
		t.fatalf("SaveBatch gives %d answers to %d items", len(errs), len(items))
	}
	return errs
}

func batchSavesAll(t *trial) {
	s := t.store()
	var items []state.Item
	for n := range 200 {
		items = append(items, state.Item{Key: t.key(fmt.Sprint("k", n)), Checkpoint: sample(n)})
	}
	items[7].Checkpoint.Token = bigToken(7, 100<<10)
	items[8].Checkpoint = numbered(8, 3)
	for i, err := range t.batch(s, items) {
		t.want(err, nil, "the answer to item %d", i)
	}
	other := t.open()
	for _, it := range items {
		t.wantLoad(other, it.Key, it.Checkpoint, 0)
	}
	t.want(s.Save(t.ctx, items[8].Key, numbered(1, 2)), state.ErrStale, "Save with sequence 2 after a batch with 3")
}

func batchEachItsAnswer(t *trial) {
	s := t.store()
	capability[state.BatchSaver](t, s, "state.BatchSaver")
	stale, same := t.key("stale"), t.key("same")
	t.save(s, stale, numbered(1, 10))
	t.save(s, same, numbered(2, 10))
	items := []state.Item{
		{Key: t.key("a"), Checkpoint: sample(1)},
		{Key: stale, Checkpoint: numbered(3, 9)},
		{Key: t.key("b"), Checkpoint: sample(2)},
		{Key: "", Checkpoint: sample(3)},
		{Key: same, Checkpoint: numbered(2, 10)},
		{Key: t.key("empty"), Checkpoint: state.Checkpoint{}},
		{Key: t.key("c"), Checkpoint: numbered(4, 1)},
	}
	errs := t.batch(s, items)
	for i, want := range []error{nil, state.ErrStale, nil, state.ErrInvalid, nil, state.ErrInvalid, nil} {
		t.want(errs[i], want, "the answer to item %d, %q", i, items[i].Key)
	}
	t.wantLoad(s, stale, numbered(1, 10), 0)
	t.wantNone(s, t.key("empty"))
	for _, i := range []int{0, 2, 4, 6} {
		t.wantLoad(s, items[i].Key, items[i].Checkpoint, 0)
	}
}

func batchTwice(t *trial) {
	s := t.store()
	a, b, c := t.key("a"), t.key("b"), t.key("c")
	items := []state.Item{
		{Key: a, Checkpoint: sample(1)},
		{Key: b, Checkpoint: sample(2)},
		{Key: a, Checkpoint: sample(3)},
		{Key: c, Checkpoint: sample(4)},
		{Key: a, Checkpoint: sample(1)},
	}
	errs := t.batch(s, items)
	for i, want := range []error{state.ErrInvalid, nil, state.ErrInvalid, nil, state.ErrInvalid} {
		t.want(errs[i], want, "the answer to item %d", i)
	}
	t.wantNone(s, a)
	t.wantLoad(s, b, sample(2), 0)
	t.wantLoad(s, c, sample(4), 0)
}

func batchFenced(t *trial) {
	s := t.store()
	capability[state.BatchSaver](t, s, "state.BatchSaver")
	mine, lost, held, free := t.key("mine"), t.key("lost"), t.key("held"), t.key("free")
	g := t.acquire(s, mine, "first")
	old := t.acquire(s, lost, "first")
	t.release(s, lost, old.Fence)
	t.acquire(s, lost, "second")
	t.acquire(s, held, "third")
	errs := t.batch(s, []state.Item{
		{Key: lost, Fence: old.Fence, Checkpoint: sample(1)},
		{Key: mine, Fence: g.Fence, Checkpoint: numbered(2, 5)},
		{Key: held, Checkpoint: sample(3)},
		{Key: free, Checkpoint: sample(4)},
	})
	t.want(errs[0], state.ErrFenced, "the answer to the item whose fence is not the current one")
	t.want(errs[1], nil, "the answer to the owner's item")
	t.wantHeld(errs[2], "third", "the answer to an item without a fence, under a lease")
	t.want(errs[3], nil, "the answer to the item of a key that nobody leased")
	t.wantNone(s, lost)
	t.wantLoad(s, mine, numbered(2, 5), g.Fence.Epoch)
	t.wantNone(s, held)
	t.wantLoad(s, free, sample(4), 0)
}

func batchNoSharedMemory(t *trial) {
	s, key := t.store(), t.key("k")
	given := sample(1)
	want := given.Clone()
	for _, err := range t.batch(s, []state.Item{{Key: key, Checkpoint: given}}) {
		t.want(err, nil, "the answer")
	}
	spoil(given)
	t.wantLoad(s, key, want, 0)
}

func batchEmpty(t *trial) {
	t.batch(t.store(), nil)
	t.batch(t.store(), []state.Item{})
}

func (t *trial) forget(h *handle, key string) error {
	return capability[state.Forgetter](t, h, "state.Forgetter").Forget(t.ctx, key)
}

func forgetAll(t *trial) {
	s, key, other := t.store(), t.key("k"), t.key("k/2")
	t.save(s, other, numbered(1, 20))
	t.save(s, key, numbered(1, 10))
	t.want(t.forget(s, key), nil, "Forget")
	t.wantNone(s, key)
	t.save(s, key, numbered(2, 3)) // its last sequence is gone
	t.wantLoad(s, key, numbered(2, 3), 0)
	t.clear(s, key)
	t.want(t.forget(s, key), nil, "Forget of a key that was cleared")
	t.save(s, key, numbered(3, 1))
	t.wantLoad(s, other, numbered(1, 20), 0)
	if _, ok := state.As[state.Leaser](s); !ok {
		return
	}
	old := t.acquire(s, key, "first")
	t.saveFenced(s, key, old.Fence, numbered(4, 11))
	t.release(s, key, old.Fence)
	t.want(t.forget(s, key), nil, "Forget of a key that was leased once")
	t.wantNone(s, key)
	t.want(t.leaser(s).SaveFenced(t.ctx, key, old.Fence, numbered(5, 12)), state.ErrFenced, "SaveFenced with a fence from before Forget")
	g := t.acquire(s, key, "second")
	t.want(g.LoadErr, state.ErrNotFound, "Grant.LoadErr after Forget")
	if g.LastSequence != 0 {
		t.errorf("the grant after Forget has last sequence %d, want 0", g.LastSequence)
	}
}

func forgetAbsent(t *trial) {
	s := t.store()
	for range 2 {
		t.want(t.forget(s, t.key("k")), nil, "Forget of a key that was never saved")
	}
	t.want(t.forget(s, ""), state.ErrInvalid, "Forget of the empty key")
}

func forgetUnderLease(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	capability[state.Forgetter](t, a, "state.Forgetter")
	g := t.acquire(a, key, "the owner")
	t.saveFenced(a, key, g.Fence, numbered(1, 5))
	for _, h := range []*handle{a, b} {
		t.wantHeld(t.forget(h, key), "the owner", "Forget while a lease is held")
		t.wantLoad(h, key, numbered(1, 5), g.Fence.Epoch)
	}
	t.saveFenced(a, key, g.Fence, numbered(2, 6))
	t.want(t.leaser(a).SaveFenced(t.ctx, key, g.Fence, numbered(3, 5)), state.ErrStale, "SaveFenced with sequence 5 after 6")
}

func ping(t *trial) {
	s := t.store()
	p := capability[state.Pinger](t, s, "state.Pinger")
	t.want(p.Ping(t.ctx), nil, "Ping")
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	if err := p.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.errorf("Ping with a context that was cancelled: %v, want %q", err, context.Canceled)
	}
}
