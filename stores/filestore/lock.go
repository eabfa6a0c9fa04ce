package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A lockFile is a key's lock, held for the moment of a write or of taking a lease, and
// its content: the owner of the lease, empty if there is none.
type lockFile struct {
	sys  fsys
	path string
	f    file // nil: not open
	info fs.FileInfo
	size int64 // when it was last looked at
}

// try takes the lock, if it is free.
func (l *lockFile) try() (bool, error) {
	const attempts = 100
	for range attempts {
		if err := l.open(); err != nil {
			return false, err
		}
		ok, err := l.f.TryLock(true)
		if err != nil {
			return false, errors.Join(lockError(err), l.close())
		}
		// The file may have been removed before we had the lock, or while another
		// has it. What counts is the one that has the name.
		same, err := l.inPlace()
		if same && err == nil {
			return ok, nil
		}
		if err := errors.Join(err, l.close()); err != nil {
			return false, err
		}
	}
	return false, fmt.Errorf("%w: %s is being replaced repeatedly", state.ErrUnavailable, l.path)
}

func lockError(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("%w: the file system does not support file locks, which checkpoints need: %w", state.ErrUnavailable, err)
	}
	return unavailable(err)
}

func (l *lockFile) open() error {
	if l.f != nil {
		return nil
	}
	// O_CREATE alone would lock the directory each time.
	f, err := l.sys.Open(l.path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = l.sys.Open(l.path, os.O_RDWR|os.O_CREATE)
	}
	if err != nil {
		return unavailable(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: l.path, Err: errors.New("it is not a regular file")}
	}
	if err != nil {
		return unavailable(errors.Join(err, f.Close()))
	}
	l.f, l.info = f, info
	return nil
}

// inPlace reports whether the file that was opened still has its name.
func (l *lockFile) inPlace() (bool, error) {
	same, size, err := l.sys.Look(l.path, l.info)
	l.size = size
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return same, unavailable(err)
}

// maxHolder is more than any holder takes; a file that has grown beyond it isn't read
// to its end.
const maxHolder = 16 << 10

// text returns the content of the file.
func (l *lockFile) text() ([]byte, error) {
	text := make([]byte, maxHolder)
	n, err := l.f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unavailable(err)
	}
	return bytes.TrimSpace(text[:n]), nil
}

// sign writes the owner of the lease.
func (l *lockFile) sign(text []byte) error {
	if err := l.f.Truncate(0); err != nil {
		return unavailable(err)
	}
	_, err := l.f.WriteAt(append(slices.Clip(text), '\n'), 0)
	return unavailable(err)
}

// blank removes the name.
func (l *lockFile) blank() error { return unavailable(l.f.Truncate(0)) }

// unlock releases the lock, and keeps the file open for the next time, unless only
// closing it can release the lock.
func (l *lockFile) unlock() error {
	err := l.f.Unlock()
	if err != nil {
		return errors.Join(unavailable(err), l.close())
	}
	return nil
}

// close closes the file, and releases the lock if it is held.
func (l *lockFile) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return unavailable(err)
}

// saveWait is how long to wait for a lock that is held. No process holds one for
// longer than a batch of saves takes.
const (
	savePause = 4 * time.Millisecond
	saveWait  = 10 * time.Second
)

// take waits for the lock.
func (l *lockFile) take(ctx context.Context, s *Store) error {
	for start := time.Now(); ; {
		ok, err := l.try()
		if ok || err != nil {
			return err
		}
		if time.Since(start) > saveWait {
			return fmt.Errorf("%w: %s has been locked by another process for %v", state.ErrUnavailable, l.path, saveWait)
		}
		if err := s.pause(ctx, rand.N(savePause)); err != nil {
			return err
		}
	}
}

// held returns the error for a lease that is held.
func held(h holder, path string) error {
	return fmt.Errorf("%w (process %d on %s, %s)", &state.HeldError{Owner: h.Owner}, h.PID, h.Host, path)
}

// holderOf returns the holder of the lease by the lock file at path, the zero holder for none.
func (s *Store) holderOf(path string) (holder, error) {
	l := lockFile{sys: s.sys, path: path}
	var err error
	if l.f, err = s.sys.Open(path, os.O_RDONLY); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return holder{}, unavailable(err)
	}
	text, err := l.text()
	return parseHolder(text), errors.Join(err, l.close())
}

// liveHolder is holderOf, with the zero holder if the session has ended.
func (s *Store) liveHolder(path string) (holder, error) {
	h, err := s.holderOf(path)
	if err == nil {
		var ended bool
		if ended, err = s.session.ended(h); ended {
			h = holder{}
		}
	}
	return h, err
}
