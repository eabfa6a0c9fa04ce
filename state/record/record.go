// Package record is the kit for authors of a store: what a store keeps for a key
// ([Record], with its form as JSON), and the rules of the contract of
// [state.Store] and [state.Leaser] as pure functions ([Admit] and the functions
// whose names begin with it).
//
// A store that can lock a record calls them between reading it and writing it:
//
//	rec, err := record.Parse(row)
//	rec, err = record.Admit(rec, fence, checkpoint, now)
//	row, err = rec.AppendJSON(nil)
//
// Programs that use a store need only package [state].
package record

import (
	"encoding/json"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Status says what has become of a key's checkpoint.
type Status uint8

const (
	Never   Status = iota // nothing was ever saved
	Saved                 // a checkpoint was saved (and may have expired since)
	Cleared               // the checkpoint was cleared
)

// A Record is what a store keeps for one key. The zero Record is that of a key
// of which nothing is known.
type Record struct {
	Status Status
	// Checkpoint is the last one saved, if Status is StatusSaved. A store
	// whose checkpoints expire leaves its token zero where that has happened.
	Checkpoint state.Checkpoint
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
func (r *Record) Fence() state.Fence {
	if r.Nonce == "" {
		return state.Fence{}
	}
	return state.Fence{Epoch: r.Epoch, Nonce: r.Nonce}
}

// Live tells whether a lease is held at the time now.
func (r *Record) Live(now time.Time) bool { return r.Nonce != "" && now.Before(r.LeaseUntil) }

// IsEmpty tells whether the record says nothing that must be kept.
func (r *Record) IsEmpty() bool {
	return r.Status != Saved && r.Epoch == 0 && r.LastSequence == 0 && len(r.Unknown) == 0
}

// Load is the answer of [state.Store.Load]. The checkpoint shares the record's memory.
func (r *Record) Load() (state.Checkpoint, error) {
	switch {
	case r.Status != Saved:
		return state.Checkpoint{}, state.ErrNotFound
	case r.Checkpoint.Token.IsZero():
		return state.Checkpoint{}, state.ErrExpired
	}
	return r.Checkpoint, nil
}
