package record

import (
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Admit has the rules of a save: given the record of the key, it returns the record
// after cp is saved under fence f (zero: an unfenced save) at the time now, or the
// error with which the save is refused. It changes nothing else. Stores that can
// lock a record call it between reading and writing it; others, such as Redis with
// a script, implement the same rules in their own language, and statetest compares
// the two. Call [CheckSave] first. The new record shares cp's memory.
func Admit(old Record, f state.Fence, cp state.Checkpoint, now time.Time) (Record, error) {
	if err := admitFence(&old, f, now); err != nil {
		return Record{}, err
	}
	if cp.Sequence != 0 {
		switch {
		case cp.Sequence < old.LastSequence:
			return Record{}, fmt.Errorf("%w: sequence %d is below %d", state.ErrStale, cp.Sequence, old.LastSequence)
		case cp.Sequence == old.LastSequence:
			// A repeated save succeeds if the record shows that it is one. After
			// Clear or expiry it would bring the checkpoint back.
			if old.Status != Saved || old.Checkpoint.Sequence != cp.Sequence || old.Checkpoint.Token != cp.Token {
				return Record{}, fmt.Errorf("%w: sequence %d is already in use", state.ErrStale, cp.Sequence)
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

// IsRepetition reports whether cp, which [Admit] accepts, is what old has already:
// an earlier attempt to save it was executed and its answer was lost. Whoever
// writes more than the checkpoint in the same transaction calls it after Admit, and
// then writes nothing.
func IsRepetition(old Record, cp state.Checkpoint) bool {
	return cp.Sequence != 0 && old.Status == Saved && old.LastSequence == cp.Sequence && old.Checkpoint.Token == cp.Token
}

// AdmitClear has the rules of Clear and ClearFenced. If the new record is empty
// ([Record.IsEmpty]), the store need not keep it.
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

// AdmitAcquire has the rules of Acquire. If the nonce of the request already holds
// the lease, the lease is renewed and keeps its epoch.
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

// AdmitRenew has the rules of Renew.
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

// AdmitRelease has the rules of Release. It has no error, since there is nothing to
// release if the fence is not the current one.
func AdmitRelease(old Record, f state.Fence) Record {
	if !f.IsZero() && old.Fence() == f {
		old.Nonce, old.Owner, old.LeaseUntil = "", "", time.Time{}
	}
	return old
}

// admitFence checks a write under fence f. An unfenced write is admitted if no lease
// is live, and then fences off the owner of an expired one, who would otherwise
// overwrite it.
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
