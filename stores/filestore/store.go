package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Options are the options of [Open]. Nil, and the zero value of each field, are the
// defaults.
type Options struct {
	// MustExist refuses a directory that doesn't exist, with [state.ErrInvalid],
	// instead of creating it: for programs that look at checkpoints.
	MustExist bool
	// Logger receives log output: a checkpoint that was read from a damaged file, a
	// file that was removed and written again. The default is [slog.Default].
	Logger *slog.Logger
}

// A Store keeps checkpoints as files in a directory. All methods may be called
// concurrently, and several stores, in one process or in many, may share a directory.
//
// It is a [state.Leaser], [state.BatchSaver], [state.Lister], [state.Forgetter],
// [state.Pinger] and [io.Closer].
type Store struct {
	base    fsys // without room made for it
	sys     fsys
	dir     string
	dirInfo fs.FileInfo
	log     *slog.Logger
	flusher *flusher
	session *session
	done    chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
	idle    idleKeys
}

var (
	_ state.Leaser     = (*Store)(nil)
	_ state.Lister     = (*Store)(nil)
	_ state.BatchSaver = (*Store)(nil)
	_ state.Forgetter  = (*Store)(nil)
	_ state.Pinger     = (*Store)(nil)
	_ state.Reopener   = (*Store)(nil)
	_ io.Closer        = (*Store)(nil)
)

// Open opens the store in the directory dir, and creates the directory if it doesn't
// exist. It removes temporary files that a crash has left there.
func Open(dir string, o *Options) (*Store, error) { return open(osFS{}, dir, o) }

func open(sys fsys, dir string, o *Options) (*Store, error) {
	s := &Store{log: slog.Default(), done: make(chan struct{}), entries: make(map[string]*entry)}
	s.base, s.sys = sys, roomyFS{sys, s.makeRoom}
	s.idle.maxOpen, s.idle.maxRemembered = maxOpen(), maxRemembered
	if o != nil && o.Logger != nil {
		s.log = o.Logger
	}
	if dir == "" {
		return nil, s.fail("open", "", fmt.Errorf("%w: the name of the directory is empty", state.ErrInvalid))
	}
	// The process may change its working directory.
	var err error
	if s.dir, err = filepath.Abs(dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	if o != nil && o.MustExist {
		if _, err := sys.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			return nil, s.fail("open", "", fmt.Errorf("%w: %w", state.ErrInvalid, &fs.PathError{Op: "the directory", Path: s.dir, Err: fs.ErrNotExist}))
		}
	}
	if err := makeDir(sys, s.dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	if s.dirInfo, err = sys.Stat(s.dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	s.session = &session{sys: s.sys, dir: s.dir}
	if err := s.sweep(); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	if s.flusher, err = newFlusher(sys, s.dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	return s, nil
}

// String is the URL of the directory, which is absolute: file:/var/lib/state.
func (s *Store) String() string { return "file:" + s.dir }

// Reopen implements [state.Reopener]: it opens the directory that has the path now.
func (s *Store) Reopen(ctx context.Context) (state.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.fail("open", "", err)
	}
	now, err := open(s.base, s.dir, &Options{Logger: s.log})
	if err != nil {
		return nil, err
	}
	return now, nil
}

// sweep removes the temporary files of interrupted saves, and the sessions of
// processes that have ended.
func (s *Store) sweep() error {
	names, err := s.sys.Names(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		var err error
		if strings.HasPrefix(name, sessionPrefix) {
			err = s.session.sweep(name)
		} else if stem, ok := stemOfTemp(name); ok {
			err = s.sweepFile(stem, filepath.Join(s.dir, name))
		}
		if err != nil {
			s.log.Warn("removing a temporary file failed", "path", filepath.Join(s.dir, name), "err", err)
		}
	}
	return nil
}

// sweepFile removes a temporary file, unless its key is leased or locked: then it may
// be in use. It also looks for a lease before it locks, so as not to hinder an owner
// that is killed, restarts meanwhile, and sweeps as well.
func (s *Store) sweepFile(stem, temp string) error {
	l := &lockFile{sys: s.sys, path: filepath.Join(s.dir, stem+lockSuffix)}
	if leased, err := s.isLeased(l.path); leased || err != nil {
		return err
	}
	ok, err := l.try()
	if ok {
		var leased bool
		if leased, err = s.isLeased(l.path); err == nil && !leased {
			err = s.sys.Remove(temp)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, l.close())
}

func (s *Store) isLeased(lockPath string) (bool, error) {
	h, err := s.liveHolder(lockPath)
	return h != (holder{}), err
}

// fail returns the error that a method returns for err, nil for nil.
func (s *Store) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "filestore", Key: key, Err: err}
}

// Close waits for the saves in progress, releases all leases and closes all files.
// Other owners can acquire the leases at once; a fence stays the current one until
// that happens.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	entries := s.entries
	s.entries = nil
	s.mu.Unlock()

	var errs []error
	for _, e := range entries {
		e.busy <- struct{}{}
		if e.lease != nil {
			errs = append(errs, s.unsign(e, e.lease))
		}
		errs = append(errs, e.close())
		<-e.busy
	}
	errs = append(errs, s.session.close(), unavailable(s.flusher.close()))
	return s.fail("close", "", errors.Join(errs...))
}

