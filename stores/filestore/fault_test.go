package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A faultFS is the operating system with calls that fail, and a memory of the calls
// that were made.
type faultFS struct {
	osFS
	mu      sync.Mutex
	failAt  int // the call that fails, counted from 1; 0 for none
	forever bool
	failOp  string // every call of this kind fails
	err     error
	n       int
	hits    []string // the calls that failed
	calls   []string
}

func (s *faultFS) arm(failAt int, err error, forever bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.err, s.forever, s.n, s.hits, s.calls = failAt, err, forever, 0, nil, nil
}

func (s *faultFS) disarm() { s.arm(0, nil, false) }

// trace is what was called since arm, with the names of files without what is random.
func (s *faultFS) trace() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *faultFS) call(op, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := filepath.Base(path)
	if stem, ok := stemOfTemp(name); ok {
		name = stem + tempSuffix
	}
	s.calls = append(s.calls, op+" "+name)
	s.n++
	if op == s.failOp {
		return &fs.PathError{Op: op, Path: path, Err: s.err}
	}
	if s.failAt == 0 || s.n < s.failAt || s.n > s.failAt && !s.forever {
		return nil
	}
	s.hits = append(s.hits, op+" "+path)
	return &fs.PathError{Op: op, Path: path, Err: s.err}
}

func (s *faultFS) Open(path string, flag int) (file, error) {
	if err := s.call("open", path); err != nil {
		return nil, err
	}
	f, err := s.osFS.Open(path, flag)
	if err != nil {
		return nil, err
	}
	return &faultFile{f, s, path}, nil
}

func (s *faultFS) Look(path string, info fs.FileInfo) (bool, int64, error) {
	if err := s.call("look", path); err != nil {
		return false, 0, err
	}
	return s.osFS.Look(path, info)
}

func (s *faultFS) Stat(path string) (fs.FileInfo, error) {
	if err := s.call("stat", path); err != nil {
		return nil, err
	}
	return s.osFS.Stat(path)
}

func (s *faultFS) Rename(from, to string) error {
	if err := s.call("rename", to); err != nil {
		return err
	}
	return s.osFS.Rename(from, to)
}

func (s *faultFS) Remove(path string) error {
	if err := s.call("remove", path); err != nil {
		return err
	}
	return s.osFS.Remove(path)
}

func (s *faultFS) SyncDir(dir string) error {
	if err := s.call("fsync", dir); err != nil {
		return err
	}
	return s.osFS.SyncDir(dir)
}

// OpenSyncer gives one on any file system, because what is asked here is only who
// calls it when.
func (s *faultFS) OpenSyncer(dir string) (syncer, error) {
	if err := s.call("open", dir); err != nil {
		return nil, err
	}
	fs, err := s.osFS.OpenSyncer(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		fs, err = noSyncer{}, nil
	}
	return &faultSyncer{fs, s, dir}, err
}

type noSyncer struct{}

func (noSyncer) SyncFS() error { return nil }
func (noSyncer) Close() error  { return nil }

type faultSyncer struct {
	syncer
	s   *faultFS
	dir string
}

func (f *faultSyncer) SyncFS() error {
	if err := f.s.call("syncfs", f.dir); err != nil {
		return err
	}
	return f.syncer.SyncFS()
}

type faultFile struct {
	file
	s    *faultFS
	path string
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.s.call("read", f.path); err != nil {
		return 0, err
	}
	return f.file.ReadAt(b, off)
}

// WriteAt writes half of it when it fails, as a disk does that is full.
func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.s.call("write", f.path); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.file.WriteAt(b, off)
}

