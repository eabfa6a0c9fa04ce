// Package memstore keeps checkpoints in memory, for tests and development.
//
// It implements the whole contract of package
// [github.com/rigatoni-etl/rigatoni/state], including leases and fences, so that a
// test with it is valid for the other stores.
//
// It is not durable: the checkpoints are lost when the process ends, and other
// processes don't see them. A pipeline with this store starts at "now" after each
// restart, and misses the events in between.
package memstore

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A Store keeps checkpoints in memory. It has every capability of package state
// except [state.Expirer]. All methods may be called concurrently. A Save or Load of
// an existing key without Extra documents allocates nothing.
type Store struct {
	mu      sync.RWMutex
	records map[string]*record.Record
	closed  bool
}

var (
	_ state.Leaser     = (*Store)(nil)
	_ state.Lister     = (*Store)(nil)
	_ state.BatchSaver = (*Store)(nil)
	_ state.Forgetter  = (*Store)(nil)
	_ state.Pinger     = (*Store)(nil)
	_ state.Volatile   = (*Store)(nil)
)

// New returns an empty store.
func New() *Store { return &Store{records: make(map[string]*record.Record)} }

// OpenURL returns an empty store for the URL memory: (or memory://). It refuses a
// host, a path and parameters, so that nobody takes memory:/var/lib/x for a file.
func OpenURL(_ context.Context, u *url.URL) (*Store, error) {
	switch {
	case u.Scheme != "memory":
		return nil, fmt.Errorf("memstore: %w: the URL's scheme is %q; it must be \"memory\"", state.ErrInvalid, u.Scheme)
	case u.Opaque != "" || u.Host != "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("memstore: %w: the URL has more than \"memory:\"; write \"memory:\"", state.ErrInvalid)
	}
	return New(), nil
}

// String is the store's URL, memory:.
func (s *Store) String() string { return "memory:" }

func failed(op, key string, err error) error {
	return &state.Error{Op: op, Store: "memstore", Key: key, Err: err}
}

// ready is called by every method before anything else, with the lock held.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed {
		return state.ErrClosed
	}
	return nil
}

// Save implements [state.Store].
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, state.Fence{}, cp)
}

// SaveFenced implements [state.Leaser].
func (s *Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if f.IsZero() {
		return s.noFence(ctx, "save", key, record.CheckSave(key, cp))
	}
	return s.save(ctx, key, f, cp)
}

// noFence returns the error of a fenced write under the zero fence, which
// [record.Admit] would take for an unfenced one.
func (s *Store) noFence(ctx context.Context, op, key string, err error) error {
	if err == nil {
		s.mu.RLock()
		defer s.mu.RUnlock()
		if err = s.ready(ctx); err == nil {
			err = state.ErrFenced
		}
	}
	return failed(op, key, err)
}

func (s *Store) save(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return failed("save", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.ready(ctx)
	if err == nil {
		err = s.put(key, f, cp)
	}
	if err != nil {
		return failed("save", key, err)
	}
	return nil
}

// put saves with the lock held.
func (s *Store) put(key string, f state.Fence, cp state.Checkpoint) error {
	rec, known := s.records[key]
	if !known {
		rec = new(record.Record)
	}
	after, err := record.Admit(*rec, f, cp, time.Now())
	if err != nil {
		return err
	}
	after.Checkpoint = after.Checkpoint.Clone()
	*rec = after
	if !known {
		s.records[key] = rec
	}
	return nil
}

// SaveBatch implements [state.BatchSaver].
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, it := range items {
		if errs[i] == nil {
			errs[i] = s.ready(ctx)
		}
		if errs[i] == nil {
			errs[i] = s.put(it.Key, it.Fence, it.Checkpoint)
		}
		if errs[i] != nil {
			errs[i] = failed("save", it.Key, errs[i])
		}
	}
	return errs
}

// Load implements [state.Store].
func (s *Store) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	cp, err := s.load(ctx, key)
	if err != nil {
		return state.Checkpoint{}, failed("load", key, err)
	}
	return cp, nil
}

func (s *Store) load(ctx context.Context, key string) (state.Checkpoint, error) {
	if err := state.CheckKey(key); err != nil {
		return state.Checkpoint{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.ready(ctx); err != nil {
		return state.Checkpoint{}, err
	}
	rec, ok := s.records[key]
	if !ok {
		return state.Checkpoint{}, state.ErrNotFound
	}
	cp, err := rec.Load()
	return cp.Clone(), err
}

// Clear implements [state.Store].
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, state.Fence{})
}

// ClearFenced implements [state.Leaser].
func (s *Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	if f.IsZero() {
		return s.noFence(ctx, "clear", key, state.CheckKey(key))
	}
	return s.clear(ctx, key, f)
}

func (s *Store) clear(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, "clear", key, func(rec record.Record) (record.Record, error) {
		return record.AdmitClear(rec, f, time.Now())
	})
}

// change replaces the record of key by the one that f returns, unless f fails.
func (s *Store) change(ctx context.Context, op, key string, f func(record.Record) (record.Record, error)) error {
	if err := state.CheckKey(key); err != nil {
		return failed(op, key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return failed(op, key, err)
	}
	var before record.Record
	if rec, ok := s.records[key]; ok {
		before = *rec
	}
	after, err := f(before)
	switch {
	case err != nil:
		return failed(op, key, err)
	case after.IsEmpty():
		delete(s.records, key)
	default:
		s.records[key] = &after
	}
	return nil
}

// Forget implements [state.Forgetter].
func (s *Store) Forget(ctx context.Context, key string) error {
	return s.change(ctx, "forget", key, func(rec record.Record) (record.Record, error) {
		if rec.Live(time.Now()) {
			return rec, &state.HeldError{Owner: rec.Owner, Until: rec.LeaseUntil}
		}
		return record.Record{}, nil
	})
}

// Ping implements [state.Pinger].
func (s *Store) Ping(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.ready(ctx); err != nil {
		return failed("ping", "", err)
	}
	return nil
}

// Volatile implements [state.Volatile]. It returns true.
func (s *Store) Volatile() bool { return true }

// Close removes everything. A second Close does nothing and returns nil.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.records = true, nil
	return nil
}
