package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// mutants are well-known mistakes in a transactional sink. The suite must find each.
var mutants = map[string]func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error{
	"the checkpoint in a transaction of its own": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		if err := s.transact(ctx, func(tx pgx.Tx) error { return insert(s.key)(ctx, tx, b) }); err != nil {
			return err
		}
		return s.store.SaveFenced(ctx, s.key, f, cp)
	},
	"the fence not checked in the transaction": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		return s.transact(ctx, func(tx pgx.Tx) error {
			var current state.Fence
			err := tx.QueryRow(ctx, "select (record->>'epoch')::bigint, coalesce(record->>'nonce', '') from rigatoni_checkpoints where key = $1", s.key).Scan(&current.Epoch, &current.Nonce)
			if err != nil {
				return err
			}
			cp.Sequence = 0 // or it would be found by its sequence
			if _, err := s.store.SaveTx(ctx, tx, s.key, current, cp); err != nil {
				return err
			}
			return insert(s.key)(ctx, tx, b)
		})
	},
	"the lost answer of a commit taken for failure": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		return s.transact(ctx, func(tx pgx.Tx) error {
			if _, err := s.store.SaveTx(ctx, tx, s.key, f, cp); err != nil {
				return err
			}
			return insert(s.key)(ctx, tx, b) // a repetition too
		})
	},
	"the lost answer of a commit taken for success": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		tx, err := s.store.BeginTx(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		repeated, err := s.store.SaveTx(ctx, tx, s.key, f, cp)
		if err != nil || repeated {
			return err
		}
		if err := insert(s.key)(ctx, tx, b); err != nil {
			return err
		}
		_ = tx.Commit(ctx)
		return nil
	},
}

// A mutantSink is a sink with a mistake.
type mutantSink struct {
	store   *pgstore.Store
	key     string
	deliver func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error
}

func (s *mutantSink) Deliver(context.Context, *rigatoni.Batch) error {
	return rigatoni.Permanent(errors.New("DeliverAt only"))
}

func (s *mutantSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	return s.deliver(s, ctx, b, f, cp)
}

func (s *mutantSink) transact(ctx context.Context, do func(pgx.Tx) error) error {
	tx, err := s.store.BeginTx(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// A mutant is its destination.
type mutant struct {
	*pgstore.Store
	deliver func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error
}

func newMutant(pool *pgxpool.Pool, name string, timeout time.Duration) (mutant, error) {
	store, err := pgstore.New(pool, &pgstore.Options{CallTimeout: timeout})
	return mutant{store, mutants[name]}, err
}

func (m mutant) Checkpoints() state.Store { return m.Store }

func (m mutant) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return &mutantSink{m.Store, o.Key, m.deliver}, nil
}

func TestMutants(t *testing.T) {
	for name := range mutants {
		t.Run(name, func(t *testing.T) {
			url := newDatabase(t)
			pool := newPool(t, url, nil)
			t.Parallel()
			report, err := destinationtest.Check(t.Context(), destinationtest.Harness{
				Forgets: true, Short: true,
				Open: func(context.Context) (rigatoni.Destination, error) { return newMutant(pool, name, 20*time.Second) },
				OpenFaulty: func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
					f := &faults{Fault: fault}
					d, err := newMutant(newPool(t, url, f), name, time.Second)
					return d, f.reached, err
				},
				Read: read(pool),
			})
			if len(report.Failed()) == 0 {
				t.Fatalf("the mutant passes: %v", err)
			}
			for _, r := range report.Failed() {
				t.Logf("found by %s: %s", r.Name, r.Detail)
			}
		})
	}
}
