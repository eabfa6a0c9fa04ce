package filestore

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A simFS is a machine with one directory on one disk, all in memory: an fsys whose
// power can be cut, whose processes can be killed, and whose disk fails on
// demand. It is as unkind as POSIX and Linux allow a file system to be: nothing is durable
// that wasn't flushed, in whatever order, and a flush that failed has lost its data
// while the next one says that all is well. All chance comes from r.
//
// What is there already is its home, simHome. The store's directory is made in it.
type simFS struct {
	mu    sync.Mutex
	r     *rand.Rand
	dir   *simDir // nil: not made yet
	safe  bool    // the directory itself is durable
	errs  errSeq  // of the file system as a whole
	nodes int     // the last number given to a file
	folds bool    // names that differ only in case are the same
	dead  bool    // its processes were killed, or its power cut: nothing works

	// before is asked before each call, with mu held, what shall go wrong with it.
	before func(op, path string, changes bool) syscall.Errno

	syncFSUnsupported bool

	// slow is how long a call may take, 0 for no time at all. A flush brings to the
	// disk what was there when it began.
	slow time.Duration
}

const simHome, simStore = "/sim", "/sim/state"

func newSimFS(r *rand.Rand) *simFS { return &simFS{r: r} }

// isDirty reports whether a power cut could have several results.
func (m *simFS) isDirty() bool {
	if m.dir == nil {
		return false
	}
	if !m.safe || len(m.dir.ops) > 0 {
		return true
	}
	for _, n := range m.dir.disk {
		if n.isDirty() {
			return true
		}
	}
	return false
}

// cut is the machine after its power was cut and came back.
func (m *simFS) cut(r *rand.Rand) *simFS {
	c := &simFS{r: r, nodes: m.nodes, folds: m.folds, syncFSUnsupported: m.syncFSUnsupported}
	if m.dir != nil && (m.safe || r.IntN(2) == 0) {
		c.dir, c.safe = m.dir.powerCut(r), true
	}
	return c
}

// kill is the machine after its processes were killed.
func (m *simFS) kill(r *rand.Rand) *simFS {
	c := &simFS{r: r, safe: m.safe, errs: m.errs, nodes: m.nodes, folds: m.folds, syncFSUnsupported: m.syncFSUnsupported}
	if m.dir != nil {
		c.dir = m.dir.clone()
	}
	return c
}

// call begins a call: what it does is done with mu held.
func (m *simFS) call(op, path string, changes bool) error {
	errno := syscall.ESHUTDOWN
	if !m.dead {
		errno = 0
		if m.before != nil {
			errno = m.before(op, path, changes)
		}
	}
	if errno != 0 {
		return &fs.PathError{Op: op, Path: path, Err: errno}
	}
	return nil
}

// takeTime lets others run in the middle of a call. It gives up mu, which it wants held.
func (m *simFS) takeTime() {
	if m.slow > 0 && !m.dead {
		d := time.Duration(m.r.Int64N(int64(m.slow)))
		m.mu.Unlock()
		time.Sleep(d)
		m.mu.Lock()
	}
}

// name is a path's name in the store's directory.
func (m *simFS) name(op, path string) (string, error) {
	if filepath.Dir(path) != simStore || m.dir == nil {
		return "", &fs.PathError{Op: op, Path: path, Err: syscall.ENOENT}
	}
	name := filepath.Base(path)
	if m.folds {
		name = strings.ToLower(name)
	}
	return name, nil
}

func (m *simFS) find(op, path string) (*simNode, error) {
	name, err := m.name(op, path)
	if err != nil {
		return nil, err
	}
	if n := m.dir.now[name]; n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: op, Path: path, Err: syscall.ENOENT}
}

func (m *simFS) Open(path string, flag int) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("open", path, flag&os.O_CREATE != 0); err != nil {
		return nil, err
	}
	name, err := m.name("open", path)
	if err != nil {
		return nil, err
	}
	n := m.dir.now[name]
	switch {
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EEXIST}
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	case n == nil:
		m.nodes++
		n = &simNode{id: m.nodes}
		m.dir.do(simOp{put: name, node: n})
	}
	return &simFile{m: m, n: n, path: path, since: n.errs.sample()}, nil
}

