package redisstore

import (
	"context"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Acquire is [state.Leaser]'s, and one round trip. Leases live by Redis's clock,
// to the millisecond; a lease of a fraction of one is rounded up. The
// checkpoint's time to live starts again.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	g, err := s.acquire(ctx, key, r)
	return g, s.fail("acquire", key, err)
}

func (s *Store) acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	if err := state.CheckKey(key); err != nil {
		return state.Grant{}, err
	}
	if err := record.CheckLeaseRequest(r); err != nil {
		return state.Grant{}, err
	}
	steal := 0
	if r.Steal {
		steal = 1
	}
	got, err := s.call(ctx, call{
		script: acquireScript, key: key, again: true,
		args: []any{r.Owner, r.Nonce, millis(r.TTL), steal, s.ttl},
	})
	if err != nil {
		return state.Grant{}, err
	}
	if got.text(0) != "GRANTED" || len(got) < 6 {
		return state.Grant{}, errNotOurs
	}
	g := state.Grant{
		Fence:        state.Fence{Epoch: got.number(1), Nonce: r.Nonce},
		LastSequence: got.number(2),
	}
	g.Checkpoint, g.LoadErr = got[3:].checkpoint()
	if g.LoadErr != nil && !isAbsence(g.LoadErr) {
		// The script doesn't parse the record. What can't be read is not granted.
		return state.Grant{}, withCleanup(g.LoadErr, s.Release(ctx, key, g.Fence))
	}
	return g, nil
}

// Renew is [state.Leaser]'s, and one round trip.
func (s *Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	if err := checkRenewal(key, ttl); err != nil {
		return s.fail("renew", key, err)
	}
	w := fenced(f)
	_, err := s.call(ctx, call{
		script: renewScript, key: key, again: true,
		args: []any{w.epoch(), w.fence.Nonce, millis(ttl), s.ttl},
	})
	return s.fail("renew", key, err)
}

// Release is [state.Leaser]'s, and one round trip.
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	if err := state.CheckKey(key); err != nil {
		return s.fail("release", key, err)
	}
	w := fenced(f)
	_, err := s.call(ctx, call{script: releaseScript, key: key, again: true, args: []any{w.epoch(), w.fence.Nonce}})
	return s.fail("release", key, err)
}

// SaveFenced is [state.Leaser]'s, and one round trip.
func (s *Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.save(ctx, key, fenced(f), cp)
}

// ClearFenced is [state.Leaser]'s, and one round trip.
func (s *Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	return s.clear(ctx, key, fenced(f))
}

func (s *Store) clear(ctx context.Context, key string, by writer) error {
	if err := state.CheckKey(key); err != nil {
		return s.fail("clear", key, err)
	}
	_, err := s.call(ctx, call{
		script: clearScript, key: key, again: by.fenced, args: []any{by.epoch(), by.fence.Nonce},
	})
	return s.fail("clear", key, err)
}

// millis is d in milliseconds, rounded up: a lease is never shorter than was asked for.
func millis(d time.Duration) int64 {
	return int64((d-1)/time.Millisecond) + 1
}

func checkRenewal(key string, ttl time.Duration) error {
	if err := state.CheckKey(key); err != nil {
		return err
	}
	return record.CheckLeaseRequest(state.LeaseRequest{Nonce: "any", TTL: ttl})
}
