package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Save makes cp the checkpoint of key.
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, state.Fence{}, cp)
}

// SaveFenced is Save for the owner of the lease.
func (s *Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if f.IsZero() {
		return failed("save", key, state.ErrFenced)
	}
	return s.save(ctx, key, f, cp)
}

func (s *Store) save(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return failed("save", key, err)
	}
	return s.change(ctx, "save", key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.Admit(rec, f, cp, now)
	})
}

// SaveTx is SaveFenced inside a transaction of the caller's: it locks the row of key,
// and the checkpoint is saved if and when the transaction commits. Call it before
// anything else in the transaction, so that whoever has lost the lease, and an earlier
// attempt that is still running, can't have an effect.
//
// It reports true if cp has been saved already: an earlier transaction was committed
// and its answer was lost. What belongs to cp has then taken effect too: change
// nothing, and roll back.
//
// Any error ends the transaction: roll it back. A caller that may be suspended sets
// idle_in_transaction_session_timeout, or the server keeps the row locked for the one
// who takes over.
func (s *Store) SaveTx(ctx context.Context, tx pgx.Tx, key string, f state.Fence, cp state.Checkpoint) (repeated bool, err error) {
	if err := record.CheckSave(key, cp); err != nil {
		return false, failed("save", key, err)
	}
	if f.IsZero() {
		return false, failed("save", key, state.ErrFenced)
	}
	err = s.changeIn(ctx, tx, key, func(rec record.Record, now time.Time) (record.Record, error) {
		next, err := record.Admit(rec, f, cp, now)
		if err == nil && record.IsRepetition(rec, cp) {
			repeated, next = true, rec
		}
		return next, err
	})
	return repeated, failed("save", key, describe(err))
}

// FenceTx locks the row of key in a transaction of the caller's, as SaveTx does, and
// returns state.ErrFenced if f is not the fence of its lease. It writes nothing: it is
// for work of the owner's that belongs to no checkpoint.
func (s *Store) FenceTx(ctx context.Context, tx pgx.Tx, key string, f state.Fence) error {
	rec, _, err := s.read(ctx, tx, key, " for update")
	if err == nil && (f.IsZero() || rec.Fence() != f) {
		err = state.ErrFenced
	}
	return failed("check the fence", key, describe(err))
}

// Load returns the checkpoint of key.
func (s *Store) Load(ctx context.Context, key string) (cp state.Checkpoint, err error) {
	if err := state.CheckKey(key); err != nil {
		return cp, failed("load", key, err)
	}
	err = s.call(ctx, "load", key, func(ctx context.Context) error {
		rec, _, err := s.read(ctx, s.pool, key, "")
		if err == nil {
			cp, err = rec.Load()
		}
		return err
	})
	return cp, err
}

// Clear removes the checkpoint of key.
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, state.Fence{})
}

// ClearFenced is Clear for the owner of the lease.
func (s *Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	if f.IsZero() {
		return failed("clear", key, state.ErrFenced)
	}
	return s.clear(ctx, key, f)
}

func (s *Store) clear(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, "clear", key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.AdmitClear(rec, f, now)
	})
}

// Acquire grants the lease on key.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := s.change(ctx, "acquire", key, func(rec record.Record, now time.Time) (_ record.Record, err error) {
		rec, grant, err = record.AdmitAcquire(rec, r, now)
		return rec, err
	})
	if err != nil {
		return state.Grant{}, err
	}
	return grant, nil
}

// Renew extends the lease.
func (s *Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.change(ctx, "renew", key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.AdmitRenew(rec, f, ttl, now)
	})
}

// Release ends the lease.
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, "release", key, func(rec record.Record, _ time.Time) (record.Record, error) {
		return record.AdmitRelease(rec, f), nil
	})
}

// Forget removes the row of key, also one that can't be read.
func (s *Store) Forget(ctx context.Context, key string) error {
	if err := state.CheckKey(key); err != nil {
		return failed("forget", key, err)
	}
	return s.call(ctx, "forget", key, func(ctx context.Context) error {
		return s.transact(ctx, func(tx pgx.Tx) error {
			rec, now, err := s.read(ctx, tx, key, " for update")
			if err == nil && rec.Live(now) {
				return byThisClock(&state.HeldError{Owner: rec.Owner, Until: rec.LeaseUntil}, now)
			}
			if err != nil && !isDescribed(err) {
				return err
			}
			_, err = tx.Exec(ctx, "delete from "+s.table+" where key = $1", storedKey(key))
			return err
		})
	})
}

// call runs one call of the store within its time, and describes its error.
func (s *Store) call(ctx context.Context, op, key string, do func(context.Context) error) error {
	switch {
	case ctx.Err() != nil:
		return failed(op, key, ctx.Err())
	case s.closed.Load():
		return failed(op, key, state.ErrClosed)
	}
	limited, cancel := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancel()
	err := s.prepare(limited)
	if err == nil {
		err = do(limited)
	}
	if err != nil && s.closed.Load() && !isDescribed(err) {
		err = fmt.Errorf("%w: %w", state.ErrClosed, err)
	}
	return failed(op, key, describe(err))
}
