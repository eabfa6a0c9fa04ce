package filestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A lockFile is a key's lock. The lock itself is the operating system's; what the
// file contains only says who has it: a lease's owner writes its name there, and a
// save without a lease, which holds the lock for a moment, leaves it empty.
type lockFile struct {
	sys  fsys
	path string
	f    file // nil: not open
	info fs.FileInfo
	size int64 // when it was last looked at
}

// A holder is what stands in a lock file.
type holder struct {
	Owner string    `json:"owner"`
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

func thisProcess(owner string) holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // for people only
	}
	return holder{Owner: owner, PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Millisecond)}
}

// try takes the lock, if nobody has it.
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
	return false, fmt.Errorf("%w: %s is replaced again and again", state.ErrUnavailable, l.path)
}

func lockError(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("%w: the file system can't lock files, and no checkpoint is safe there: %w", state.ErrUnavailable, err)
	}
	return unavailable(err)
}

func (l *lockFile) open() error {
	if l.f != nil {
		return nil
	}
	f, err := l.sys.Open(l.path, os.O_RDWR|os.O_CREATE)
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

// inPlace tells whether the file that was opened still has its name.
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

// text is what stands in the file.
func (l *lockFile) text() ([]byte, error) { return lockText(l.f) }

func lockText(f file) ([]byte, error) {
	text := make([]byte, maxHolder)
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unavailable(err)
	}
	return bytes.TrimSpace(text[:n]), nil
}

// parseHolder reads a lock file. It is for people, so any damage to it gives what can
// be had.
func parseHolder(text []byte) holder {
	var h holder
	if err := json.Unmarshal(text, &h); err != nil || h.Owner == "" {
		h.Owner = "an unknown owner"
	}
	return h
}

// sign writes who has the lock.
func (l *lockFile) sign(h holder) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return unavailable(err)
	}
	_, err = l.f.WriteAt(append(text, '\n'), 0)
	return unavailable(err)
}

// blank takes the name away.
func (l *lockFile) blank() error { return unavailable(l.f.Truncate(0)) }

// unlock gives the lock back, and keeps the file open for the next time, unless only
// closing it is left to give the lock back.
func (l *lockFile) unlock() error {
	err := l.f.Unlock()
	if err != nil {
		return errors.Join(unavailable(err), l.close())
	}
	return nil
}

// close closes the file, and gives the lock back if it is held.
func (l *lockFile) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return unavailable(err)
}

// How long to wait for a lock that somebody holds. If the file names an owner, it is a
// lease, and the wait is only for a name that is about to be overwritten. If it is
// empty, it is another's save, which takes a few flushes.
const (
	namedTries = 4
	savePause  = 4 * time.Millisecond
	saveWait   = 2 * time.Second
)

// take waits for the lock for as long as it may be held by no more than a save. If a
// lease holds it, that is a HeldError.
func (l *lockFile) take(ctx context.Context, s *Store) error {
	named, start := 0, time.Now()
	for {
		ok, err := l.try()
		if ok || err != nil {
			return err
		}
		text, err := l.text()
		if err != nil {
			return err
		}
		if len(text) == 0 {
			named = 0
		} else if named++; named == namedTries {
			return held(parseHolder(text), l.path)
		}
		if time.Since(start) > saveWait {
			return fmt.Errorf("%w: somebody holds %s, and doesn't say who", state.ErrUnavailable, l.path)
		}
		if err := s.pause(ctx, rand.N(savePause)); err != nil {
			return err
		}
	}
}

func held(h holder, path string) error {
	err := &state.HeldError{Owner: h.Owner}
	if h.PID == 0 {
		return fmt.Errorf("%w (%s)", err, path)
	}
	return fmt.Errorf("%w (process %d on %s, %s)", err, h.PID, h.Host, path)
}

// leaseOwner says who holds a lease by the lock file at path, "" for nobody. To find
// out it takes a shared lock for a moment, only where a name stands in the file.
func leaseOwner(sys fsys, path string) (owner string, err error) {
	f, err := sys.Open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", unavailable(err)
	}
	defer func() { err = errors.Join(err, unavailable(f.Close())) }()
	text, err := lockText(f)
	if err != nil || len(text) == 0 {
		return "", err
	}
	free, err := f.TryLock(false)
	if err != nil || free {
		return "", lockError(err)
	}
	return parseHolder(text).Owner, nil
}
