package statetest

import (
	"errors"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// leaseMutants get leases, fences and epochs wrong.
var leaseMutants = []mutant{
	{"a lease that is held is granted", "Acquire/Held", acquires(func(old record.Record, r state.LeaseRequest) state.LeaseRequest { r.Steal = true; return r })},
	{"the refusal doesn't say who holds the lease", "Acquire/Held", errs(func(op string, err error) error {
		if errors.Is(err, state.ErrLeaseHeld) {
			return state.ErrLeaseHeld
		}
		return err
	})},
	{"the owner's name cut at a colon", "Acquire/OwnerNames", acquires(func(_ record.Record, r state.LeaseRequest) state.LeaseRequest {
		r.Owner, _, _ = strings.Cut(r.Owner, ":")
		return r
	})},
	{"the same owner re-enters", "Acquire/SameOwner", acquires(func(old record.Record, r state.LeaseRequest) state.LeaseRequest {
		r.Steal = r.Steal || r.Owner == old.Owner
		return r
	})},
	{"the same nonce is refused", "Acquire/SameNonce", acquires(func(old record.Record, r state.LeaseRequest) state.LeaseRequest {
		if r.Nonce == old.Nonce {
			r.Nonce += "'"
		}
		return r
	})},
	{"the same nonce gets another epoch", "Acquire/SameNonce", granted(func(old, rec record.Record, g *state.Grant) record.Record {
		if rec.Nonce == old.Nonce {
			rec.Epoch++
			g.Fence.Epoch++
		}
		return rec
	})},
	{"a nonce finds its lease after Release", "Acquire/SameNonce", func(b *bug) {
		b.admitRelease = func(old record.Record, f state.Fence) (record.Record, error) {
			if old.Fence() == f {
				old.LeaseUntil = time.Time{}
			}
			return old, nil
		}
	}},
	{"another nonce in the grant", "Acquire/GrantOfNew", granted(func(_, rec record.Record, g *state.Grant) record.Record { g.Fence.Nonce += "x"; return rec })},
	{"no error in the grant of a new key", "Acquire/GrantOfNew", granted(func(_, rec record.Record, g *state.Grant) record.Record { g.LoadErr = nil; return rec })},
	{"a grant without the checkpoint", "Acquire/GrantOfSaved", granted(func(_, rec record.Record, g *state.Grant) record.Record {
		g.Checkpoint = state.Checkpoint{}
		return rec
	})},
	{"a grant without the last sequence", "Acquire/LastSequence", granted(func(_, rec record.Record, g *state.Grant) record.Record {
		g.LastSequence = g.Checkpoint.Sequence
		return rec
	})},
	{"a TTL in seconds", "Acquire/Until", acquires(func(_ record.Record, r state.LeaseRequest) state.LeaseRequest {
		r.TTL = r.TTL.Truncate(time.Second)
		return r
	})},
	{"a release that releases nothing", "Acquire/AfterRelease", func(b *bug) {
		b.admitRelease = func(old record.Record, _ state.Fence) (record.Record, error) { return old, nil }
	}},
	{"a lease that never runs out", "Acquire/AfterExpiry", func(b *bug) {
		b.admitAcquire = func(old record.Record, r state.LeaseRequest, now time.Time) (record.Record, state.Grant, error) {
			if old.Nonce != "" && old.Nonce != r.Nonce {
				return old, state.Grant{}, &state.HeldError{Owner: old.Owner, Until: now.Add(time.Hour)}
			}
			return record.AdmitAcquire(old, r, now)
		}
	}},
	{"a thief gets the old epoch", "Acquire/Steal", granted(func(old, rec record.Record, g *state.Grant) record.Record {
		if old.Nonce != "" && old.Nonce != rec.Nonce {
			rec.Epoch, g.Fence.Epoch = old.Epoch, old.Epoch
		}
		return rec
	})},
	{"a request without a nonce", "Acquire/Invalid", acquires(func(_ record.Record, r state.LeaseRequest) state.LeaseRequest {
		if r.Nonce == "" {
			r.Nonce = "default"
		}
		return r
	})},
	{"a TTL of nothing", "Acquire/Invalid", acquires(func(_ record.Record, r state.LeaseRequest) state.LeaseRequest {
		r.TTL = max(r.TTL, time.Second)
		return r
	})},
	{"one lease for all keys", "Acquire/EachKeyItsOwn", func(b *bug) { b.admitAcquire = oneLease() }},
	{"renewal changes nothing", "Renew/Extends", func(b *bug) {
		b.admitRenew = func(old record.Record, f state.Fence, ttl time.Duration, now time.Time) (record.Record, error) {
			_, err := record.AdmitRenew(old, f, ttl, now)
			return old, err
		}
	}},
	{"renewal in seconds", "Renew/Extends", func(b *bug) {
		b.admitRenew = func(old record.Record, f state.Fence, ttl time.Duration, now time.Time) (record.Record, error) {
			return record.AdmitRenew(old, f, ttl.Truncate(time.Second), now)
		}
	}},
	{"anybody renews", "Renew/Fenced", func(b *bug) {
		b.admitRenew = func(old record.Record, f state.Fence, ttl time.Duration, now time.Time) (record.Record, error) {
			return record.AdmitRenew(old, old.Fence(), ttl, now)
		}
	}},
	{"a lost renewal is success", "Renew/Fenced", func(b *bug) {
		b.admitRenew = func(old record.Record, f state.Fence, ttl time.Duration, now time.Time) (record.Record, error) {
			if rec, err := record.AdmitRenew(old, f, ttl, now); err == nil {
				return rec, nil
			}
			return old, nil
		}
	}},
	{"no renewal of a lease that ran out", "Renew/AfterExpiry", func(b *bug) {
		b.admitRenew = func(old record.Record, f state.Fence, ttl time.Duration, now time.Time) (record.Record, error) {
			if !old.Live(now) {
				return old, state.ErrFenced
			}
			return record.AdmitRenew(old, f, ttl, now)
		}
	}},
	{"anybody releases", "Release/NotCurrent", func(b *bug) {
		b.admitRelease = func(old record.Record, _ state.Fence) (record.Record, error) {
			return record.AdmitRelease(old, old.Fence()), nil
		}
	}},
	{"a second release is an error", "Release/NotCurrent", func(b *bug) {
		b.admitRelease = func(old record.Record, f state.Fence) (record.Record, error) {
			if old.Fence() != f {
				return old, state.ErrFenced
			}
			return record.AdmitRelease(old, f), nil
		}
	}},

	// Epochs.
	{"the epoch starts again after Release", "Epoch/GrowsThroughRelease", func(b *bug) {
		b.admitRelease = func(old record.Record, f state.Fence) (record.Record, error) {
			rec := record.AdmitRelease(old, f)
			if rec.Nonce == "" {
				rec.Epoch = 0
			}
			return rec, nil
		}
	}},
	{"the epoch starts again after Clear", "Epoch/GrowsThroughClear", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			rec, err := record.AdmitClear(old, f, now)
			if err == nil && f.IsZero() {
				rec.Epoch = 0
			}
			return rec, err
		}
	}},
	{"the epoch starts again after the owner's Clear", "Epoch/GrowsThroughClearFenced", func(b *bug) {
		cleared := false
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			cleared = cleared || !f.IsZero()
			return record.AdmitClear(old, f, now)
		}
		b.admitRelease = func(old record.Record, f state.Fence) (record.Record, error) {
			rec := record.AdmitRelease(old, f)
			if cleared {
				rec.Epoch = 0
			}
			return rec, nil
		}
	}},
	{"the epoch is lost in an unfenced save", "Epoch/GrowsThroughSaves", admits(func(old, rec record.Record, _ state.Checkpoint) record.Record {
		if rec.Nonce == "" {
			rec.Epoch = 0
		}
		return rec
	})},
	{"a lease that ran out is taken over with its epoch", "Epoch/GrowsThroughExpiry", granted(func(old, rec record.Record, g *state.Grant) record.Record {
		if old.Nonce != "" {
			rec.Epoch, g.Fence.Epoch = old.Epoch, old.Epoch
		}
		return rec
	})},
	{"the epoch starts again on opening", "Reopen/Epoch", reopens(func(e *kept) { e.rec.Epoch = 0 })},
	{"the epoch expires with the checkpoint", "Expiry/Epoch", func(b *bug) { b.expire = func(r *record.Record) { r.Checkpoint, r.Epoch = state.Checkpoint{}, 0 } }},
	{"expired is absent in a grant", "Expiry/Grant", granted(func(_, rec record.Record, g *state.Grant) record.Record { g.LoadErr = none(g.LoadErr); return rec })},
	{"a damaged key is granted as a new one", "Damage/NotGranted", func(b *bug) { b.grants = func(*kept) error { return nil } }},

	// Fences.
	{"the owner is refused", "Fence/OwnerSaves", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if old.Checkpoint.Epoch == f.Epoch && !f.IsZero() {
				return old, state.ErrFenced // was it not saved already?
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"the epoch is not compared", "Fence/WrongEpoch", fences(func(old record.Record, f state.Fence) bool { return f.Nonce == old.Nonce })},
	{"a greater epoch is accepted", "Fence/WrongEpoch", fences(func(old record.Record, f state.Fence) bool { return f.Nonce == old.Nonce && f.Epoch > old.Epoch })},
	{"the nonce is not compared", "Fence/WrongNonce", fences(func(old record.Record, f state.Fence) bool { return f.Epoch == old.Epoch })},
	{"nonces compared without case", "Fence/WrongNonce", fences(func(old record.Record, f state.Fence) bool {
		return f.Epoch == old.Epoch && strings.EqualFold(f.Nonce, old.Nonce)
	})},
	{"a fence of nobody's on a key never leased", "Fence/NeverLeased", fences(func(old record.Record, f state.Fence) bool { return old.Epoch == 0 })},
	{"the zero fence is none needed", "Fence/Zero", func(b *bug) { b.zeroUnfenced = true }},
	{"a save doesn't look at the fence after Release", "Fence/AfterRelease", fences(func(old record.Record, f state.Fence) bool { return old.Nonce == "" && f.Epoch == old.Epoch })},
	{"the owner's sequences are not looked at", "Fence/Sequence", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if !f.IsZero() {
				old.LastSequence = 0
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"the owner's Clear ends the lease", "Fence/Clear", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			rec, err := record.AdmitClear(old, f, now)
			if err == nil {
				rec.Nonce = ""
			}
			return rec, err
		}
	}},
	{"Clear doesn't look at the fence", "Fence/ClearRefused", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			if !f.IsZero() {
				f = old.Fence()
			}
			return record.AdmitClear(old, f, now)
		}
	}},
	{"Load is refused under a lease", "Fence/LoadUnderLease", func(b *bug) {
		b.loads = func(_ *disk, e *kept) error {
			if e.rec.Live(time.Now()) {
				return &state.HeldError{Owner: e.rec.Owner}
			}
			return nil
		}
	}},
	{"Save under a lease", "Fence/UnfencedSave", unfenced(func(old record.Record, now time.Time) bool { return old.Live(now) })},
	{"Save under a lease names nobody", "Fence/UnfencedSave", errs(func(op string, err error) error {
		if held, ok := errors.AsType[*state.HeldError](err); ok && op == "save" {
			return &state.HeldError{Until: held.Until}
		}
		return err
	})},
	{"Clear under a lease", "Fence/UnfencedClear", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			return record.AdmitClear(old, old.Fence(), now)
		}
	}},
	{"Save after the lease ran out keeps the owner in", "Fence/UnfencedAfterExpiry", unfenced(func(old record.Record, now time.Time) bool { return old.Nonce != "" && !old.Live(now) })},
	{"Save after the lease ran out is refused", "Fence/UnfencedAfterExpiry", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if f.IsZero() && old.Nonce != "" {
				return old, &state.HeldError{Owner: old.Owner}
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"Clear after the lease ran out keeps the owner in", "Fence/UnfencedClearAfterExpiry", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			if f.IsZero() && old.Nonce != "" && !old.Live(now) {
				f = old.Fence()
			}
			return record.AdmitClear(old, f, now)
		}
	}},
	{"a key that was leased once takes no unfenced save", "Fence/UnfencedAfterRelease", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if f.IsZero() && old.Epoch != 0 {
				return old, &state.HeldError{Owner: "nobody"}
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"an unfenced save after a lapsed lease leaves its epoch in the checkpoint", "Random/Leases", admits(func(old, rec record.Record, _ state.Checkpoint) record.Record {
		rec.Checkpoint.Epoch = old.Epoch
		return rec
	})},
	{"the fence is looked at after the sequence", "Random/Leases", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if cp.Sequence != 0 && cp.Sequence < old.LastSequence {
				return old, state.ErrStale
			}
			return record.Admit(old, f, cp, now)
		}
	}},
}

