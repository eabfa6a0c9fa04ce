// Package tablestore is a state store over a table of any database: an example of how
// to write one. store_test.go tests it against the contract.
package tablestore

import (
	"context"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A Table is all that the store needs of a database: reading and writing a row
// while nobody else does. "SELECT … FOR UPDATE" in a transaction does that.
type Table interface {
	// Update calls change with the row of key (nil if there is none) and the
	// database's time, and keeps the row that it returns (nil for none). If change
	// fails, the row is unchanged.
	Update(ctx context.Context, key string, change func(row []byte, now time.Time) ([]byte, error)) error
}

// A Store keeps checkpoints in a Table. It is a complete state.Store and
// state.Leaser: package record has the rules and the form of a row.
type Store struct{ Table Table }

var _ state.Leaser = Store{}

// Save makes cp the checkpoint of key.
func (s Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, state.Fence{}, cp)
}

// Load returns the checkpoint of key.
func (s Store) Load(ctx context.Context, key string) (cp state.Checkpoint, err error) {
	err = s.update(ctx, "load", key, func(rec record.Record, _ time.Time) (record.Record, error) {
		cp, err = rec.Load()
		return rec, err
	})
	return cp, err
}

// Clear removes the checkpoint of key.
func (s Store) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, state.Fence{})
}

// Acquire grants the lease on key.
func (s Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := s.update(ctx, "acquire", key, func(rec record.Record, now time.Time) (_ record.Record, err error) {
		rec, grant, err = record.AdmitAcquire(rec, r, now)
		return rec, err
	})
	return grant, err
}

// Renew extends the lease.
func (s Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.update(ctx, "renew", key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.AdmitRenew(rec, f, ttl, now)
	})
}

// Release ends the lease.
func (s Store) Release(ctx context.Context, key string, f state.Fence) error {
	return s.update(ctx, "release", key, func(rec record.Record, _ time.Time) (record.Record, error) {
		return record.AdmitRelease(rec, f), nil
	})
}

// SaveFenced is Save for the owner of the lease.
func (s Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if f.IsZero() {
		return s.error("save", key, state.ErrFenced)
	}
	return s.save(ctx, key, f, cp)
}

// ClearFenced is Clear for the owner of the lease.
func (s Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	if f.IsZero() {
		return s.error("clear", key, state.ErrFenced)
	}
	return s.clear(ctx, key, f)
}

func (s Store) save(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return s.error("save", key, err)
	}
	return s.update(ctx, "save", key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.Admit(rec, f, cp, now)
	})
}

func (s Store) clear(ctx context.Context, key string, f state.Fence) error {
	return s.update(ctx, "clear", key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.AdmitClear(rec, f, now)
	})
}

// update replaces the record of key by the one that change returns.
func (s Store) update(ctx context.Context, op, key string, change func(record.Record, time.Time) (record.Record, error)) error {
	if err := ctx.Err(); err != nil {
		return s.error(op, key, err)
	}
	if err := state.CheckKey(key); err != nil {
		return s.error(op, key, err)
	}
	var refused error // by the rules, not by the table
	err := s.Table.Update(ctx, key, func(row []byte, now time.Time) ([]byte, error) {
		var rec record.Record
		if row != nil {
			if rec, refused = record.Parse(row); refused != nil {
				return nil, refused
			}
		}
		if rec, refused = change(rec, now); refused != nil {
			return nil, refused
		}
		if rec.IsEmpty() {
			return nil, nil
		}
		return rec.AppendJSON(nil)
	})
	switch {
	case refused != nil:
		return s.error(op, key, refused)
	case err != nil:
		return s.error(op, key, fmt.Errorf("%w: %w", state.ErrUnavailable, err))
	}
	return nil
}

func (s Store) error(op, key string, err error) error {
	return &state.Error{Op: op, Store: "table", Key: key, Err: err}
}
