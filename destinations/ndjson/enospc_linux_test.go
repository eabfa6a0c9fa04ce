package ndjson

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// TestAFullDisk fills a real file system, frees some of it, and goes on.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs the right to mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(filepath.Join(dir, "out"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	n := 0
	for {
		err := s.Deliver(t.Context(), batch(t, n+1, n+10, 1000))
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += 10
	}
	if n == 0 || readAll(t, d.dir) != want(t, extjson.Relaxed, batch(t, 1, n, 1000)) {
		t.Fatalf("after %d events the disk is full, and the files are not what was delivered", n)
	}
	doSync(t, s)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, batch(t, n+1, n+10, 1000))
	doSync(t, s)
	if readAll(t, d.dir) != want(t, extjson.Relaxed, batch(t, 1, n+10, 1000)) {
		t.Error("after the disk had room again, the files are not what was delivered")
	}
}
