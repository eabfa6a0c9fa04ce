package ndjson

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// failOn makes the disk fail at each operation of a kind, as long as it is so set.
func failOn(op string, err error) func(string, string, int) (int, error) {
	return func(got, _ string, size int) (int, error) {
		if got == op {
			return size / 2, err
		}
		return 0, nil
	}
}

func TestAFailedWriteIsTakenBack(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	disk := d.fs.(*disk)
	s := openSink(t, d, rigatoni.Opening{})
	deliver(t, s, batch(t, 1, 2, 0))

	disk.fault = failOn("write", syscall.ENOSPC)
	if err := s.Deliver(t.Context(), batch(t, 3, 4, 0)); !errors.Is(err, syscall.ENOSPC) || errors.As(err, new(*rigatoni.PartialError)) {
		t.Fatalf("got %v", err)
	}
	if read(t, dir, open(0, 1)) != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Fatal("something of the failed write is left")
	}
	disk.fault = nil
	deliver(t, s, batch(t, 3, 4, 0))
	if read(t, dir, open(0, 1)) != want(t, extjson.Relaxed, batch(t, 1, 4, 0)) {
		t.Error("the file isn't what was delivered")
	}
	doSync(t, s)

	// A short write without an error is one too.
	disk.fault = func(op, _ string, size int) (int, error) {
		if op == "write" {
			return size / 2, errShort
		}
		return 0, nil
	}
	s.cur.file = shortFile{s.cur.file}
	if err := s.Deliver(t.Context(), batch(t, 5, 5, 0)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a short write: %v", err)
	}
	if read(t, dir, open(0, 1)) != want(t, extjson.Relaxed, batch(t, 1, 4, 0)) {
		t.Error("something of the short write is left")
	}
}

var errShort = errors.New("short")

// shortFile turns errShort into a short write without an error.
type shortFile struct{ file }

func (f shortFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	if errors.Is(err, errShort) {
		err = nil
	}
	return n, err
}

func TestAFailedWriteTellsHowFarItGot(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 3000})
	s := openSink(t, d, rigatoni.Opening{})
	writes := 0
	d.fs.(*disk).fault = func(op, _ string, size int) (int, error) {
		if op != "write" {
			return 0, nil
		}
		if writes++; writes == 3 {
			return size - 1, syscall.EIO
		}
		return 0, nil
	}
	b := batch(t, 1, 40, 0)
	err := s.Deliver(t.Context(), b)
	var p *rigatoni.PartialError
	if !errors.As(err, &p) || !errors.Is(err, syscall.EIO) || p.Delivered == 0 {
		t.Fatalf("got %v", err)
	}
	got := readAll(t, dir)
	if got != want(t, extjson.Relaxed, batch(t, 1, p.Delivered, 0)) {
		t.Errorf("it says %d events, and %d are there", p.Delivered, strings.Count(got, "\n"))
	}
	b.Events = b.Events[p.Delivered:]
	deliver(t, s, b)
	if readAll(t, dir) != want(t, extjson.Relaxed, batch(t, 1, 40, 0)) {
		t.Error("the files aren't what was delivered")
	}
}

func TestATornEndThatCannotBeTakenBackIsCutLater(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	disk := d.fs.(*disk)
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
	deliver(t, s, batch(t, 1, 2, 0))
	saved := doSync(t, s)
	deliver(t, s, batch(t, 3, 3, 0))
	disk.fault = func(op, _ string, size int) (int, error) {
		if op == "write" || op == "truncate" {
			return size / 2, syscall.EIO
		}
		return 0, nil
	}
	if err := s.Deliver(t.Context(), batch(t, 4, 4, 0)); err == nil {
		t.Fatal("no error")
	}
	disk.fault = nil
	torn := read(t, dir, open(1, 1))
	if torn == want(t, extjson.Relaxed, batch(t, 1, 3, 0)) {
		t.Fatal("nothing is torn: the test tests nothing")
	}
	deliver(t, s, batch(t, 4, 4, 0)) // is redelivered after Sync
	if got := read(t, dir, open(1, 1)); got != torn {
		t.Error("something was written behind a torn line")
	}
	for range 2 {
		if doc, err := s.Sync(t.Context()); err == nil {
			t.Fatalf("Sync says %s, though events are torn", doc)
		}
	}
	s.Close()
	s = openSink(t, d, rigatoni.Opening{Fence: fence(1), Saved: saved})
	if got := read(t, dir, name(1, 1)); got != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Error("what is behind the checkpoint was not cut off")
	}
	deliver(t, s, batch(t, 3, 4, 0))
	doSync(t, s)
}

