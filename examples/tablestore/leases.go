package tablestore

import (
	"cmp"
	"context"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// The pipeline requires leases, so that no second one works on the same stream.
// A store in a real database takes the time from there, not from its client.

// Acquire grants the lease on key.
func (s Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (g state.Grant, err error) {
	if err := cmp.Or(state.CheckKey(key), record.CheckLeaseRequest(r)); err != nil {
		return g, s.error("acquire", key, err)
	}
	err = s.update(ctx, "acquire", key, func(rec record.Record) (record.Record, error) {
		rec, g, err = record.AdmitAcquire(rec, r, time.Now())
		return rec, err
	})
	return g, err
}

// Renew extends the lease.
func (s Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.update(ctx, "renew", key, func(rec record.Record) (record.Record, error) {
		return record.AdmitRenew(rec, f, ttl, time.Now())
	})
}

// Release ends the lease.
func (s Store) Release(ctx context.Context, key string, f state.Fence) error {
	return s.update(ctx, "release", key, func(rec record.Record) (record.Record, error) {
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