func (m *simFS) Look(path string, info fs.FileInfo) (bool, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("look", path, false); err != nil {
		return false, 0, err
	}
	n, err := m.find("look", path)
	if err != nil {
		return false, 0, err
	}
	return n.id == info.Sys(), int64(len(n.now)), nil
}

// A directory's fs.FileInfo is a real one, because os.SameFile knows no others.
var simDirInfo, simDirErr = os.Stat(os.TempDir())

func (m *simFS) Stat(path string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("stat", path, false); err != nil {
		return nil, err
	}
	if path == simHome || path == simStore && m.dir != nil {
		return simDirInfo, simDirErr
	}
	n, err := m.find("stat", path)
	if err != nil {
		return nil, err
	}
	return simInfo{filepath.Base(path), n.id, int64(len(n.now))}, nil
}

func (m *simFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("rename", to, true); err != nil {
		return err
	}
	n, err := m.find("rename", from)
	if err != nil {
		return err
	}
	put, err := m.name("rename", to)
	take, errFrom := m.name("rename", from)
	if err == nil && errFrom == nil {
		m.dir.do(simOp{put: put, take: take, node: n})
	}
	return errors.Join(err, errFrom)
}

func (m *simFS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("remove", path, true); err != nil {
		return err
	}
	if _, err := m.find("remove", path); err != nil {
		return err
	}
	name, err := m.name("remove", path)
	m.dir.do(simOp{take: name})
	return err
}

func (m *simFS) Mkdir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("mkdir", path, true); err != nil {
		return err
	}
	if path != simStore || m.dir != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.EEXIST}
	}
	m.dir = &simDir{now: make(map[string]*simNode), disk: make(map[string]*simNode)}
	return nil
}

func (m *simFS) Names(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("readdir", dir, false); err != nil {
		return nil, err
	}
	if dir != simStore || m.dir == nil {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: syscall.ENOENT}
	}
	return slices.Sorted(maps.Keys(m.dir.now)), nil
}

func (m *simFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change := 0
	if m.dir != nil {
		change = m.dir.last()
	}
	m.takeTime()
	err := m.call("fsync", dir, true)
	switch {
	case dir == simHome:
		m.safe = m.safe || err == nil && m.dir != nil
	case dir != simStore || m.dir == nil:
		return &fs.PathError{Op: "fsync", Path: dir, Err: syscall.ENOENT}
	case err != nil && !m.dead:
		m.dir.lose(m.r)
	case err == nil:
		m.dir.flush(change)
	}
	return err
}

func (m *simFS) Writable(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.call("access", dir, false)
}

func (m *simFS) OpenSyncer(dir string) (syncer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("open", dir, false); err != nil {
		return nil, err
	}
	if m.syncFSUnsupported {
		return nil, errors.ErrUnsupported
	}
	return &simSyncer{m: m, dir: dir, since: m.errs.sample()}, nil
}

// all are the files that are there or have been, but for those that no name leads to.
func (m *simFS) all() []*simNode {
	seen := make(map[*simNode]bool)
	for _, names := range []map[string]*simNode{m.dir.now, m.dir.disk} {
		for _, n := range names {
			seen[n] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b *simNode) int { return a.id - b.id })
}

// spoil lets the kernel write back some of what is dirty, and fail, while nobody waits
// for it.
func (m *simFS) spoil() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dir == nil {
		return
	}
	for _, n := range m.all() {
		if n.isDirty() && m.r.IntN(2) == 0 {
			m.loseFile(n)
		}
	}
}

func (m *simFS) loseFile(n *simNode) {
	n.lose(m.r)
	m.errs.raise()
}

type simSyncer struct {
	m     *simFS
	dir   string
	since int
}