func TestAFailedFlushIsNeverRepeated(t *testing.T) {
	for _, op := range []string{"sync", "syncDir", "close"} {
		for _, rotated := range []bool{false, true} {
			if op == "close" && !rotated {
				continue // Sync leaves the file open
			}
			dir := tempDir(t)
			d := openFiles(t, dir, Options{})
			if rotated {
				d.o.MaxFileBytes = 1
			}
			disk := d.fs.(*disk)
			s := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
			deliver(t, s, batch(t, 1, 1, 0))
			disk.fault = failOn(op, syscall.EIO)
			if rotated {
				deliver(t, s, batch(t, 2, 2, 0)) // what fails here is Sync's to say
			} else if _, err := s.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: Sync says %v", op, err)
			}
			disk.fault = nil
			deliver(t, s, batch(t, 3, 3, 0))
			for range 2 {
				if doc, err := s.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
					t.Errorf("%s, rotated %v: a later Sync says %s, %v", op, rotated, doc, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: Close: %v", op, err)
			}
			wantNames(t, dir, open(1, 1))
			s = openSink(t, d, rigatoni.Opening{Fence: fence(1)})
			deliver(t, s, batch(t, 1, 1, 0))
			doSync(t, s)
			wantNames(t, dir, open(1, 2))
		}
	}
}

// TestAFlushThatFailsAtOpening: whether the tail is on disk is then unknown for
// good, so it goes.
func TestAFlushThatFailsAtOpening(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	disk := d.fs.(*disk)
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
	deliver(t, s, batch(t, 1, 2, 0))
	saved := doSync(t, s)
	deliver(t, s, batch(t, 3, 4, 0))
	s.Close()
	at := rigatoni.Opening{Key: "shop", Fence: fence(2), Saved: saved}
	for _, op := range []string{"open", "syncDir", "sync"} {
		disk.fault = failOn(op, syscall.EIO)
		if _, err := d.Open(t.Context(), at); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", op, err)
		}
	}
	disk.fault = nil
	openSink(t, d, at)
	if got := read(t, dir, name(1, 1)); got != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Error("lines whose flush failed are still there")
	}
}

func TestCloseReportsErrors(t *testing.T) {
	d := openFiles(t, tempDir(t), Options{})
	s := openSink(t, d, rigatoni.Opening{})
	deliver(t, s, batch(t, 1, 1, 0))
	d.fs.(*disk).fault = failOn("close", syscall.EIO)
	if err := s.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestAFileThatCannotBeCreated(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{})
	d.fs.(*disk).fault = failOn("create", syscall.EMFILE)
	if err := s.Deliver(t.Context(), batch(t, 1, 1, 0)); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Deliver: %v", err)
	}
	d.fs.(*disk).fault = nil
	deliver(t, s, batch(t, 1, 1, 0))
	wantNames(t, dir, open(0, 1))
}

// TestAFileThatSomebodyElseCuts: taking a failed write back must not fill the
// hole with zeros.
func TestAFileThatSomebodyElseCuts(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		dir := tempDir(t)
		d := openFiles(t, dir, Options{})
		s := openSink(t, d, rigatoni.Opening{})
		deliver(t, s, batch(t, 1, 5, 0))
		if flushed {
			doSync(t, s)
		}
		if err := os.Truncate(filepath.Join(dir, open(0, 1)), 0); err != nil {
			t.Fatal(err)
		}
		d.fs.(*disk).fault = failOn("write", syscall.ENOSPC)
		_ = s.Deliver(t.Context(), batch(t, 6, 6, 0)) // Sync says it
		if got := read(t, dir, open(0, 1)); got != "" {
			t.Errorf("there is something now: %q", got)
		}
		d.fs.(*disk).fault = nil
		if _, err := s.Sync(t.Context()); err == nil {
			t.Error("Sync is content with a file that lost its lines")
		}
	}
}

// TestTheDirectoryIsFlushedToo: a power cut must not take away the directory
// that the files are in, even if an earlier life was killed right after it had
// made it.
func TestTheDirectoryIsFlushedToo(t *testing.T) {
	root := tempDir(t)
	dir := filepath.Join(root, "a", "b")
	d := openFiles(t, dir, Options{})
	var flushed []string
	d.fs.(*disk).fault = func(op, path string, _ int) (int, error) {
		if op == "syncDir" {
			flushed = append(flushed, path)
		}
		return 0, nil
	}
	wantFlushed := func(when string, want ...string) {
		t.Helper()
		for _, path := range want {
			if !slices.Contains(flushed, path) {
				t.Errorf("%s: %s was not flushed, only %v", when, path, flushed)
			}
		}
		flushed = nil
	}
	openSink(t, d, rigatoni.Opening{})
	wantFlushed("new", filepath.Base(root), "a")
	if err := os.Remove(filepath.Join(dir, markerName("shop", 0))); err != nil {
		t.Fatal(err)
	}
	s := openSink(t, d, rigatoni.Opening{})
	wantFlushed("made by a process that was killed", "a")
	deliver(t, s, batch(t, 1, 1, 0))
	doSync(t, s)
	wantFlushed("a new file", "b")
	deliver(t, s, batch(t, 2, 2, 0))
	doSync(t, s)
	if len(flushed) > 0 {
		t.Errorf("without a new file, %v was flushed", flushed)
	}
}
