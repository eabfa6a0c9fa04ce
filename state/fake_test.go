package state

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A fakeStore is a store by the rule book, with hooks: stores/memstore imports
// this package, whose own tests so can't use it.
type fakeStore struct {
	mu      sync.Mutex
	recs    map[string]Record
	closed  bool
	calls   []string                                                   // of every call, in order
	before  func(ctx context.Context, op, key string) error            // may refuse the call
	after   func(ctx context.Context, op, key string, err error) error // may lose its answer
	pinging error
}

func newFake() *fakeStore { return &fakeStore{recs: make(map[string]Record)} }

func (s *fakeStore) do(ctx context.Context, op, key string, f func(rec Record) (Record, error)) error {
	s.mu.Lock()
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, op, key); err != nil {
			return &Error{op, "fake", key, err}
		}
	}
	err := ctx.Err()
	s.mu.Lock()
	s.calls = append(s.calls, op)
	if err == nil {
		var rec Record
		if rec, err = f(s.recs[key]); err == nil {
			s.recs[key] = rec
		}
	}
	s.mu.Unlock()
	if after != nil {
		err = after(ctx, op, key, err)
	}
	if err != nil {
		return &Error{op, "fake", key, err}
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

func (s *fakeStore) Save(ctx context.Context, key string, cp Checkpoint) error {
	return s.SaveFenced(ctx, key, Fence{}, cp)
}

func (s *fakeStore) SaveFenced(ctx context.Context, key string, f Fence, cp Checkpoint) error {
	if err := CheckSave(key, cp); err != nil {
		return err
	}
	return s.do(ctx, "save", key, func(rec Record) (Record, error) { return Admit(rec, f, cp, time.Now()) })
}

func (s *fakeStore) Load(ctx context.Context, key string) (cp Checkpoint, err error) {
	err = s.do(ctx, "load", key, func(rec Record) (Record, error) {
		cp, err = rec.Load()
		return rec, err
	})
	return cp, err
}

func (s *fakeStore) Clear(ctx context.Context, key string) error {
	return s.ClearFenced(ctx, key, Fence{})
}

func (s *fakeStore) ClearFenced(ctx context.Context, key string, f Fence) error {
	return s.do(ctx, "clear", key, func(rec Record) (Record, error) { return AdmitClear(rec, f, time.Now()) })
}

func (s *fakeStore) Acquire(ctx context.Context, key string, r LeaseRequest) (g Grant, err error) {
	err = s.do(ctx, "acquire", key, func(rec Record) (Record, error) {
		rec, g, err = AdmitAcquire(rec, r, time.Now())
		return rec, err
	})
	return g, err
}

func (s *fakeStore) Renew(ctx context.Context, key string, f Fence, ttl time.Duration) error {
	return s.do(ctx, "renew", key, func(rec Record) (Record, error) { return AdmitRenew(rec, f, ttl, time.Now()) })
}

func (s *fakeStore) Release(ctx context.Context, key string, f Fence) error {
	return s.do(ctx, "release", key, func(rec Record) (Record, error) { return AdmitRelease(rec, f), nil })
}

func (s *fakeStore) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.recs)) {
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			err := s.do(ctx, "list", key, func(rec Record) (Record, error) { return rec, nil })
			if err != nil {
				yield(Entry{}, err)
				return
			}
			rec := s.recs[key]
			cp, err := rec.Load()
			if !yield(Entry{Key: key, Checkpoint: cp, Owner: rec.Owner, Err: err}, nil) {
				return
			}
		}
	}
}

func (s *fakeStore) SaveBatch(ctx context.Context, items []Item) []error {
	errs := CheckBatch(items)
	for i, it := range items {
		if errs[i] == nil {
			errs[i] = s.SaveFenced(ctx, it.Key, it.Fence, it.Checkpoint)
		}
	}
	return errs
}

func (s *fakeStore) Forget(ctx context.Context, key string) error {
	return s.do(ctx, "forget", key, func(Record) (Record, error) { return Record{}, nil })
}

func (s *fakeStore) Ping(context.Context) error { return s.pinging }
func (s *fakeStore) Volatile() bool             { return true }
func (s *fakeStore) Expires() time.Duration     { return time.Minute }
func (s *fakeStore) Close() error {
	s.closed = true
	return nil
}

// onlyStore has no capability.
type onlyStore struct{ Store }