// Close closes all the same, as the system does.
func (f *faultFile) Close() error {
	return errors.Join(f.s.call("close", f.path), f.file.Close())
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	if err := f.s.call("fstat", f.path); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

func (f *faultFile) Same(info fs.FileInfo) (bool, error) {
	if err := f.s.call("fstat", f.path); err != nil {
		return false, err
	}
	return f.file.Same(info)
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.s.call("truncate", f.path); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultFile) Sync() error {
	if err := f.s.call("fsync", f.path); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultFile) Datasync() error {
	if err := f.s.call("fdatasync", f.path); err != nil {
		return err
	}
	return f.file.Datasync()
}

func (f *faultFile) TryLock(exclusive bool) (bool, error) {
	if err := f.s.call("flock", f.path); err != nil {
		return false, err
	}
	return f.file.TryLock(exclusive)
}

func (f *faultFile) Unlock() error {
	if err := f.s.call("funlock", f.path); err != nil {
		return err
	}
	return f.file.Unlock()
}

// A faultCase is one operation, with what comes before it. The checkpoint is
// numbered(1) before, and numbered(2) (or none) after.
type faultCase struct {
	name   string
	before func(t *testing.T, s *Store) state.Fence
	do     func(t *testing.T, s *Store, f state.Fence) error
	gone   bool // the operation removes the checkpoint
	keeps  bool // the operation leaves the checkpoint as it is
}

func faultCases() []faultCase {
	leased := func(t *testing.T, s *Store) state.Fence {
		g := acquire(t, s, "k", "first")
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
		return g.Fence
	}
	unleased := func(t *testing.T, s *Store) state.Fence {
		must(t, s.Save(t.Context(), "k", numbered(t, 1)))
		return state.Fence{}
	}
	saveFenced := func(size int) func(*testing.T, *Store, state.Fence) error {
		return func(t *testing.T, s *Store, f state.Fence) error {
			return s.SaveFenced(t.Context(), "k", f, numberedOf(t, 2, size))
		}
	}
	save := func(t *testing.T, s *Store, _ state.Fence) error { return s.Save(t.Context(), "k", numbered(t, 2)) }
	return []faultCase{
		{name: "SaveFenced", before: leased, do: saveFenced(0)},
		{name: "SaveFenced/Growing", before: leased, do: saveFenced(9000)},
		{name: "Save", before: unleased, do: save},
		{name: "Save/Reopened", before: func(t *testing.T, s *Store) state.Fence {
			other, _ := openTest(t, s.dir)
			must(t, other.Save(t.Context(), "k", numbered(t, 1)))
			return state.Fence{}
		}, do: save},
		{name: "Save/ByHand", before: func(t *testing.T, s *Store) state.Fence {
			must(t, s.Release(t.Context(), "k", leased(t, s)))
			return state.Fence{}
		}, do: save},
		{name: "Clear", before: func(t *testing.T, s *Store) state.Fence {
			must(t, s.Save(t.Context(), "k", plain(t, 1)))
			return state.Fence{}
		}, do: func(t *testing.T, s *Store, _ state.Fence) error { return s.Clear(t.Context(), "k") }, gone: true},
		{name: "ClearFenced", before: leased, do: func(t *testing.T, s *Store, f state.Fence) error {
			return s.ClearFenced(t.Context(), "k", f)
		}, gone: true},
		{name: "Forget", before: unleased, do: func(t *testing.T, s *Store, _ state.Fence) error {
			return s.Forget(t.Context(), "k")
		}, gone: true},
		{name: "Acquire", before: unleased, do: func(t *testing.T, s *Store, _ state.Fence) error {
			r := request("first")
			r.Nonce = "the same when it is tried again"
			_, err := s.Acquire(t.Context(), "k", r)
			return err
		}, keeps: true},
		{name: "Renew", before: leased, do: func(t *testing.T, s *Store, f state.Fence) error {
			return s.Renew(t.Context(), "k", f, 1e9)
		}, keeps: true},
		{name: "Release", before: leased, do: func(t *testing.T, s *Store, f state.Fence) error {
			return s.Release(t.Context(), "k", f)
		}, keeps: true},
	}
}

// Every call to the system in turn fails, once and for ever: afterwards the checkpoint
// is the old or the new one, and the error names the call.
func TestEveryCallFails(t *testing.T) {
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES}
	if testing.Short() {
		errnos = errnos[:2]
	}
	for _, c := range faultCases() {
		for _, errno := range errnos {
			for _, forever := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/forever=%t", c.name, errno, forever), func(t *testing.T) {
					n := 1
					for c.failNth(t, n, errno, forever) {
						n++
					}
					if n < 3 {
						t.Fatalf("the operation made only %d calls", n-1)
					}
				})
			}
		}
	}
}

