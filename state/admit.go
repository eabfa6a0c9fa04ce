package state

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Status says what has become of a key's checkpoint.
type Status uint8

const (
	StatusNever   Status = iota // nothing was ever saved
	StatusSaved                 // a checkpoint was saved (and may have expired since)
	StatusCleared               // the checkpoint was cleared
)

// A Record is what a store keeps for one key. The zero Record is that of a key
// of which nothing is known.
type Record struct {
	Status Status
	// Checkpoint is the last one saved, if Status is StatusSaved. A store
	// whose checkpoints expire leaves its token zero where that has happened.
	Checkpoint Checkpoint
	// LastSequence is the greatest sequence ever accepted.
	LastSequence uint64

	// Epoch is that of the last lease, or one more where an unfenced write has
	// shut its owner out. 0: the key was never leased.
	Epoch uint64
	// Nonce is that of the current fence, "" if there is none.
	Nonce string
	// Owner is who was granted the current fence.
	Owner string
	// LeaseUntil is when the lease runs out. A store whose leases live by other
	// means than the clock sets it to a moment after or before now, as the case
	// is, before it asks the functions below.
	LeaseUntil time.Time

	// Unknown holds the fields of the stored form that this version knows
	// nothing of; they are written back as they came.
	Unknown map[string]json.RawMessage
}

// Fence is the current fence, zero if there is none.
func (r *Record) Fence() Fence {
	if r.Nonce == "" {
		return Fence{}
	}
	return Fence{Epoch: r.Epoch, Nonce: r.Nonce}
}

// Live tells whether a lease is held at the time now.
func (r *Record) Live(now time.Time) bool { return r.Nonce != "" && now.Before(r.LeaseUntil) }

// IsEmpty tells whether the record says nothing that must be kept.
func (r *Record) IsEmpty() bool {
	return r.Status != StatusSaved && r.Epoch == 0 && r.LastSequence == 0 && len(r.Unknown) == 0
}

// Load is the answer of [Store.Load]. The checkpoint shares the record's memory.
func (r *Record) Load() (Checkpoint, error) {
	switch {
	case r.Status != StatusSaved:
		return Checkpoint{}, ErrNotFound
	case r.Checkpoint.Token.IsZero():
		return Checkpoint{}, ErrExpired
	}
	return r.Checkpoint, nil
}

// Admit is the rule book of a save, as a pure function: given what a store
// keeps for the key, it returns what the store must keep after cp was saved
// under fence f (zero: an unfenced save) at the time now, or the error with
// which the save is refused. Stores that can lock a record call it between
// reading and writing; stores that can't (Redis, with a script) do the same in
// their own language, and statetest holds the two together. [CheckSave] comes
// before it. The new record shares cp's memory.
func Admit(old Record, f Fence, cp Checkpoint, now time.Time) (Record, error) {
	if err := admitFence(&old, f, now); err != nil {
		return Record{}, err
	}
	if cp.Sequence != 0 {
		switch {
		case cp.Sequence < old.LastSequence:
			return Record{}, fmt.Errorf("%w: sequence %d is below %d", ErrStale, cp.Sequence, old.LastSequence)
		case cp.Sequence == old.LastSequence:
			// A repeated save is success, provided it can be seen to be one:
			// after Clear or expiry, it would bring back what is gone.
			if old.Status != StatusSaved || old.Checkpoint.Sequence != cp.Sequence || old.Checkpoint.Token != cp.Token {
				return Record{}, fmt.Errorf("%w: sequence %d was used before", ErrStale, cp.Sequence)
			}
		}
		old.LastSequence = cp.Sequence
	}
	if cp.SavedAt.IsZero() {
		cp.SavedAt = now
	}
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = old.Epoch
	old.Status, old.Checkpoint = StatusSaved, cp
	return old, nil
}

// AdmitClear is the rule book of Clear and ClearFenced. A record that comes out
// empty ([Record.IsEmpty]) need not be kept.
func AdmitClear(old Record, f Fence, now time.Time) (Record, error) {
	if err := admitFence(&old, f, now); err != nil {
		return Record{}, err
	}
	if old.Status == StatusSaved {
		old.Status = StatusCleared
	}
	old.Checkpoint = Checkpoint{}
	return old, nil
}

// AdmitAcquire is the rule book of Acquire. If the nonce of the request holds
// the lease already, the lease is renewed and keeps its epoch.
func AdmitAcquire(old Record, r LeaseRequest, now time.Time) (Record, Grant, error) {
	if err := CheckLeaseRequest(r); err != nil {
		return Record{}, Grant{}, err
	}
	if old.Nonce != r.Nonce {
		if old.Live(now) && !r.Steal {
			return Record{}, Grant{}, &HeldError{Owner: old.Owner, Until: old.LeaseUntil}
		}
		old.Epoch++
		old.Nonce, old.Owner = r.Nonce, r.Owner
	}
	old.LeaseUntil = now.Add(r.TTL)
	cp, err := old.Load()
	return old, Grant{Fence: old.Fence(), Checkpoint: cp, Err: err, LastSequence: old.LastSequence}, nil
}

// AdmitRenew is the rule book of Renew.
func AdmitRenew(old Record, f Fence, ttl time.Duration, now time.Time) (Record, error) {
	if f.IsZero() || old.Fence() != f {
		return Record{}, ErrFenced
	}
	if ttl < time.Millisecond {
		return Record{}, fmt.Errorf("%w: a lease of %v is shorter than a millisecond", ErrInvalid, ttl)
	}
	old.LeaseUntil = now.Add(ttl)
	return old, nil
}

// AdmitRelease is the rule book of Release: without an error, since there is
// nothing to release where the fence is not the current one.
func AdmitRelease(old Record, f Fence) Record {
	if !f.IsZero() && old.Fence() == f {
		old.Nonce, old.Owner, old.LeaseUntil = "", "", time.Time{}
	}
	return old
}

// CheckLeaseRequest returns nil if the request is complete, and otherwise an
// [ErrInvalid].
func CheckLeaseRequest(r LeaseRequest) error {
	switch {
	case r.Nonce == "":
		return fmt.Errorf("%w: the lease request has no nonce", ErrInvalid)
	case !utf8.ValidString(r.Nonce) || !utf8.ValidString(r.Owner):
		return fmt.Errorf("%w: the lease request's nonce or owner is not UTF-8", ErrInvalid)
	case r.TTL < time.Millisecond:
		return fmt.Errorf("%w: a lease of %v is shorter than a millisecond", ErrInvalid, r.TTL)
	}
	return nil
}

// admitFence says whether a write under fence f is let through. An unfenced one
// is, where no lease is live; it then takes the place of the owner whose lease
// ran out, who would otherwise write over it.
func admitFence(rec *Record, f Fence, now time.Time) error {
	if !f.IsZero() {
		if rec.Fence() != f {
			return ErrFenced
		}
		return nil
	}
	if rec.Live(now) {
		return &HeldError{Owner: rec.Owner, Until: rec.LeaseUntil}
	}
	if rec.Nonce != "" {
		rec.Epoch++
		rec.Nonce, rec.Owner, rec.LeaseUntil = "", "", time.Time{}
	}
	return nil
}