// Ping returns nil if the directory is still the one that was opened, and files can
// be created in it.
func (s *Store) Ping(ctx context.Context) error {
	err := ctx.Err()
	if err == nil && s.isClosed() {
		err = state.ErrClosed
	}
	if err == nil {
		err = s.checkDir()
	}
	if err == nil {
		err = unavailable(s.sys.Writable(s.dir))
	}
	return s.fail("ping", "", err)
}

// Load reads the key's file. It takes no lock, so it doesn't wait for a lease, and
// nothing waits for it.
func (s *Store) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	if err := s.check(ctx, key); err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	f, err := s.readShared(ctx, key, s.path(key))
	if err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	cp, err := f.rec.Load()
	return cp, s.fail("load", key, err)
}

// Save saves without a lease; the package documentation has its cost.
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.fail("save", key, s.save(ctx, key, state.Fence{}, true, cp))
}

// Clear removes the checkpoint. If the key was never leased and its checkpoints had no
// sequence, it removes the file.
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.fail("clear", key, s.unfenced(ctx, key, func(k *keyFile) error {
		return k.clear(state.Fence{})
	}))
}

func (k *keyFile) clear(f state.Fence) error {
	rec, err := record.AdmitClear(k.rec, f, time.Now())
	switch {
	case err != nil:
		return err
	case rec.IsEmpty():
		// Also if there is no file: its removal may not have been flushed.
		return k.remove()
	}
	return k.replace(rec)
}

// Forget removes the key's file, with its epoch and last sequence. It also removes a
// damaged file, but neither a directory or link nor the file of another key. The lock
// file stays.
func (s *Store) Forget(ctx context.Context, key string) error {
	e, err := s.enter(ctx, key)
	if err == nil {
		err = s.whileLocked(ctx, e, func() error { return s.forget(e) })
		err = errors.Join(err, s.leave(e))
	}
	return s.fail("forget", key, err)
}

func (s *Store) forget(e *entry) error {
	if err := e.forgetFile(); err != nil {
		return err
	}
	text, _, err := readFile(s.sys, e.path)
	if err != nil {
		if err = s.absent(err); errors.Is(err, state.ErrNotFound) {
			err = unavailable(s.flusher.dir.join(nil, s.flusher.dir.began())) // its removal may not have been flushed
		}
		return err
	}
	for _, half := range [][]byte{text[:len(text)/2], text[len(text)/2:]} {
		sl := readSlot(half)
		if sl.err != nil {
			continue
		}
		if _, owner, err := sl.parse(); err == nil && owner != e.key {
			return corrupt(e.path, fmt.Sprintf("holds the checkpoint of another key, %q", owner), adviceDamaged)
		}
	}
	removed := s.flusher.dir.began()
	if renameOpen {
		if f, err := s.sys.Open(e.path, os.O_RDONLY); err == nil {
			defer f.Close() // see keyFile.hold
		}
	}
	if err := s.sys.Remove(e.path); err != nil {
		return unavailable(err)
	}
	return unavailable(s.flusher.dir.join(nil, removed))
}
