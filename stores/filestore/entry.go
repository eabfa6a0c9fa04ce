package filestore

import (
	"container/list"
	"context"
	"errors"
	"path/filepath"

	"github.com/rigatoni-etl/rigatoni/state"
)

// An entry is a key in use. Its files stay open while it is leased, and for a while
// after a save without a lease.
type entry struct {
	key, path string

	// busy is held by the one call that may write. It is a channel so that waiting
	// for it can end with a context.
	busy chan struct{}
	lock lockFile // guarded by busy
	file *keyFile // guarded by busy; nil: must be read first

	// lease is guarded by Store.mu, so that a renewal need not wait for a save.
	lease *lease

	refs int // guarded by Store.mu: calls that use the entry

	// Its position among the idle keys while no call uses it; guarded by Store.mu.
	idle *list.List
	at   *list.Element
}

// enter begins a call that may write: it checks the key and waits until no other call
// uses it. leave ends it.
func (s *Store) enter(ctx context.Context, key string) (*entry, error) {
	if err := s.check(ctx, key); err != nil {
		return nil, err
	}
	e, err := s.entry(key)
	if err != nil {
		return nil, err
	}
	select {
	case e.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.letGo(e))
	case <-s.done:
		return nil, errors.Join(state.ErrClosed, s.letGo(e))
	}
	if s.isClosed() {
		<-e.busy
		return nil, errors.Join(state.ErrClosed, s.letGo(e))
	}
	return e, nil
}

// check is what comes before anything is touched.
func (s *Store) check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosed() {
		return state.ErrClosed
	}
	return state.CheckKey(key)
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Store) entry(key string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, state.ErrClosed
	}
	e := s.entries[key]
	if e == nil {
		e = &entry{key: key, path: s.path(key), busy: make(chan struct{}, 1)}
		e.lock = lockFile{sys: s.sys, path: s.lockPath(key)}
		s.entries[key] = e
	}
	e.refs++
	s.idle.use(e)
	return e, nil
}

func (s *Store) path(key string) string     { return filepath.Join(s.dir, stem(key)+dataSuffix) }
func (s *Store) lockPath(key string) string { return filepath.Join(s.dir, stem(key)+lockSuffix) }

// leave ends a call that enter began.
func (s *Store) leave(e *entry) error {
	<-e.busy
	return s.letGo(e)
}

func (e *entry) close() error {
	return errors.Join(e.forgetFile(), e.lock.close())
}

// forgetFile closes the entry's file, so that the next call reads it again.
func (e *entry) forgetFile() error {
	if e.file == nil {
		return nil
	}
	err := e.file.drop()
	e.file = nil
	return err
}

// unfenced runs a write without a lease, under the key's lock. What do returns is
// what it returns, and after an error nothing that was in memory is trusted.
func (s *Store) unfenced(ctx context.Context, key string, do func(*keyFile) error) error {
	e, err := s.enter(ctx, key)
	if err != nil {
		return err
	}
	err = s.whileLocked(ctx, e, func() error {
		if err := e.refresh(s); err != nil {
			return err
		}
		if err := do(e.file); err != nil {
			return errors.Join(err, e.forgetFile())
		}
		return nil
	})
	return errors.Join(err, s.leave(e))
}

// whileLocked holds the key's lock for the moment of do.
func (s *Store) whileLocked(ctx context.Context, e *entry, do func() error) error {
	if err := s.lock(ctx, e); err != nil {
		return err
	}
	return errors.Join(do(), e.lock.unlock())
}

// lock takes the key's lock for a write without a lease, or to take one.
func (s *Store) lock(ctx context.Context, e *entry) error {
	if l := s.leaseOf(e); l != nil {
		return held(l.holder, e.lock.path)
	}
	if err := e.lock.take(ctx, s); err != nil {
		return err
	}
	if e.lock.size == 0 {
		return nil
	}
	if err := s.evict(e); err != nil {
		return errors.Join(err, e.lock.unlock())
	}
	return nil
}

// evict takes the name of an owner that is dead out of the lock file.
func (s *Store) evict(e *entry) error {
	text, err := e.lock.text()
	if err != nil {
		return err
	}
	h := parseHolder(text)
	ended := s.session.is(h) // a lease that was not granted, and whose name couldn't be taken out
	if !ended {
		ended, err = s.session.ended(h)
	}
	switch {
	case err != nil:
		return err
	case !ended:
		return held(h, e.lock.path)
	}
	return e.lock.blank()
}

// refresh makes e.file say what the file holds, which another process may have
// written since the last save.
func (e *entry) refresh(s *Store) error {
	if e.file != nil && e.file.current() {
		return nil
	}
	if err := e.forgetFile(); err != nil {
		return err
	}
	file, err := s.openKeyFile(e.key, e.path)
	if err == nil {
		e.file = file
	}
	return err
}
