package filestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A lease is one that this store holds: the key's lock is held, and the entry's file
// has the record as it was last written.
type lease struct {
	fence  state.Fence
	holder holder
}

func (s *Store) leaseOf(e *entry) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.lease
}

func (s *Store) setLease(e *entry, l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.lease = l
}

// Acquire takes the key's lock. r.TTL is checked and otherwise without meaning; with
// r.Steal, a lease whose owner is alive is refused all the same.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := state.CheckLeaseRequest(r)
	if err == nil {
		var e *entry
		if e, err = s.enter(ctx, key); err == nil {
			grant, err = s.acquire(ctx, e, r)
			err = errors.Join(err, s.leave(e))
		}
	}
	if err != nil {
		return state.Grant{}, s.fail("acquire", key, err)
	}
	return grant, nil
}

func (s *Store) acquire(ctx context.Context, e *entry, r state.LeaseRequest) (state.Grant, error) {
	l := s.leaseOf(e)
	if l == nil {
		return s.acquireFree(ctx, e, r)
	}
	if l.fence.Nonce != r.Nonce {
		return state.Grant{}, held(l.holder, e.lock.path)
	}
	if err := s.verify(ctx, e, l); err != nil {
		return state.Grant{}, err
	}
	_, grant, err := admitAcquire(e.file.rec, r)
	return grant, err
}

func (s *Store) acquireFree(ctx context.Context, e *entry, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := s.lockFor(ctx, e, thisProcess(r.Owner), func() (fence state.Fence, err error) {
		var rec state.Record
		if rec, grant, err = admitAcquire(e.file.rec, r); err == nil {
			err = e.file.replace(rec)
		}
		return grant.Fence, err
	})
	return grant, err
}

// admitAcquire is state.AdmitAcquire for a store in which whoever asks has the lock:
// no lease is live, and none has an end.
func admitAcquire(rec state.Record, r state.LeaseRequest) (state.Record, state.Grant, error) {
	rec.LeaseUntil = time.Time{}
	rec, grant, err := state.AdmitAcquire(rec, r, time.Now())
	rec.LeaseUntil = time.Time{}
	grant.Checkpoint = grant.Checkpoint.Clone()
	return rec, grant, err
}

// lockFor takes the lock in the name of h, reads the file, and keeps the lock if take
// agrees, under the fence that it returns.
func (s *Store) lockFor(ctx context.Context, e *entry, h holder, take func() (state.Fence, error)) error {
	if err := e.lock.take(ctx, s); err != nil {
		return err
	}
	fence, err := s.readAndTake(e, h, take)
	if err != nil {
		return errors.Join(err, e.forgetFile(), e.lock.blank(), e.lock.unlock())
	}
	s.setLease(e, &lease{fence: fence, holder: h})
	return nil
}

func (s *Store) readAndTake(e *entry, h holder, take func() (state.Fence, error)) (state.Fence, error) {
	if err := e.lock.sign(h); err != nil {
		return state.Fence{}, err
	}
	if err := e.forgetFile(); err != nil {
		return state.Fence{}, err
	}
	var err error
	if e.file, err = s.openKeyFile(e.key, e.path); err != nil {
		e.file = nil
		return state.Fence{}, err
	}
	return take()
}

// owned begins a call under a fence: it returns the key's entry, whose lease is the
// fence's.
//
// A fence whose lease ended with another store (its process was restarted, say) and
// that nobody has raised since is still the current one: its lease is taken up again.
func (s *Store) owned(ctx context.Context, key string, f state.Fence) (*entry, error) {
	if f.IsZero() {
		if err := s.check(ctx, key); err != nil {
			return nil, err
		}
		return nil, state.ErrFenced
	}
	e, err := s.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	switch l := s.leaseOf(e); {
	case l == nil:
		err = s.resume(ctx, e, f)
	case l.fence != f:
		err = state.ErrFenced
	}
	if err != nil {
		return nil, errors.Join(err, s.leave(e))
	}
	return e, nil
}

// resume takes up the lease of a fence that may still be the current one.
func (s *Store) resume(ctx context.Context, e *entry, f state.Fence) error {
	// Look before taking the lock: a fence of long ago must not keep its successors
	// waiting. Nor does it know the name of its owner; the file does.
	found, err := s.readShared(ctx, e.key, e.path)
	switch {
	case errors.Is(err, state.ErrNotFound) || err == nil && found.rec.Fence() != f:
		return state.ErrFenced
	case err != nil:
		return err
	}
	err = s.lockFor(ctx, e, thisProcess(found.rec.Owner), func() (state.Fence, error) {
		if e.file.rec.Fence() != f {
			return f, state.ErrFenced
		}
		return f, nil
	})
	if errors.Is(err, state.ErrLeaseHeld) {
		// Somebody else has the lock: they have raised the fence, or are about to.
		return fmt.Errorf("%w: %w", state.ErrFenced, err)
	}
	return err
}

