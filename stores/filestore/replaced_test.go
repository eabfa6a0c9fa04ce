//go:build unix

package filestore

import (
	"io/fs"
	"os"
	"sync"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A file that loses its name stays open until that is flushed: see keyFile.hold.
func TestReplacedFilesAreHeld(t *testing.T) {
	sys := &openFS{open: map[file]fs.FileInfo{}}
	s, _ := openOn(t, sys, t.TempDir())
	g := acquire(t, s, "k", "first")
	large := func(n int) state.Checkpoint { return numberedOf(t, n, n*5000) }
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"growth", func() error { return s.SaveFenced(t.Context(), "k", g.Fence, large(1)) }},
		{"clear, leased", func() error { return s.ClearFenced(t.Context(), "k", g.Fence) }},
		{"batch", func() error {
			return s.SaveBatch(t.Context(), []state.Item{{Key: "k", Fence: g.Fence, Checkpoint: large(2)}})[0]
		}},
		{"by hand", func() error {
			must(t, s.Release(t.Context(), "k", g.Fence))
			return s.Save(t.Context(), "k", large(3))
		}},
		{"forget", func() error { return s.Forget(t.Context(), "k") }},
		{"creation", func() error { return s.Save(t.Context(), "k", plain(t, 1)) }},
		{"growth, plain", func() error {
			cp := plain(t, 2)
			cp.Token = large(2).Token
			return s.Save(t.Context(), "k", cp)
		}},
		{"clear, plain", func() error { return s.Clear(t.Context(), "k") }},
	} {
		sys.watch(t, s.path("k"))
		must(t, step.do())
		if !sys.held() {
			t.Errorf("%s: the file was closed before its directory was flushed", step.name)
		}
	}
	must(t, s.Close())
	if n := len(sys.open); n > 0 {
		t.Errorf("%d files are still open", n)
	}
}

// openFS knows which files are open when a directory is flushed.
type openFS struct {
	osFS
	mu      sync.Mutex
	open    map[file]fs.FileInfo
	path    string
	watched fs.FileInfo // the file that had the path
	wasHeld bool
}

type heldFile struct {
	file
	sys *openFS
}

func (s *openFS) Open(path string, flag int) (file, error) {
	f, err := s.osFS.Open(path, flag)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	o := &heldFile{f, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[o] = info
	return o, nil
}

func (f *heldFile) Close() error {
	f.sys.mu.Lock()
	delete(f.sys.open, f)
	f.sys.mu.Unlock()
	return f.file.Close()
}

// watch is about the file that has the path now.
func (s *openFS) watch(t *testing.T, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.wasHeld, s.watched = path, false, nil
	if info, err := os.Stat(path); err == nil {
		s.watched = info
	}
}

// SyncDir looks whether the file is open that has lost the path.
func (s *openFS) SyncDir(dir string) error {
	s.mu.Lock()
	now, err := os.Stat(s.path)
	if s.watched == nil || err != nil || !os.SameFile(now, s.watched) {
		s.wasHeld = s.watched == nil
		for _, info := range s.open {
			s.wasHeld = s.wasHeld || os.SameFile(info, s.watched)
		}
	}
	s.mu.Unlock()
	return s.osFS.SyncDir(dir)
}

func (s *openFS) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wasHeld
}
