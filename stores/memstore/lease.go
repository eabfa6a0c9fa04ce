package memstore

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Acquire implements [state.Leaser]. It supports Steal.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	if err := record.CheckLeaseRequest(r); err != nil {
		return state.Grant{}, failed("acquire", key, err)
	}
	var grant state.Grant
	err := s.change(ctx, "acquire", key, func(rec record.Record) (after record.Record, err error) {
		after, grant, err = record.AdmitAcquire(rec, r, time.Now())
		return after, err
	})
	if err != nil {
		return state.Grant{}, err
	}
	grant.Checkpoint = grant.Checkpoint.Clone()
	return grant, nil
}

// Renew implements [state.Leaser].
func (s *Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.change(ctx, "renew", key, func(rec record.Record) (record.Record, error) {
		return record.AdmitRenew(rec, f, ttl, time.Now())
	})
}

// Release implements [state.Leaser].
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, "release", key, func(rec record.Record) (record.Record, error) {
		return record.AdmitRelease(rec, f), nil
	})
}

// List implements [state.Lister]. It takes a snapshot when the iteration begins,
// yields it sorted by key, and holds no lock meanwhile.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		entries, err := s.snapshot(ctx, prefix)
		for _, e := range entries {
			if err = ctx.Err(); err != nil || !yield(e, nil) {
				break
			}
		}
		if err != nil {
			yield(state.Entry{}, failed("list", prefix, err))
		}
	}
}

func (s *Store) snapshot(ctx context.Context, prefix string) ([]state.Entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	var entries []state.Entry
	now := time.Now()
	for key, rec := range s.records {
		live := rec.Live(now)
		if !strings.HasPrefix(key, prefix) || rec.Status != record.Saved && !live {
			continue
		}
		e := state.Entry{Key: key}
		if live {
			e.Owner, e.Until = rec.Owner, rec.LeaseUntil
		}
		if e.Checkpoint, e.LoadErr = rec.Load(); e.LoadErr != nil {
			e.LoadErr = failed("load", key, e.LoadErr)
		}
		e.Checkpoint = e.Checkpoint.Clone()
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b state.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries, nil
}
