package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/examples/tablestore"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A Database is what is required of a database for exactly once: transactions over
// the rows and the checkpoint's record.
type Database interface {
	// Update runs do in a transaction, which is committed if do returns nil.
	Update(ctx context.Context, do func(Tx) error) error
}

// A Tx is a transaction.
type Tx interface {
	Record(key string) []byte          // nil for none; locks it, as SELECT … FOR UPDATE does
	SetRecord(key string, text []byte) // nil deletes it
	Append(row string)
}

// A Ledger is a destination that appends a row for each event, exactly once.
type Ledger struct{ DB Database }

// Open returns what to deliver to. The lease's fence comes with each call of
// DeliverAt, so there is nothing to prepare.
func (l Ledger) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return ledgerSink{l.DB, o.Key}, nil
}

// Checkpoints is the store of the checkpoints, which are in the same database.
func (l Ledger) Checkpoints() state.Store {
	return tablestore.Store{Table: recordTable{l.DB}}
}

type ledgerSink struct {
	db  Database
	key string
}

// Deliver is not called, since the sink is Transactional.
func (s ledgerSink) Deliver(context.Context, *rigatoni.Batch) error {
	return rigatoni.Permanent(fmt.Errorf("a ledger takes events with their checkpoint only"))
}

// DeliverAt appends the rows and saves the checkpoint, in one transaction.
func (s ledgerSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	return s.db.Update(ctx, func(tx Tx) error {
		var rec record.Record
		if text := tx.Record(s.key); text != nil {
			var err error
			if rec, err = record.Parse(text); err != nil {
				return err
			}
		}
		after, err := record.Admit(rec, f, cp, time.Now())
		if err != nil {
			return err // the lease is another's by now, say
		}
		if record.IsRepetition(rec, cp) {
			return nil // committed before, and the answer was lost
		}
		for _, ev := range b.Events {
			tx.Append(fmt.Sprint(ev.OperationType(), " ", ev.DocumentKey()))
		}
		text, err := after.AppendJSON(nil)
		tx.SetRecord(s.key, text)
		return err
	})
}

// A recordTable has the store's records in the database.
type recordTable struct{ db Database }

func (t recordTable) Update(ctx context.Context, key string, change func([]byte, time.Time) ([]byte, error)) error {
	return t.db.Update(ctx, func(tx Tx) error {
		text, err := change(tx.Record(key), time.Now())
		if err == nil {
			tx.SetRecord(key, text)
		}
		return err
	})
}