// failNth does the operation with the n-th call failing, and reports whether there was
// an n-th call.
func (c faultCase) failNth(t *testing.T, n int, errno error, forever bool) bool {
	dir := t.TempDir()
	sys := &faultFS{}
	s, _ := openOn(t, sys, dir)
	f := c.before(t, s)
	sys.arm(n, errno, forever)
	err := c.do(t, s, f)
	hits := sys.hits
	sys.disarm()
	if len(hits) == 0 {
		must(t, err)
		return false
	}
	where := fmt.Sprintf("call %d, %s", n, hits[0])
	if err != nil {
		var se *state.Error
		if !errors.Is(err, errno) || !errors.As(err, &se) || !errors.Is(err, state.ErrUnavailable) && !errors.Is(err, state.ErrRefused) {
			t.Fatalf("%s: the error is %v", where, err)
		}
		if !slices.ContainsFunc(hits, func(hit string) bool {
			op, _, _ := strings.Cut(hit, " ")
			return strings.Contains(err.Error(), hit+":") || strings.Contains(err.Error(), op+" "+s.path("k")+":")
		}) {
			t.Errorf("%s: the error names another call: %v", where, err)
		}
	}
	if temps := tempFiles(t, dir); len(temps) > 0 && !forever && !strings.HasPrefix(hits[0], "remove") {
		t.Errorf("%s: %v is left", where, temps)
	}
	if err != nil && f.IsZero() {
		wantUnlocked(t, s.lockPath("k"), where)
	}
	fresh, logged := openTest(t, dir)
	c.check(t, fresh, where+", after it", err == nil)
	if logged.Len() > 0 && !strings.HasPrefix(hits[0], "write") {
		t.Errorf("%s: a warning: %s", where, logged)
	}
	// Once the fault is over, the same store goes on.
	if err := c.do(t, s, f); err != nil {
		t.Fatalf("%s: once more: %v", where, err)
	}
	c.check(t, fresh, where+", after doing it again", true)
	must(t, s.Close())
	openTest(t, dir)
	if temps := tempFiles(t, dir); len(temps) > 0 {
		t.Errorf("%s: %v is left, after the sweep too", where, temps)
	}
	return true
}

func tempFiles(t *testing.T, dir string) []string {
	t.Helper()
	temps, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
	must(t, err)
	return temps
}

// wantUnlocked wants a lock to be free for whoever comes next.
func wantUnlocked(t *testing.T, path, where string) {
	t.Helper()
	l := lockFile{sys: osFS{}, path: path}
	if ok, err := l.try(); !ok || err != nil {
		t.Errorf("%s: the lock is still held (%v)", where, err)
	}
	must(t, l.close())
}

// check checks that the checkpoint is the old or the new one; if done, the new one.
func (c faultCase) check(t *testing.T, s *Store, where string, done bool) {
	t.Helper()
	cp, err := s.Load(t.Context(), "k")
	switch {
	case errors.Is(err, state.ErrNotFound) && c.gone:
	case err != nil:
		t.Fatalf("%s: %v", where, err)
	case cp.Sequence <= 1 && (!done || c.keeps): // plain(1) has no sequence
	case cp.Sequence == 2 && !c.gone && !c.keeps:
	default:
		t.Fatalf("%s: the checkpoint is that of sequence %d", where, cp.Sequence)
	}
}

// What is called, in which order: the flushes above all.
func TestCalls(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	dir := filepath.Base(s.dir)
	replace := func(old ...string) []string {
		calls := []string{"look k.json", "open k.json", "fstat k.json", "read k.json", "close k.json", "open k.tmp", "write k.tmp", "fstat k.tmp", "fsync k.tmp", "rename k.json"}
		return append(append(calls, "fsync "+dir), old...)
	}
	// A file goes by the name under which it was opened.
	inPlace := []string{"write k.tmp", "look k.json", "fdatasync k.tmp"}

	g := acquire(t, s, "k", "first")
	for i, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"a save by the owner", func() error { return s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)) }, inPlace},
		{"the next one", func() error { return s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)) }, inPlace},
		{"a larger one", func() error { return s.SaveFenced(t.Context(), "k", g.Fence, numberedOf(t, 3, 9000)) }, replace("close k.tmp")},
		{"the one after it", func() error { return s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 4)) }, inPlace},
		{"Clear", func() error { return s.ClearFenced(t.Context(), "k", g.Fence) }, replace("close k.tmp")},
	} {
		sys.arm(0, nil, false)
		must(t, step.do())
		if got := sys.trace(); !slices.Equal(got, step.want) {
			t.Errorf("%d: %s calls\n%q, want\n%q", i, step.what, got, step.want)
		}
	}
}

