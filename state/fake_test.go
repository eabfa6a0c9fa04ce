package state_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A fakeStore is a store by the rule book, with hooks: stores/memstore imports
// this package, whose own tests so can't use it.
type fakeStore struct {
	mu      sync.Mutex
	recs    map[string]record.Record
	closed  bool
	calls   []string                                                   // of every call, in order
	before  func(ctx context.Context, op, key string) error            // may refuse the call
	after   func(ctx context.Context, op, key string, err error) error // may lose its answer
	pinging error
}

func newFake() *fakeStore { return &fakeStore{recs: make(map[string]record.Record)} }

func (s *fakeStore) do(ctx context.Context, op, key string, f func(rec record.Record) (record.Record, error)) error {
	s.mu.Lock()
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, op, key); err != nil {
			return &state.Error{op, "fake", key, err}
		}
	}
	err := ctx.Err()
	s.mu.Lock()
	s.calls = append(s.calls, op)
	if err == nil {
		var rec record.Record
		if rec, err = f(s.recs[key]); err == nil {
			s.recs[key] = rec
		}
	}
	s.mu.Unlock()
	if after != nil {
		err = after(ctx, op, key, err)
	}
	if err != nil {
		return &state.Error{op, "fake", key, err}
	}
	return nil
}

// refuse sets before, and lose sets after, in the midst of calls.
func (s *fakeStore) refuse(before func(ctx context.Context, op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *fakeStore) lose(after func(ctx context.Context, op, key string, err error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = after
}

func (s *fakeStore) history() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *fakeStore) called(op string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == op {
			n++
		}
	}
	return n
}

func (s *fakeStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.SaveFenced(ctx, key, state.Fence{}, cp)
}

func (s *fakeStore) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return err
	}
	return s.do(ctx, "save", key, func(rec record.Record) (record.Record, error) { return record.Admit(rec, f, cp, time.Now()) })
}

func (s *fakeStore) Load(ctx context.Context, key string) (cp state.Checkpoint, err error) {
	err = s.do(ctx, "load", key, func(rec record.Record) (record.Record, error) {
		cp, err = rec.Load()
		return rec, err
	})
	return cp, err
}

func (s *fakeStore) Clear(ctx context.Context, key string) error {
	return s.ClearFenced(ctx, key, state.Fence{})
}

func (s *fakeStore) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	return s.do(ctx, "clear", key, func(rec record.Record) (record.Record, error) { return record.AdmitClear(rec, f, time.Now()) })
}

func (s *fakeStore) Acquire(ctx context.Context, key string, r state.LeaseRequest) (g state.Grant, err error) {
	err = s.do(ctx, "acquire", key, func(rec record.Record) (record.Record, error) {
		rec, g, err = record.AdmitAcquire(rec, r, time.Now())
		return rec, err
	})
	return g, err
}

func (s *fakeStore) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.do(ctx, "renew", key, func(rec record.Record) (record.Record, error) { return record.AdmitRenew(rec, f, ttl, time.Now()) })
}

func (s *fakeStore) Release(ctx context.Context, key string, f state.Fence) error {
	return s.do(ctx, "release", key, func(rec record.Record) (record.Record, error) { return record.AdmitRelease(rec, f), nil })
}

func (s *fakeStore) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.recs)) {
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			err := s.do(ctx, "list", key, func(rec record.Record) (record.Record, error) { return rec, nil })
			if err != nil {
				yield(state.Entry{}, err)
				return
			}
			rec := s.recs[key]
			cp, err := rec.Load()
			if !yield(state.Entry{Key: key, Checkpoint: cp, Owner: rec.Owner, LoadErr: err}, nil) {
				return
			}
		}
	}
}

func (s *fakeStore) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	for i, it := range items {
		if errs[i] == nil {
			errs[i] = s.SaveFenced(ctx, it.Key, it.Fence, it.Checkpoint)
		}
	}
	return errs
}

func (s *fakeStore) Forget(ctx context.Context, key string) error {
	return s.do(ctx, "forget", key, func(record.Record) (record.Record, error) { return record.Record{}, nil })
}

func (s *fakeStore) Ping(context.Context) error { return s.pinging }
func (s *fakeStore) Volatile() bool             { return true }
func (s *fakeStore) Expires() time.Duration     { return time.Minute }

func (s *fakeStore) String() string { return "fake:" }

func (s *fakeStore) Reopen(context.Context) (state.Store, error) { return newFake(), nil }

func (s *fakeStore) Legacy(context.Context) ([]string, error) { return []string{"old"}, nil }
func (s *fakeStore) Close() error {
	s.closed = true
	return nil
}

// onlyStore has no capability.
type onlyStore struct{ state.Store }