// Renew looks whether the lease is still this store's: the operating system keeps it,
// and there is nothing to extend. If the key's lock file or its file has been removed,
// it is written anew.
func (s *Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.fail("renew", key, s.renew(ctx, key, f, ttl))
}

func (s *Store) renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	if err := s.check(ctx, key); err != nil {
		return err
	}
	if quick, err := s.renewQuickly(key, f, ttl); quick {
		return err
	}
	e, err := s.owned(ctx, key, f)
	if err != nil {
		return err
	}
	if _, err = state.AdmitRenew(e.file.rec, f, ttl, time.Now()); err == nil {
		err = s.verify(ctx, e, s.leaseOf(e))
	}
	return errors.Join(err, s.leave(e))
}

// renewQuickly answers while a save is under way, which may take longer than a lease
// if the disk is slow: the save itself finds out whether the file is still ours.
func (s *Store) renewQuickly(key string, f state.Fence, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	e := s.entries[key]
	busy := e != nil && len(e.busy) > 0 && e.lease != nil && e.lease.fence == f
	s.mu.Unlock()
	if !busy {
		return false, nil
	}
	_, err := state.AdmitRenew(state.Record{Epoch: f.Epoch, Nonce: f.Nonce}, f, ttl, time.Now())
	return true, err
}

// verify finds out whether a lease that this store holds is still good, and repairs
// what a person has removed.
func (s *Store) verify(ctx context.Context, e *entry, l *lease) error {
	if err := s.verifyLock(ctx, e, l); err != nil {
		return err
	}
	return e.file.verify()
}

// verifyLock takes the lock again if its file was removed. If somebody else has it by
// then, the lease is lost.
func (s *Store) verifyLock(ctx context.Context, e *entry, l *lease) error {
	same, err := e.lock.inPlace()
	if err != nil {
		return err
	}
	if !same {
		again := lockFile{sys: s.sys, path: e.lock.path}
		if err := again.take(ctx, s); errors.Is(err, state.ErrLeaseHeld) {
			s.setLease(e, nil)
			return errors.Join(fmt.Errorf("%w: %s was removed, and %w", state.ErrFenced, e.lock.path, err),
				again.close(), e.close())
		} else if err != nil {
			return errors.Join(err, again.close())
		}
		err := e.lock.close()
		e.lock = again
		if err != nil {
			return err
		}
	}
	// The text is for people, and people may have removed it too.
	want, err := json.Marshal(l.holder)
	if err != nil {
		return err
	}
	if text, err := e.lock.text(); err != nil || bytes.Equal(text, want) {
		return err
	}
	return e.lock.sign(l.holder)
}

// verify writes the file anew if it is gone, and returns an error if it is another.
func (k *keyFile) verify() error {
	same, _, err := k.s.sys.Look(k.path, k.info)
	if err == nil && same && k.ready() && k.sameMarks() {
		return nil
	}
	return k.replace(k.rec)
}

// Release gives the lease up. The lock is given back even if the file can't be
// written: the next owner raises the fence in any case.
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	e, err := s.owned(ctx, key, f)
	if errors.Is(err, state.ErrFenced) {
		return nil
	}
	if err == nil {
		err = e.file.save(state.AdmitRelease(e.file.rec, f))
		s.setLease(e, nil)
		err = errors.Join(err, e.lock.blank(), e.lock.unlock(), e.close(), s.leave(e))
	}
	return s.fail("release", key, err)
}

// SaveFenced saves for the owner, with one write and one flush.
func (s *Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.fail("save", key, s.save(ctx, key, f, false, cp))
}

// ClearFenced takes the checkpoint away and keeps the lease.
func (s *Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	return s.fail("clear", key, s.fenced(ctx, key, f, func(k *keyFile) error { return k.clear(f) }))
}

func (s *Store) fenced(ctx context.Context, key string, f state.Fence, do func(*keyFile) error) error {
	e, err := s.owned(ctx, key, f)
	if err != nil {
		return err
	}
	return errors.Join(do(e.file), s.leave(e))
}