// acquires asks for something else than what was asked for.
func acquires(other func(old record.Record, r state.LeaseRequest) state.LeaseRequest) func(b *bug) {
	return func(b *bug) {
		b.admitAcquire = func(old record.Record, r state.LeaseRequest, now time.Time) (record.Record, state.Grant, error) {
			return record.AdmitAcquire(old, other(old, r), now)
		}
	}
}

// granted changes what is granted.
func granted(spoil func(old, rec record.Record, g *state.Grant) record.Record) func(b *bug) {
	return func(b *bug) {
		b.admitAcquire = func(old record.Record, r state.LeaseRequest, now time.Time) (record.Record, state.Grant, error) {
			rec, g, err := record.AdmitAcquire(old, r, now)
			if err == nil {
				rec = spoil(old, rec, &g)
			}
			return rec, g, err
		}
	}
}

func oneLease() func(record.Record, state.LeaseRequest, time.Time) (record.Record, state.Grant, error) {
	var holder state.LeaseRequest
	return func(old record.Record, r state.LeaseRequest, now time.Time) (record.Record, state.Grant, error) {
		if holder.Nonce != "" && holder.Nonce != r.Nonce {
			return old, state.Grant{}, &state.HeldError{Owner: holder.Owner, Until: now.Add(time.Hour)}
		}
		holder = r
		return record.AdmitAcquire(old, r, now)
	}
}

// fences lets saves under fences pass that are not the current one.
func fences(misses func(old record.Record, f state.Fence) bool) func(b *bug) {
	return func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if !f.IsZero() && misses(old, f) {
				old.Epoch, old.Nonce = f.Epoch, f.Nonce
			}
			return record.Admit(old, f, cp, now)
		}
	}
}

// unfenced lets unfenced saves pass as the owner's.
func unfenced(misses func(old record.Record, now time.Time) bool) func(b *bug) {
	return func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if f.IsZero() && misses(old, now) {
				f = old.Fence()
			}
			return record.Admit(old, f, cp, now)
		}
	}
}

// errs changes the error that is returned.
func errs(spoil func(op string, err error) error) func(b *bug) {
	return func(b *bug) {
		b.fail = func(op, key string, err error) error {
			return &state.Error{Op: op, Store: "ref", Key: key, Err: spoil(op, err)}
		}
	}
}
