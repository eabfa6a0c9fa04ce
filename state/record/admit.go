package record

import (
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Admit is the rule book of a save, as a pure function: given what a store
// keeps for the key, it returns what the store must keep after cp was saved
// under fence f (zero: an unfenced save) at the time now, or the error with
// which the save is refused. Stores that can lock a record call it between
// reading and writing; stores that can't (Redis, with a script) do the same in
// their own language, and statetest holds the two together. [CheckSave] comes
// before it. The new record shares cp's memory.
func Admit(old Record, f state.Fence, cp state.Checkpoint, now time.Time) (Record, error) {
	if err := admitFence(&old, f, now); err != nil {
		return Record{}, err
	}
	if cp.Sequence != 0 {
		switch {
		case cp.Sequence < old.LastSequence:
			return Record{}, fmt.Errorf("%w: sequence %d is below %d", state.ErrStale, cp.Sequence, old.LastSequence)
		case cp.Sequence == old.LastSequence:
			// A repeated save is success, provided it can be seen to be one:
			// after Clear or expiry, it would bring back what is gone.
			if old.Status != Saved || old.Checkpoint.Sequence != cp.Sequence || old.Checkpoint.Token != cp.Token {
				return Record{}, fmt.Errorf("%w: sequence %d was used before", state.ErrStale, cp.Sequence)
			}
		}
		old.LastSequence = cp.Sequence
	}
	if cp.SavedAt.IsZero() {
		cp.SavedAt = now
	}
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = old.Epoch
	old.Status, old.Checkpoint = Saved, cp
	return old, nil
}

// AdmitClear is the rule book of Clear and ClearFenced. A record that comes out
// empty ([Record.IsEmpty]) need not be kept.
func AdmitClear(old Record, f state.Fence, now time.Time) (Record, error) {
	if err := admitFence(&old, f, now); err != nil {
		return Record{}, err
	}
	if old.Status == Saved {
		old.Status = Cleared
	}
	old.Checkpoint = state.Checkpoint{}
	return old, nil
}

// AdmitAcquire is the rule book of Acquire. If the nonce of the request holds
// the lease already, the lease is renewed and keeps its epoch.
func AdmitAcquire(old Record, r state.LeaseRequest, now time.Time) (Record, state.Grant, error) {
	if err := CheckLeaseRequest(r); err != nil {
		return Record{}, state.Grant{}, err
	}
	if old.Nonce != r.Nonce {
		if old.Live(now) && !r.Steal {
			return Record{}, state.Grant{}, &state.HeldError{Owner: old.Owner, Until: old.LeaseUntil}
		}
		old.Epoch++
		old.Nonce, old.Owner = r.Nonce, r.Owner
	}
	old.LeaseUntil = now.Add(r.TTL)
	cp, err := old.Load()
	return old, state.Grant{Fence: old.Fence(), Checkpoint: cp, LoadErr: err, LastSequence: old.LastSequence}, nil
}

// AdmitRenew is the rule book of Renew.
func AdmitRenew(old Record, f state.Fence, ttl time.Duration, now time.Time) (Record, error) {
	if f.IsZero() || old.Fence() != f {
		return Record{}, state.ErrFenced
	}
	if err := checkTTL(ttl); err != nil {
		return Record{}, err
	}
	old.LeaseUntil = now.Add(ttl)
	return old, nil
}

// AdmitRelease is the rule book of Release: without an error, since there is
// nothing to release where the fence is not the current one.
func AdmitRelease(old Record, f state.Fence) Record {
	if !f.IsZero() && old.Fence() == f {
		old.Nonce, old.Owner, old.LeaseUntil = "", "", time.Time{}
	}
	return old
}

// admitFence says whether a write under fence f is let through. An unfenced one
// is, where no lease is live; it then takes the place of the owner whose lease
// ran out, who would otherwise write over it.
func admitFence(rec *Record, f state.Fence, now time.Time) error {
	if !f.IsZero() {
		if rec.Fence() != f {
			return state.ErrFenced
		}
		return nil
	}
	if rec.Live(now) {
		return &state.HeldError{Owner: rec.Owner, Until: rec.LeaseUntil}
	}
	if rec.Nonce != "" {
		rec.Epoch++
		rec.Nonce, rec.Owner, rec.LeaseUntil = "", "", time.Time{}
	}
	return nil
}
