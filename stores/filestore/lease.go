package filestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A lease is one that this store holds: the key's lock file names the store's session,
// and the entry's file has the record as it was last written.
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

// Acquire writes the store's session into the key's lock file. r.TTL is checked and otherwise without meaning; with
// r.Steal, a lease whose owner is alive is refused all the same.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := record.CheckLeaseRequest(r)
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
		if !errors.Is(e.file.checkOurs(), state.ErrFenced) {
			return state.Grant{}, held(l.holder, e.lock.path)
		}
		// The file is another owner's, and the lease that this store knows of is worth
		// nothing: it must not stand in the way, as if this process waited for itself.
		if err := s.abandon(e, l); err != nil {
			return state.Grant{}, err
		}
		return s.acquireFree(ctx, e, r)
	}
	if err := s.verify(ctx, e, l); err != nil {
		return state.Grant{}, err
	}
	rec, grant, err := admitAcquire(e.file.rec, r)
	if err != nil || grant.Fence == l.fence {
		return grant, err
	}
	// A Release that failed has taken the fence out of the file, and left the lease.
	if err := e.file.replace(rec); err != nil {
		return state.Grant{}, err
	}
	s.setLease(e, &lease{fence: grant.Fence, holder: l.holder})
	return grant, nil
}

// abandon ends a lease that was lost, without writing the key's file.
func (s *Store) abandon(e *entry, l *lease) error {
	if err := s.unsign(e, l); err != nil {
		return err
	}
	s.setLease(e, nil)
	return errors.Join(e.forgetFile(), e.lock.close())
}

func (s *Store) acquireFree(ctx context.Context, e *entry, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := s.lease(ctx, e, r.Owner, func() (fence state.Fence, err error) {
		var rec record.Record
		if rec, grant, err = admitAcquire(e.file.rec, r); err == nil {
			err = e.file.replace(rec)
		}
		return grant.Fence, err
	})
	return grant, err
}

// admitAcquire is record.AdmitAcquire for a store in which the caller has the lock: no lease
// is live, and none expires.
func admitAcquire(rec record.Record, r state.LeaseRequest) (record.Record, state.Grant, error) {
	rec.LeaseUntil = time.Time{}
	rec, grant, err := record.AdmitAcquire(rec, r, time.Now())
	rec.LeaseUntil = time.Time{}
	grant.Checkpoint = grant.Checkpoint.Clone()
	return rec, grant, err
}

// lease takes the key's lock, reads the file, and keeps the key in the name of owner if
// take agrees, under the fence that it returns.
func (s *Store) lease(ctx context.Context, e *entry, owner string, take func() (state.Fence, error)) error {
	if err := s.lock(ctx, e); err != nil {
		return err
	}
	l := &lease{}
	var err error
	if l.holder, err = s.session.holder(owner); err == nil {
		l.fence, err = s.signAndTake(e, l.holder, take)
	}
	if err != nil {
		return errors.Join(err, e.forgetFile(), e.lock.blank(), e.lock.unlock())
	}
	s.setLease(e, l)
	// The session is locked in its stead. The lease is taken, whatever closing says.
	_ = e.lock.close()
	return nil
}

func (s *Store) signAndTake(e *entry, h holder, take func() (state.Fence, error)) (state.Fence, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return state.Fence{}, err
	}
	if err := e.lock.sign(text); err != nil {
		return state.Fence{}, err
	}
	if err := e.forgetFile(); err != nil {
		return state.Fence{}, err
	}
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
// that no grant has followed is still the current one: its lease is resumed.
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
	err = s.lease(ctx, e, found.rec.Owner, func() (state.Fence, error) {
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
// it is written again.
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
	if _, err = record.AdmitRenew(e.file.rec, f, ttl, time.Now()); err == nil {
		err = s.verify(ctx, e, s.leaseOf(e))
	}
	return errors.Join(err, s.leave(e))
}

// renewQuickly renews while a save is in progress, which may take longer than a lease if
// the disk is slow. The save itself checks whether the file is still ours.
func (s *Store) renewQuickly(key string, f state.Fence, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	e := s.entries[key]
	busy := e != nil && len(e.busy) > 0 && e.lease != nil && e.lease.fence == f
	s.mu.Unlock()
	if !busy {
		return false, nil
	}
	_, err := record.AdmitRenew(record.Record{Epoch: f.Epoch, Nonce: f.Nonce}, f, ttl, time.Now())
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

// verifyLock writes session and lock file again if they were removed. If
// another owner has acquired the lease meanwhile, it is lost.
func (s *Store) verifyLock(ctx context.Context, e *entry, l *lease) error {
	if err := s.session.check(); err != nil {
		return err
	}
	h, err := s.holderOf(e.lock.path)
	if err != nil || h.Session == l.holder.Session {
		return err
	}
	if err := e.lock.take(ctx, s); err != nil {
		return errors.Join(err, e.lock.close())
	}
	return errors.Join(s.signAgain(e, l), e.lock.close())
}

func (s *Store) signAgain(e *entry, l *lease) error {
	text, err := e.lock.text()
	if err != nil {
		return err
	}
	now := parseHolder(text)
	ended, err := s.session.ended(now)
	if err != nil {
		return err
	}
	if !ended && now.Session != l.holder.Session {
		s.setLease(e, nil)
		return errors.Join(fmt.Errorf("%w: %s was removed or changed, and %w", state.ErrFenced, e.lock.path, held(now, e.lock.path)),
			e.forgetFile())
	}
	if text, err = json.Marshal(l.holder); err != nil {
		return err
	}
	return e.lock.sign(text)
}

// verify writes the file again if it is gone, and returns an error if it is another.
func (k *keyFile) verify() error {
	if k.current() {
		return nil
	}
	return k.replace(k.rec)
}

// Release ends the lease, even if the checkpoint's file can't be written: the next owner
// gets a new fence in any case. If the lock file can't be written, the lease stays, and
// Release may be called again.
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	e, err := s.owned(ctx, key, f)
	if errors.Is(err, state.ErrFenced) {
		return nil
	}
	if err == nil {
		err = e.file.save(record.AdmitRelease(e.file.rec, f))
		if errors.Is(err, state.ErrFenced) {
			err = nil // another owner has acquired it since: there is nothing to release
		}
		given := s.unsign(e, s.leaseOf(e))
		if given == nil {
			s.setLease(e, nil)
			given = e.close()
		}
		err = errors.Join(err, given, s.leave(e))
	}
	return s.fail("release", key, err)
}

// unsign removes a lease's name from the lock file, if it is still there. It needs no
// lock: while the session is live, no other process overwrites its name.
func (s *Store) unsign(e *entry, l *lease) error {
	h, err := s.holderOf(e.lock.path)
	if err != nil || h.Session != l.holder.Session {
		return err
	}
	if err := e.lock.open(); err != nil {
		return err
	}
	return errors.Join(e.lock.blank(), e.lock.close())
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
