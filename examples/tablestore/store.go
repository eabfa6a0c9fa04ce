// Package tablestore is a state store over a table of any database, in 130 lines:
// an example of how to write one. store_test.go checks it against the contract.
package tablestore

import (
	"context"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A Table is what a database must be able to do: read a row and write it while
// nobody else does. "SELECT … FOR UPDATE" in a transaction does that.
type Table interface {
	// Update calls change with the row of that key (nil: none) and keeps what it
	// returns (nil: no row). If change fails, the row stays as it was.
	Update(ctx context.Context, key string, change func(row []byte) ([]byte, error)) error
}

// A Store keeps checkpoints in a Table. It has leases (leases.go). It is durable if
// the table is, and follows every rule of the contract: they are the functions of
// package record, and record.Record has the form to store.
type Store struct{ Table Table }

var _ state.Leaser = Store{}

// Save makes cp the checkpoint of key.
func (s Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, state.Fence{}, cp)
}

func (s Store) save(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return s.error("save", key, err)
	}
	return s.update(ctx, "save", key, func(rec record.Record) (record.Record, error) {
		return record.Admit(rec, f, cp, time.Now())
	})
}

// Load returns the checkpoint of key.
func (s Store) Load(ctx context.Context, key string) (cp state.Checkpoint, err error) {
	if err := state.CheckKey(key); err != nil {
		return cp, s.error("load", key, err)
	}
	err = s.update(ctx, "load", key, func(rec record.Record) (record.Record, error) {
		cp, err = rec.Load()
		return rec, err
	})
	return cp, err
}

// Clear takes the checkpoint of key away.
func (s Store) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, state.Fence{})
}

func (s Store) clear(ctx context.Context, key string, f state.Fence) error {
	if err := state.CheckKey(key); err != nil {
		return s.error("clear", key, err)
	}
	return s.update(ctx, "clear", key, func(rec record.Record) (record.Record, error) {
		return record.AdmitClear(rec, f, time.Now())
	})
}

func (s Store) update(ctx context.Context, op, key string, change func(record.Record) (record.Record, error)) error {
	if err := ctx.Err(); err != nil {
		return s.error(op, key, err)
	}
	var refused error // by the rules, not by the table
	err := s.Table.Update(ctx, key, func(row []byte) ([]byte, error) {
		var rec record.Record
		if row != nil {
			if rec, refused = record.Parse(row); refused != nil {
				return nil, refused
			}
		}
		if rec, refused = change(rec); refused != nil {
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
