package postgres_test

import (
	"cmp"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// mutants are well-known mistakes in a transactional sink. The suite must find each.
var mutants = map[string]func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error{
	"the checkpoint in a transaction of its own": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		if err := s.transact(ctx, func(tx pgx.Tx) error { return s.apply(ctx, tx, b) }); err != nil {
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
			return s.apply(ctx, tx, b)
		})
	},
	"the lost answer of a commit taken for failure": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		return s.transact(ctx, func(tx pgx.Tx) error {
			if _, err := s.store.SaveTx(ctx, tx, s.key, f, cp); err != nil {
				return err
			}
			return s.apply(ctx, tx, b) // a repetition too
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
		if err := s.apply(ctx, tx, b); err != nil {
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
	apply   postgres.TxFunc
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

// A mutant is its destination. With perKey it writes what a ready-made mode writes.
type mutant struct {
	*pgstore.Store
	mode    *perKey
	deliver func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error
}

func newMutant(pool *pgxpool.Pool, name, mode string, timeout time.Duration) (mutant, error) {
	store, err := pgstore.New(pool, &pgstore.Options{CallTimeout: timeout})
	if err != nil || mode == "" {
		return mutant{store, nil, mutants[name]}, err
	}
	d, err := newPerKey(pool, postgres.Options{Mode: mode, CallTimeout: timeout})
	return mutant{store, &d, mutants[name]}, err
}

func (m mutant) Checkpoints() state.Store { return m.Store }

func (m mutant) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	if m.mode == nil {
		return &mutantSink{m.Store, o.Key, insert(o.Key), m.deliver}, nil
	}
	sink, err := m.mode.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return &mutantSink{m.Store, o.Key, postgres.Apply(sink), m.deliver}, nil
}

// Each mutant is found with each way to write, but for one that a mirror forgives: a batch
// that is applied twice leaves the same rows.
func TestMutants(t *testing.T) {
	for name := range mutants {
		modes := []string{""}
		if os.Getenv("RIGATONI_CAMPAIGN") == "full" {
			modes = append(modes, postgres.Mirror, postgres.Log)
		}
		for _, mode := range modes {
			if mode == postgres.Mirror && name == "the lost answer of a commit taken for failure" {
				continue
			}
			t.Run(name+"/"+cmp.Or(mode, "Tx"), func(t *testing.T) {
				if mode != "" {
					t.Parallel()
				}
				url := newDatabase(t)
				pool := newPool(t, url, nil)
				report, err := destinationtest.Check(t.Context(), destinationtest.Harness{
					Forgets: mode == "", Short: true, Mirror: mode == postgres.Mirror,
					Open: func(context.Context) (rigatoni.Destination, error) {
						return newMutant(pool, name, mode, 20*time.Second)
					},
					OpenFaulty: func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
						f := &faults{Fault: fault}
						d, err := newMutant(newPool(t, url, f), name, mode, time.Second)
						return d, f.reached, err
					},
					Read: map[string]func(context.Context, string) ([]destinationtest.Record, error){
						"": read(pool), postgres.Mirror: readTable(pool, mirrorQuery), postgres.Log: readTable(pool, logQuery),
					}[mode],
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
}
