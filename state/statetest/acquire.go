package statetest

import (
	"errors"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

const (
	heldRule   = "If another nonce holds the lease, Acquire returns ErrLeaseHeld, as a HeldError that names the owner and the end of the lease, unless r.Steal is set and the store supports it."
	nonceRule  = "The nonce that already holds the lease gets the same grant again, renewed, so that a caller may repeat an Acquire whose response was lost."
	renewRule  = "Renew extends the lease to ttl from now, by the store's own clock, and likewise the checkpoint's time to live, if there is one. It returns ErrFenced if the fence is not the current one."
	guardRule  = "While another owner holds a lease on the key, Save returns ErrLeaseHeld, naming the owner. If the lease has expired, Save succeeds and fences off its owner."
	fencedRule = "SaveFenced is Save for the owner of the lease. It returns ErrFenced, and writes nothing, if the fence is not the current one."
)

var acquireCases = []testCase{
	{"Acquire/GrantOfNew", "LoadErr is ErrNotFound if the key has no checkpoint, ErrExpired if its time to live has expired, and otherwise nil.", acquireNew},
	{"Acquire/GrantOfSaved", "Acquire changes the fence in the same step that reads the checkpoint: the old owner is fenced off before the new owner resumes from the checkpoint that it left.", acquireSaved},
	{"Acquire/LastSequence", "LastSequence is the last sequence that was accepted for the key, 0 for none. The owner's saves continue from it.", acquireLastSequence},
	{"Acquire/Held", heldRule, acquireHeld},
	{"Acquire/Until", "Until is the time at which the lease expires if it is not renewed, by this machine's clock, as precisely as the store can tell. It is zero if the lease ends with its owner's process.", acquireUntil},
	{"Acquire/SameNonce", nonceRule, acquireSameNonce},
	{"Acquire/SameOwner", "The owner's name is a label; it gives no right.", acquireSameOwner},
	{"Acquire/OwnerNames", "Owner is a label for people: the error of a caller that is refused has it.", acquireOwnerNames},
	{"Acquire/AfterRelease", "Release ends the lease, so that the next Acquire need not wait.", acquireAfterRelease},
	{"Acquire/AfterExpiry", "TTL is how long the lease lasts without a renewal, at least a millisecond.", acquireAfterExpiry},
	{"Acquire/Steal", "Steal takes the lease from a live holder.", acquireSteal},
	{"Acquire/Invalid", "CheckLeaseRequest returns an ErrInvalid unless the request is complete.", acquireInvalid},
	{"Acquire/EachKeyItsOwn", "A Leaser grants one owner at a time the right to write a key.", acquireEachKeyItsOwn},
	{"Renew/Extends", renewRule, renewExtends},
	{"Renew/Fenced", renewRule, renewFenced},
	{"Renew/AfterExpiry", "An expired lease that nobody has acquired since can be renewed.", renewAfterExpiry},
	{"Release/NotCurrent", "If the fence is not the current one, there is nothing to release, and Release succeeds.", releaseNotCurrent},
}

func acquireNew(t *trial) {
	s, key := t.store(), t.key("k")
	r := request("first")
	g, err := t.ask(s, key, r)
	if err != nil {
		t.fatalf("Acquire: %v", err)
	}
	t.want(g.LoadErr, state.ErrNotFound, "Grant.LoadErr of a key that has no checkpoint")
	if !g.Checkpoint.Equal(state.Checkpoint{}) {
		t.errorf("the grant has a checkpoint, and the key none")
	}
	if g.LastSequence != 0 {
		t.errorf("LastSequence is %d for a key that was never saved", g.LastSequence)
	}
	if g.Fence.Epoch == 0 {
		t.errorf("the epoch is 0")
	}
	if g.Fence.Nonce != r.Nonce {
		t.errorf("the fence has the nonce %q, want the request's, %q", g.Fence.Nonce, r.Nonce)
	}
	t.wantNone(s, key)
}

// wantGrant wants a grant to bring cp, saved under epoch, and a last sequence.
func (t *trial) wantGrant(g state.Grant, cp state.Checkpoint, epoch, last uint64) {
	if !t.want(g.LoadErr, nil, "Grant.LoadErr of a key that has a checkpoint") {
		return
	}
	if d := differ(g.Checkpoint, stored(cp, epoch)); d != "" {
		t.errorf("the grant's checkpoint: %s", d)
	}
	if g.LastSequence != last {
		t.errorf("the grant's LastSequence is %d, want %d", g.LastSequence, last)
	}
}

func acquireSaved(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	t.save(a, key, sample(1))
	first := t.acquire(a, key, "first")
	t.wantGrant(first, sample(1), 0, 0)
	t.saveFenced(a, key, first.Fence, numbered(2, 5))
	t.release(a, key, first.Fence)
	second := t.acquire(b, key, "second")
	t.wantGrant(second, numbered(2, 5), first.Fence.Epoch, 5)
	t.want(t.leaser(b).SaveFenced(t.ctx, key, first.Fence, numbered(3, 6)), state.ErrFenced, "SaveFenced by the old owner after the new one's grant")
}

func acquireLastSequence(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	t.save(s, key, numbered(1, 8))
	t.save(s, key, sample(2))
	g := t.acquire(s, key, "first")
	t.wantGrant(g, sample(2), 0, 8)
	t.saveFenced(s, key, g.Fence, numbered(3, 9))
	if err := l.ClearFenced(t.ctx, key, g.Fence); err != nil {
		t.fatalf("ClearFenced: %v", err)
	}
	t.release(s, key, g.Fence)
	g = t.acquire(s, key, "second")
	t.want(g.LoadErr, state.ErrNotFound, "Grant.LoadErr of a key that was cleared")
	if g.LastSequence != 9 {
		t.errorf("LastSequence is %d after a save with 9 and Clear, want 9", g.LastSequence)
	}
}

func acquireHeld(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	g := t.acquire(a, key, "first")
	for _, h := range []*handle{b, a} {
		refused, err := t.ask(h, key, request("second"))
		t.wantHeld(err, "first", "Acquire of a lease that somebody else holds")
		if !refused.Fence.IsZero() {
			t.errorf("a fence was given together with the refusal")
		}
	}
	t.saveFenced(a, key, g.Fence, sample(1)) // the refusal changed nothing
	if held, ok := errors.AsType[*state.HeldError](second(t.ask(b, key, request("second")))); ok {
		if !held.Until.IsZero() && held.Until.Before(time.Now()) {
			t.errorf("a lease of %v runs out at %v, says the error, which is past", longLease, held.Until)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// wantUntil wants the reported end of the lease on key to be ttl after the request
// for, which was at some time from began on.
func (t *trial) wantUntil(key string, began time.Time, ttl time.Duration, what string) {
	// Enough for clocks that are read at different moments, and too little for
	// whole seconds.
	const slack = 300 * time.Millisecond
	_, err := t.ask(t.store(), key, request("other"))
	now := time.Now()
	held, ok := errors.AsType[*state.HeldError](err)
	switch {
	case !ok && now.After(began.Add(ttl)):
		return // the machine was slow
	case !ok:
		t.errorf("%s: Acquire by another: %v, want a *state.HeldError", what, err)
	case held.Until.IsZero():
		t.skipf("leases end with their owner's process: there is no time to look at")
	case held.Until.Before(began.Add(ttl - slack)):
		t.errorf("%s runs out at %v, %v too early", what, held.Until, began.Add(ttl).Sub(held.Until))
	case held.Until.After(now.Add(ttl + slack)):
		t.errorf("%s runs out at %v, %v too late", what, held.Until, held.Until.Sub(now.Add(ttl)))
	}
}

func acquireUntil(t *trial) {
	s := t.store()
	for _, ttl := range []time.Duration{30_500 * time.Millisecond, 500 * time.Millisecond, longLease, 30 * 24 * time.Hour} {
		key, r := t.key(ttl.String()), request("first")
		r.TTL = ttl
		began := time.Now()
		if _, err := t.ask(s, key, r); err != nil {
			t.fatalf("Acquire for %v: %v", ttl, err)
		}
		t.wantUntil(key, began, ttl, "a lease of "+ttl.String())
	}
}

func acquireSameNonce(t *trial) {
	s, key := t.store(), t.key("k")
	r := request("first")
	first, err := t.ask(s, key, r)
	if err != nil {
		t.fatalf("Acquire: %v", err)
	}
	t.saveFenced(s, key, first.Fence, numbered(1, 3))
	for range 2 {
		again, err := t.ask(s, key, r)
		if err != nil {
			t.fatalf("Acquire again with the same nonce: %v, want the same grant", err)
		}
		if again.Fence != first.Fence {
			t.fatalf("Acquire again with the same nonce gives the epoch %d, want the same, %d", again.Fence.Epoch, first.Fence.Epoch)
		}
		t.wantGrant(again, numbered(1, 3), first.Fence.Epoch, 3)
	}
	t.saveFenced(s, key, first.Fence, numbered(2, 4))
	t.release(s, key, first.Fence)
	// Nobody holds it now, so the nonce finds nothing of its own.
	later, err := t.ask(s, key, r)
	if err != nil {
		t.fatalf("Acquire with the same nonce after Release: %v", err)
	}
	if later.Fence.Epoch <= first.Fence.Epoch {
		t.errorf("Acquire with the same nonce after Release gives the epoch %d, want one greater than %d", later.Fence.Epoch, first.Fence.Epoch)
	}
	t.want(t.leaser(s).SaveFenced(t.ctx, key, first.Fence, numbered(3, 5)), state.ErrFenced, "SaveFenced with the fence that was released")
}

func acquireSameOwner(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	g := t.acquire(a, key, "twin")
	for _, h := range []*handle{a, b} {
		_, err := t.ask(h, key, request("twin"))
		t.wantHeld(err, "twin", "Acquire with the holder's name and another nonce")
	}
	t.saveFenced(a, key, g.Fence, sample(1))
}

func acquireOwnerNames(t *trial) {
	s := t.store()
	for _, owner := range []string{"host-1:4711", "a b", "\"quoted\" \\ {json: 'x'}", "zwölf\n\t\x00\U0001F35D", "1", "{}", ":", "a:b|c,d;e"} {
		key := t.key(owner)
		g := t.acquire(s, key, owner)
		_, err := t.ask(s, key, request("second"))
		t.wantHeld(err, owner, "Acquire of a lease that is held")
		t.release(s, key, g.Fence)
	}
}

func acquireAfterRelease(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	for range 3 {
		for _, h := range []*handle{a, b} {
			g := t.acquire(h, key, "owner")
			t.release(h, key, g.Fence)
		}
	}
}

func acquireAfterExpiry(t *trial) {
	s, key := t.store(), t.key("k")
	t.leaser(s)
	_, old := t.lapsed(key, "first", numbered(1, 3))
	var g state.Grant
	err := t.once(func() (err error) { g, err = t.ask(s, key, request("second")); return err })
	if err != nil {
		t.fatalf("Acquire after the lease ran out: %v", err)
	}
	t.wantGrant(g, numbered(1, 3), old.Epoch, 3)
	if g.Fence.Epoch <= old.Epoch {
		t.errorf("the epoch is %d after the lease of epoch %d ran out, want a greater one", g.Fence.Epoch, old.Epoch)
	}
	t.want(t.leaser(s).SaveFenced(t.ctx, key, old, numbered(2, 4)), state.ErrFenced, "SaveFenced by the owner whose lease ran out, after another's grant")
	t.wantLoad(s, key, numbered(1, 3), old.Epoch)
	t.saveFenced(s, key, g.Fence, numbered(3, 4))
}

func acquireSteal(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	t.leaser(a)
	if !t.canSteal() {
		t.skipf("the store can't steal")
	}
	first := t.acquire(a, key, "first")
	t.saveFenced(a, key, first.Fence, numbered(1, 3))
	r := request("thief")
	r.Steal = true
	stolen, err := t.ask(b, key, r)
	if err != nil {
		t.fatalf("Acquire with Steal: %v", err)
	}
	t.wantGrant(stolen, numbered(1, 3), first.Fence.Epoch, 3)
	if stolen.Fence.Epoch <= first.Fence.Epoch {
		t.errorf("the thief's epoch is %d, want one greater than %d", stolen.Fence.Epoch, first.Fence.Epoch)
	}
	t.want(t.leaser(a).SaveFenced(t.ctx, key, first.Fence, numbered(2, 4)), state.ErrFenced, "SaveFenced by the owner whose lease was stolen")
	t.want(t.leaser(a).Renew(t.ctx, key, first.Fence, longLease), state.ErrFenced, "Renew by the owner whose lease was stolen")
	_, err = t.ask(a, key, request("first"))
	t.wantHeld(err, "thief", "Acquire by the owner whose lease was stolen")
	t.saveFenced(b, key, stolen.Fence, numbered(3, 4))
	free := t.key("free")
	if _, err := t.ask(a, free, r); err != nil {
		t.errorf("Acquire with Steal of a lease that nobody holds: %v", err)
	}
}

func acquireInvalid(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	noNonce := request("first")
	noNonce.Nonce = ""
	_, err := t.ask(s, key, noNonce)
	t.want(err, state.ErrInvalid, "Acquire without a nonce")
	_, err = t.ask(s, "", request("first"))
	t.want(err, state.ErrInvalid, "Acquire of the empty key")
	_, err = t.ask(s, "k\xff", request("first"))
	t.want(err, state.ErrInvalid, "Acquire of a key that is not UTF-8")
	notUTF8 := request("\xff")
	_, err = t.ask(s, key, notUTF8)
	t.want(err, state.ErrInvalid, "Acquire by an owner that is not UTF-8")
	g := t.acquire(s, key, "first") // the refusals granted nothing
	noToken := numbered(1, 1)
	noToken.Token = state.Checkpoint{}.Token
	t.want(l.SaveFenced(t.ctx, key, g.Fence, noToken), state.ErrInvalid, "SaveFenced of a checkpoint without a token")
	t.want(l.SaveFenced(t.ctx, key, g.Fence, numbered(1, state.MaxSequence+1)), state.ErrInvalid, "SaveFenced with sequence MaxSequence+1")
	t.wantNone(s, key)
	t.release(s, key, g.Fence)
	if t.endsWithProcess() {
		return // such stores ignore the TTL
	}
	for _, ttl := range []time.Duration{0, -time.Second, 999 * time.Microsecond} {
		r := request("first")
		r.TTL = ttl
		_, err := t.ask(s, key, r)
		t.want(err, state.ErrInvalid, "Acquire for %v", ttl)
	}
	t.acquire(s, key, "second")
}

func acquireEachKeyItsOwn(t *trial) {
	s, a, b := t.store(), t.key("a"), t.key("b")
	ga := t.acquire(s, a, "first")
	gb := t.acquire(s, b, "second")
	t.saveFenced(s, a, ga.Fence, sample(1))
	t.saveFenced(s, b, gb.Fence, sample(2))
	t.want(t.leaser(s).SaveFenced(t.ctx, a, gb.Fence, sample(3)), state.ErrFenced, "SaveFenced with the fence of another key's lease")
	t.release(s, b, gb.Fence)
	t.saveFenced(s, a, ga.Fence, sample(4))
	t.wantLoad(s, a, sample(4), ga.Fence.Epoch)
	t.wantLoad(s, b, sample(2), gb.Fence.Epoch)
}

func renewExtends(t *trial) {
	s, key := t.store(), t.key("k")
	l, r := t.leaser(s), request("first")
	r.TTL = 10 * time.Second
	g, err := t.ask(s, key, r)
	if err != nil {
		t.fatalf("Acquire: %v", err)
	}
	for _, ttl := range []time.Duration{60_500 * time.Millisecond, longLease} {
		began := time.Now()
		if err := l.Renew(t.ctx, key, g.Fence, ttl); err != nil {
			t.fatalf("Renew: %v", err)
		}
		t.saveFenced(s, key, g.Fence, sample(1))
		t.wantUntil(key, began, ttl, "a lease that was renewed for "+ttl.String())
	}
	began := time.Now()
	r.TTL = 45_500 * time.Millisecond
	if _, err := t.ask(s, key, r); err != nil {
		t.fatalf("Acquire with the same nonce: %v", err)
	}
	t.wantUntil(key, began, r.TTL, "a lease that was asked for again with the same nonce, for "+r.TTL.String())
}

func renewFenced(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	for _, f := range []state.Fence{{}, {Epoch: 1, Nonce: "n"}} {
		t.want(l.Renew(t.ctx, key, f, longLease), state.ErrFenced, "Renew of a key that was never leased")
	}
	g := t.acquire(s, key, "first")
	for what, f := range wrong(g.Fence) {
		t.want(l.Renew(t.ctx, key, f, longLease), state.ErrFenced, "Renew with %s", what)
	}
	t.want(l.Renew(t.ctx, key, g.Fence, longLease), nil, "Renew by the owner")
	t.release(s, key, g.Fence)
	t.want(l.Renew(t.ctx, key, g.Fence, longLease), state.ErrFenced, "Renew after Release")
	t.acquire(s, key, "second") // nothing of that made a lease
}

func renewAfterExpiry(t *trial) {
	s, key := t.store(), t.key("k")
	t.leaser(s)
	if t.h.ExpireLease == nil {
		t.skipf("the harness has no ExpireLease")
	}
	h, f := t.lapsed(key, "first")
	t.want(t.leaser(h).Renew(t.ctx, key, f, longLease), nil, "Renew of a lease that ran out and that nobody took")
	_, err := t.ask(s, key, request("second"))
	t.wantHeld(err, "first", "Acquire after that")
	t.saveFenced(h, key, f, sample(1))
}

func releaseNotCurrent(t *trial) {
	s, key := t.store(), t.key("k")
	l := t.leaser(s)
	t.want(l.Release(t.ctx, key, state.Fence{Epoch: 1, Nonce: "n"}), nil, "Release of a key that was never leased")
	g := t.acquire(s, key, "first")
	for what, f := range wrong(g.Fence) {
		t.want(l.Release(t.ctx, key, f), nil, "Release with %s", what)
	}
	_, err := t.ask(s, key, request("second"))
	t.wantHeld(err, "first", "Acquire after Release with fences that are not the current one")
	t.saveFenced(s, key, g.Fence, sample(1))
	t.release(s, key, g.Fence)
	t.want(l.Release(t.ctx, key, g.Fence), nil, "Release a second time")
	next := t.acquire(s, key, "second")
	t.want(l.Release(t.ctx, key, g.Fence), nil, "Release a third time, after another's grant")
	t.saveFenced(s, key, next.Fence, sample(2))
}

// wrong are fences that are not f, though near.
func wrong(f state.Fence) map[string]state.Fence {
	return map[string]state.Fence{
		"an older epoch":                  {Epoch: f.Epoch - 1, Nonce: f.Nonce},
		"a later epoch":                   {Epoch: f.Epoch + 1, Nonce: f.Nonce},
		"the epoch and another nonce":     {Epoch: f.Epoch, Nonce: rotate(f.Nonce)},
		"the epoch and no nonce":          {Epoch: f.Epoch},
		"the nonce and no epoch":          {Nonce: f.Nonce},
		"the nonce in lower case":         {Epoch: f.Epoch, Nonce: lower(f.Nonce)},
		"the nonce with something behind": {Epoch: f.Epoch, Nonce: f.Nonce + "x"},
	}
}
