//go:build unix

package filestore

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

func makePipe(t *testing.T, path string, _ []byte) []byte {
	must(t, os.Remove(path))
	must(t, syscall.Mkfifo(path, 0o600))
	return nil
}

func TestModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, _ := openTest(t, dir)
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	mode := func(path string) os.FileMode {
		info, err := os.Stat(path)
		must(t, err)
		return info.Mode().Perm()
	}
	for path, want := range map[string]os.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, s.path("k"): 0o600, s.lockPath("k"): 0o600,
	} {
		if got := mode(path); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	must(t, os.Chmod(dir, 0o755))
	openTest(t, dir)
	if got := mode(dir); got != 0o755 {
		t.Errorf("the mode of a directory that was there is %o, and was 755", got)
	}
}

func TestNoPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may do everything; the calls that fail with EACCES are in TestEveryCallFails")
	}
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	must(t, os.Chmod(s.path("k"), 0))
	_, err := s.Load(t.Context(), "k")
	want(t, err, state.ErrRefused, s.path("k"))
	must(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700)
	want(t, s.Ping(t.Context()), state.ErrRefused, dir)
}
