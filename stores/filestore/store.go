package filestore

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Options are the options of [Open]. The zero value, and nil, is the default of each.
type Options struct {
	// Logger gets a warning where a checkpoint is read in spite of some damage, and
	// where a file that was removed is written anew. Nil means [slog.Default].
	Logger *slog.Logger
}

// A Store keeps checkpoints as files in a directory. It is safe for concurrent use,
// and several stores, in one process or in many, may share a directory.
//
// It is a [state.Leaser], [state.Lister], [state.Forgetter], [state.Pinger] and
// [io.Closer]. Close gives up its leases and its open files.
type Store struct {
	sys     fsys
	dir     string
	dirInfo fs.FileInfo
	log     *slog.Logger
	done    chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
	idle    list.List // of *entry, those that keep files open for the next save without a lease
}

var (
	_ state.Leaser    = (*Store)(nil)
	_ state.Lister    = (*Store)(nil)
	_ state.Forgetter = (*Store)(nil)
	_ state.Pinger    = (*Store)(nil)
	_ io.Closer       = (*Store)(nil)
)

// Open opens the store in the directory dir, and makes the directory if it isn't
// there. Temporary files that a crash has left there are removed.
func Open(dir string, o *Options) (*Store, error) { return open(osFS{}, dir, o) }

func open(sys fsys, dir string, o *Options) (*Store, error) {
	s := &Store{sys: sys, log: slog.Default(), done: make(chan struct{}), entries: make(map[string]*entry)}
	if o != nil && o.Logger != nil {
		s.log = o.Logger
	}
	if dir == "" {
		return nil, s.fail("open", "", fmt.Errorf("%w: the directory's name is empty", state.ErrInvalid))
	}
	// An absolute path, because the process may change its working directory.
	var err error
	if s.dir, err = filepath.Abs(dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	if err := makeDir(sys, s.dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	if s.dirInfo, err = sys.Stat(s.dir); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	if err := s.sweep(); err != nil {
		return nil, s.fail("open", "", unavailable(err))
	}
	return s, nil
}

// sweep removes the temporary files of saves that were cut off. One whose key is
// locked may be in use, and stays.
func (s *Store) sweep() error {
	names, err := s.sys.Names(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		key, ok := stemOfTemp(name)
		if !ok {
			continue
		}
		if err := s.sweepFile(key, filepath.Join(s.dir, name)); err != nil {
			s.log.Warn("a temporary file can't be removed", "path", filepath.Join(s.dir, name), "error", err)
		}
	}
	return nil
}

func (s *Store) sweepFile(stem, temp string) error {
	l := &lockFile{sys: s.sys, path: filepath.Join(s.dir, stem+lockSuffix)}
	ok, err := l.try()
	if ok {
		if err = s.sys.Remove(temp); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, l.close())
}

// fail makes the error that every method returns.
func (s *Store) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "filestore", Key: key, Err: err}
}

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

	refs   int // guarded by Store.mu: calls that use the entry
	idleAt *list.Element
}

// maxIdle is how many keys without a lease may keep their files open.
const maxIdle = 64

// enter begins a call that may write: it checks the key and waits for its turn. leave
// ends it.
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
	if e.idleAt != nil {
		s.idle.Remove(e.idleAt)
		e.idleAt = nil
	}
	return e, nil
}

func (s *Store) path(key string) string     { return filepath.Join(s.dir, stem(key)+dataSuffix) }
func (s *Store) lockPath(key string) string { return filepath.Join(s.dir, stem(key)+lockSuffix) }

// leave ends a call that enter began.
func (s *Store) leave(e *entry) error {
	<-e.busy
	return s.letGo(e)
}

// letGo keeps the files of an entry that nobody uses open for the next save, and
// closes those that have waited longest for one.
func (s *Store) letGo(e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.refs--
	if e.refs > 0 || e.lease != nil || s.closed {
		return nil
	}
	e.idleAt = s.idle.PushFront(e)
	var errs []error
	for s.idle.Len() > maxIdle {
		old := s.idle.Remove(s.idle.Back()).(*entry)
		delete(s.entries, old.key)
		errs = append(errs, old.close())
	}
	return errors.Join(errs...)
}

func (e *entry) close() error {
	var err error
	if e.file != nil {
		err = e.file.drop()
		e.file = nil
	}
	return errors.Join(err, e.lock.close())
}

// Close gives up all leases and closes all files, after the saves that are under way.
// The place of a leased key can be taken over at once; its fence stays the current
// one until somebody does.
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
			errs = append(errs, e.lock.blank())
		}
		errs = append(errs, e.close())
		<-e.busy
	}
	return s.fail("close", "", errors.Join(errs...))
}

// Ping returns nil if the directory is the one that was opened, and files can be
// created in it.
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

// Load reads the key's file. It takes no lock, so it neither waits for a lease nor
// keeps anybody waiting.
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

// Save saves without a lease; see the package's documentation for what it costs.
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	err := state.CheckSave(key, cp)
	if err == nil {
		err = s.unfenced(ctx, key, func(k *keyFile) error {
			rec, err := state.Admit(k.rec, state.Fence{}, cp, time.Now())
			if err != nil {
				return err
			}
			rec.Checkpoint = rec.Checkpoint.Clone()
			if k.rec.Epoch > 0 {
				return k.replace(rec) // a place set by hand
			}
			return k.save(rec)
		})
	}
	return s.fail("save", key, err)
}

// Clear takes the checkpoint away. If the key was never leased and its checkpoints
// had no sequence, the file goes.
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.fail("clear", key, s.unfenced(ctx, key, func(k *keyFile) error {
		return k.clear(state.Fence{})
	}))
}

func (k *keyFile) clear(f state.Fence) error {
	rec, err := state.AdmitClear(k.rec, f, time.Now())
	switch {
	case err != nil || !k.known:
		return err
	case rec.IsEmpty():
		return k.remove()
	}
	return k.replace(rec)
}

// Forget takes the key's file away, with its epoch and last sequence. Of a damaged
// file it is the way to be rid of it, unless what is there is no file, or another
// key's. The lock file stays.
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
			err = nil
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
	if err := s.sys.Remove(e.path); err != nil {
		return unavailable(err)
	}
	return unavailable(s.sys.SyncDir(s.dir))
}

// forgetFile closes the entry's file, so that the next call reads it anew.
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
	if l := s.leaseOf(e); l != nil {
		return held(l.holder, e.lock.path)
	}
	if err := e.lock.take(ctx, s); err != nil {
		return err
	}
	err := e.lock.blank()
	if err == nil {
		err = do()
	}
	return errors.Join(err, e.lock.unlock())
}

// refresh makes e.file say what the file holds, which another process may have
// written since the last save.
func (e *entry) refresh(s *Store) error {
	if e.file != nil && e.file.f != nil {
		info, err := s.sys.Lstat(e.path)
		if err == nil && os.SameFile(info, e.file.info) && e.file.sameMarks() {
			e.file.info = info
			return nil
		}
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
