package filestore

import (
	"container/list"
	"errors"
	"fmt"
)

// Open files are few and streams may be many. The files of the keys that were used
// last stay open, up to maxOpen of them; all others are closed, and opened again when
// they are needed. Of keys without a lease it is remembered that their files were
// flushed, so that the next save may be in place: of the last maxRemembered ones, at
// some hundred bytes and a checkpoint each.
const maxRemembered = 1 << 17

// openShare of the files that a process may have open may be those of keys that no
// call uses.
const openShare, leastOpen, mostOpen = 8, 16, 16384

func maxOpen() int { return max(leastOpen, min(fileLimit()/openShare, mostOpen)) }

// idleKeys are the entries that no call uses, the one that was used last in front.
type idleKeys struct {
	open, closed           list.List // of *entry
	files                  int       // how many files those in open have open
	maxOpen, maxRemembered int
}

// use takes an entry off the lists.
func (i *idleKeys) use(e *entry) {
	if e.idle == &i.open {
		i.files -= e.openFiles()
	}
	if e.idle != nil {
		e.idle.Remove(e.at)
		e.idle, e.at = nil, nil
	}
}

func (e *entry) putOn(l *list.List) { e.idle, e.at = l, l.PushFront(e) }

// letGo ends a call's use of an entry.
func (s *Store) letGo(e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.refs--
	if e.refs > 0 || s.closed {
		return nil
	}
	if n := e.openFiles(); n > 0 {
		e.putOn(&s.idle.open)
		s.idle.files += n
	} else {
		s.remember(e)
	}
	var errs []error
	for s.idle.files > s.idle.maxOpen {
		old := s.idle.open.Back().Value.(*entry)
		s.idle.use(old)
		errs = append(errs, old.rest())
		s.remember(old)
	}
	return errors.Join(errs...)
}

// remember keeps an entry whose files are closed. That of a lease stays in any case.
func (s *Store) remember(e *entry) {
	if e.lease != nil {
		return
	}
	if e.file == nil {
		delete(s.entries, e.key)
		return
	}
	e.putOn(&s.idle.closed)
	for s.idle.closed.Len() > s.idle.maxRemembered {
		old := s.idle.closed.Back().Value.(*entry)
		s.idle.use(old)
		delete(s.entries, old.key)
	}
}

// openFiles is how many files of an entry are open.
func (e *entry) openFiles() (n int) {
	if e.file != nil && e.file.f != nil {
		n++
	}
	if e.lock.f != nil {
		n++
	}
	return n
}

// rest closes an entry's files until they are needed again.
func (e *entry) rest() error {
	err := e.lock.close()
	if e.file != nil {
		err = errors.Join(err, e.file.rest())
	}
	return err
}

// A roomyFS is an fsys that makes room when too many files are open, and tries once
// more: the other methods are the embedded one's.
type roomyFS struct {
	fsys
	makeRoom func() bool
}

func (r roomyFS) Open(path string, flag int) (file, error) {
	f, err := r.fsys.Open(path, flag)
	if tooManyOpen(err) && r.makeRoom() {
		f, err = r.fsys.Open(path, flag)
	}
	if tooManyOpen(err) {
		return nil, fmt.Errorf("%w; raise the limit (ulimit -n)", err)
	}
	return f, err
}

// makeRoom closes the files of all keys that are not in use, and reports whether there
// were any.
func (s *Store) makeRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := false
	for s.idle.open.Len() > 0 {
		e := s.idle.open.Back().Value.(*entry)
		s.idle.use(e)
		if err := e.rest(); err != nil {
			s.log.Warn("closing a file failed", "key", e.key, "err", err)
		}
		s.remember(e)
		had = true
	}
	return had
}