func (s *simSyncer) SyncFS() error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	began, changes := m.dir.last(), make(map[*simNode]int)
	for _, n := range m.all() {
		changes[n] = n.last()
	}
	m.takeTime()
	err := m.call("syncfs", s.dir, true)
	if m.dead {
		return err
	}
	for _, n := range m.all() {
		if err != nil && n.isDirty() && m.r.IntN(2) == 0 {
			m.loseFile(n)
		} else {
			n.flush(changes[n])
		}
	}
	if err != nil {
		m.errs.raise() // the file that was lost may have no name any more
	} else {
		m.dir.flush(began)
	}
	if m.errs.heard(&s.since) {
		err = &fs.PathError{Op: "syncfs", Path: s.dir, Err: syscall.EIO}
	}
	return err
}

func (s *simSyncer) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.call("close", s.dir, false)
}

type simInfo struct {
	name string
	id   int
	size int64
}

func (i simInfo) Name() string       { return i.name }
func (i simInfo) Size() int64        { return i.size }
func (i simInfo) Mode() fs.FileMode  { return fileMode }
func (i simInfo) ModTime() time.Time { return time.Time{} }
func (i simInfo) IsDir() bool        { return false }
func (i simInfo) Sys() any           { return i.id }

// A simFile is an open file.
type simFile struct {
	m     *simFS
	n     *simNode
	path  string
	since int // the errors of writing back that it has heard of
}

// begin locks the machine and begins a call.
func (f *simFile) begin(op string, changes bool) (end func(), err error) {
	f.m.mu.Lock()
	return f.m.mu.Unlock, f.m.call(op, f.path, changes)
}

func (f *simFile) ReadAt(b []byte, off int64) (int, error) {
	end, err := f.begin("read", false)
	defer end()
	if err != nil {
		return 0, err
	}
	n := copy(b, f.n.now[min(int(off), len(f.n.now)):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes some of it when it fails, as a disk does that is full.
func (f *simFile) WriteAt(b []byte, off int64) (int, error) {
	end, err := f.begin("write", true)
	defer end()
	defer f.m.takeTime()
	if err != nil && !f.m.dead {
		b = b[:f.m.r.IntN(len(b)+1)]
	}
	if !f.m.dead && len(b) > 0 {
		f.n.write(b, int(off))
	}
	return len(b), err
}

func (f *simFile) Close() error {
	end, err := f.begin("close", false)
	defer end()
	delete(f.n.locks, f)
	return err
}

func (f *simFile) Stat() (fs.FileInfo, error) {
	end, err := f.begin("fstat", false)
	defer end()
	if err != nil {
		return nil, err
	}
	return simInfo{filepath.Base(f.path), f.n.id, int64(len(f.n.now))}, nil
}

func (f *simFile) Same(info fs.FileInfo) (bool, error) {
	end, err := f.begin("fstat", false)
	defer end()
	return err == nil && f.n.id == info.Sys(), err
}

func (f *simFile) Truncate(size int64) error {
	end, err := f.begin("truncate", true)
	defer end()
	if err == nil {
		f.n.truncate(int(size))
	}
	return err
}

func (f *simFile) Sync() error     { return f.flush("fsync") }
func (f *simFile) Datasync() error { return f.flush("fdatasync") }

func (f *simFile) flush(op string) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	change := f.n.last()
	f.m.takeTime()
	err := f.m.call(op, f.path, true)
	switch {
	case f.m.dead:
		return err
	case err != nil:
		f.m.loseFile(f.n)
	default:
		f.n.flush(change)
	}
	if f.n.errs.heard(&f.since) {
		err = &fs.PathError{Op: op, Path: f.path, Err: syscall.EIO}
	}
	return err
}

func (f *simFile) TryLock(exclusive bool) (bool, error) {
	end, err := f.begin("flock", false)
	defer end()
	if err != nil {
		return false, err
	}
	for g, ex := range f.n.locks {
		if g != f && (ex || exclusive) {
			return false, nil
		}
	}
	if f.n.locks == nil {
		f.n.locks = make(map[*simFile]bool)
	}
	f.n.locks[f] = exclusive
	return true, nil
}

func (f *simFile) Unlock() error {
	end, err := f.begin("funlock", false)
	defer end()
	if err == nil {
		delete(f.n.locks, f)
	}
	return err
}
