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

// A Status is the status of a key's checkpoint.
type Status uint8

const (
	Never   Status = iota // no checkpoint was ever saved
	Saved                 // a checkpoint was saved; it may have expired
	Cleared               // the checkpoint was cleared
)

// A Record is what a store keeps for one key. The zero Record is that of an unknown
// key.
type Record struct {
	Status Status
	// Checkpoint is the last saved checkpoint, if Status is Saved. A store whose
	// checkpoints expire sets the token of an expired one to zero.
	Checkpoint state.Checkpoint
	// LastSequence is the greatest accepted sequence.
	LastSequence uint64

	// Epoch is the epoch of the last lease, or the next one if an unfenced write
	// has fenced off its owner. 0 means that the key was never leased.
	Epoch uint64
	// Nonce is the nonce of the current fence, "" if there is none.
	Nonce string
	// Owner is the owner of the current fence.
	Owner string
	// LeaseUntil is the time at which the lease expires. A store whose leases don't
	// depend on the clock sets it to a time after or before now before it calls the
	// functions of this package.
	LeaseUntil time.Time

	// Unknown holds the fields of the stored form that this version doesn't know;
	// they are written back unchanged.
	Unknown map[string]json.RawMessage
}

// Fence returns the current fence, zero if there is none.
func (r *Record) Fence() state.Fence {
	if r.Nonce == "" {
		return state.Fence{}
	}
	return state.Fence{Epoch: r.Epoch, Nonce: r.Nonce}
}

// Live reports whether a lease is held at the time now.
func (r *Record) Live(now time.Time) bool { return r.Nonce != "" && now.Before(r.LeaseUntil) }

// IsEmpty reports whether the record has nothing that a store must keep.
func (r *Record) IsEmpty() bool {
	return r.Status != Saved && r.Epoch == 0 && r.LastSequence == 0 && len(r.Unknown) == 0
}

// Load returns the results of [state.Store.Load]. The checkpoint shares the record's
// memory.
func (r *Record) Load() (state.Checkpoint, error) {
	switch {
	case r.Status != Saved:
		return state.Checkpoint{}, state.ErrNotFound
	case r.Checkpoint.Token.IsZero():
		return state.Checkpoint{}, state.ErrExpired
	}
	return r.Checkpoint, nil
}