// A flush that failed is not repeated: the file is written again.
func TestFailedFlushIsNotRepeated(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	before, err := os.Stat(s.path("k"))
	must(t, err)
	sys.arm(3, syscall.EIO, false)
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)), state.ErrUnavailable, "fdatasync")
	sys.arm(0, nil, false)
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)))
	if calls := sys.trace(); slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, "fdatasync") }) {
		t.Errorf("after a flush that failed, the next save calls %q", calls)
	}
	after, err := os.Stat(s.path("k"))
	must(t, err)
	if os.SameFile(before, after) {
		t.Error("after a flush that failed, the file is still the same one")
	}
	wantToken(t, s, "k", numbered(t, 2))
}

// A write that fails may leave a file that can't even be read any more. It is the
// owner's own all the same, and is replaced.
func TestFailedWriteAndUnreadable(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	g := acquire(t, s, "k", "first")
	sys.arm(1, syscall.EIO, false)
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)), state.ErrUnavailable, "write "+s.path("k"))
	sys.arm(0, syscall.EIO, false)
	sys.failOp = "read"
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	sys.failOp = ""
	wantToken(t, s, "k", numbered(t, 1))
}

// The directory is durable before anything is in it, and so are those above it that
// were made for it.
func TestOpenFlushesDirectories(t *testing.T) {
	base := t.TempDir()
	sys := &faultFS{}
	openOn(t, sys, filepath.Join(base, "a", "b"))
	var flushed []string
	for _, c := range sys.trace() {
		if name, ok := strings.CutPrefix(c, "fsync "); ok {
			flushed = append(flushed, name)
		}
	}
	if want := []string{filepath.Base(base), "a"}; !slices.Equal(flushed, want) {
		t.Errorf("making a/b flushes %q, want %q", flushed, want)
	}
	sys.arm(1, syscall.EIO, false)
	_, err := open(sys, filepath.Join(base, "c"), nil)
	want(t, err, state.ErrUnavailable, "fsync "+base)
}

// Saves without a lease: in place while nobody else writes, and otherwise not, since
// whether another's last write was flushed can't be known.
func TestUnfencedCalls(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	other, _ := openTest(t, s.dir)
	inPlace := func(n int) bool {
		sys.arm(0, nil, false)
		must(t, s.Save(t.Context(), "k", plain(t, n)))
		wantToken(t, s, "k", numbered(t, n))
		flushes, replaced := 0, false
		for _, c := range sys.trace() {
			replaced = replaced || strings.HasPrefix(c, "rename")
			if strings.Contains(c, "sync ") {
				flushes++
			}
		}
		if !replaced && flushes != 1 {
			t.Errorf("a save in place flushes %d times: %q", flushes, sys.trace())
		}
		return !replaced
	}
	if inPlace(1) {
		t.Error("the first save is in place")
	}
	if !inPlace(2) || !inPlace(3) {
		t.Error("saves with nobody else about are not in place")
	}
	must(t, other.Save(t.Context(), "k", plain(t, 4)))
	if inPlace(5) {
		t.Error("a save is in place after another's, which may not have been flushed")
	}
	must(t, other.Save(t.Context(), "k", plain(t, 6)))
	must(t, other.Save(t.Context(), "k", plain(t, 7)))
	if inPlace(8) {
		t.Error("a save is in place after two of another's")
	}
	if !inPlace(9) {
		t.Error("the save after it is not in place")
	}
	g := acquire(t, s, "k", "first")
	must(t, s.Release(t.Context(), "k", g.Fence))
	if inPlace(10) || inPlace(11) {
		t.Error("a checkpoint that is set by hand leaves the old one in the other slot")
	}
}
