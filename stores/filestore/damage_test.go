package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rigatoni-etl/rigatoni/state"
)

// savedFile makes a file with two records, places 1 and 2, and gives its contents.
func savedFile(t testing.TB, dir, key string) []byte {
	t.Helper()
	s, err := Open(dir, nil)
	must(t, err)
	defer s.Close()
	for n := 1; n <= 2; n++ {
		must(t, s.Save(t.Context(), key, plain(t, n)))
	}
	text, err := os.ReadFile(s.path(key))
	must(t, err)
	if bytes.Count(text, []byte(`"savedAt":"2026-11-06T21:20:00.00`)) != 2 {
		t.Fatalf("the file is not as the test needs it: %s", bytes.ReplaceAll(text, []byte("  "), nil))
	}
	return text
}

// What a person may find in place of the file: one clear error, nothing granted and
// nothing written, and the file stays as it was.
func TestWrongFile(t *testing.T) {
	edit := func(old, new string) func(*testing.T, string, []byte) []byte {
		return func(t *testing.T, _ string, text []byte) []byte {
			if !bytes.Contains(text, []byte(old)) {
				t.Fatalf("the file has no %s", old)
			}
			return bytes.ReplaceAll(text, []byte(old), []byte(new))
		}
	}
	for _, c := range []struct {
		name  string
		make  func(t *testing.T, path string, text []byte) []byte // nil: made already
		err   error
		parts []string
	}{
		{"empty", func(*testing.T, string, []byte) []byte { return []byte{} }, state.ErrCorrupt, []string{"is empty", "restore a good copy", "--start TIME", "skips what was written"}},
		{"cut", func(_ *testing.T, _ string, text []byte) []byte { return text[:4096] }, state.ErrCorrupt, []string{"4096 bytes", "cut short"}},
		{"edited/longer", edit(`"savedAt"`, `"savedAT!"`), state.ErrCorrupt, []string{"edited", "undo the change"}},
		{"edited/same length", edit(`"savedAt":"2026`, `"savedAt":"2025`), state.ErrCorrupt, []string{"was edited or damaged", "checksum"}},
		{"edited/newest line", edit(`"savedAt":"2026-11-06T21:20:00.002Z"`, `"savedAt":"2026-11-06T21:20:00.009Z"`), state.ErrCorrupt,
			[]string{"was edited or damaged", "line 1"}},
		{"zeros", func(_ *testing.T, _ string, text []byte) []byte { return make([]byte, len(text)) }, state.ErrCorrupt, []string{"is damaged"}},
		{"text", func(*testing.T, string, []byte) []byte { return []byte("hello\n") }, state.ErrCorrupt, []string{"6 bytes"}},
		{"one line twice", func(_ *testing.T, _ string, text []byte) []byte { return append(text[:4096:4096], text[:4096]...) },
			state.ErrCorrupt, []string{"both of its lines have generation 3"}},
		{"another key's", func(t *testing.T, path string, _ []byte) []byte { return savedFile(t, filepath.Dir(path), "other") },
			state.ErrCorrupt, []string{`another key, "other"`}},
		{"a directory", func(t *testing.T, path string, _ []byte) []byte {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
			return nil
		}, state.ErrCorrupt, []string{"is a directory"}},
		{"a link", func(t *testing.T, path string, _ []byte) []byte {
			must(t, os.Rename(path, path+".moved"))
			must(t, os.Symlink(path+".moved", path))
			return nil
		}, state.ErrCorrupt, []string{"is a symbolic link"}},
		{"a dangling link", func(t *testing.T, path string, _ []byte) []byte {
			must(t, os.Remove(path))
			must(t, os.Symlink(path+".nowhere", path))
			return nil
		}, state.ErrCorrupt, []string{"is a symbolic link"}},
		{"a named pipe", makePipe, state.ErrCorrupt, []string{"is not a regular file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			text := savedFile(t, dir, "k")
			s, logged := openTest(t, dir)
			path := s.path("k")
			if made := c.make(t, path, text); made != nil {
				must(t, os.WriteFile(path, made, 0o600))
			}
			before := lookAt(t, path)
			parts := append(c.parts, path)
			_, err := s.Load(t.Context(), "k")
			want(t, err, c.err, parts...)
			want(t, s.Save(t.Context(), "k", plain(t, 3)), c.err, parts...)
			want(t, s.Clear(t.Context(), "k"), c.err, parts...)
			_, err = s.Acquire(t.Context(), "k", request("first"))
			want(t, err, c.err, parts...)
			var listed error
			for e, err := range s.List(t.Context(), "k") {
				must(t, err)
				listed = e.LoadErr
			}
			want(t, listed, c.err, parts...)
			if after := lookAt(t, path); after != before {
				t.Errorf("it was %s before, and is %s", before, after)
			}
			if logged.Len() > 0 {
				t.Errorf("beside the error, a warning: %s", logged)
			}
			// The lock that the refused calls took is free again.
			if h, err := s.liveHolder(s.lockPath("k")); h != (holder{}) || err != nil {
				t.Errorf("the lease is held by %q (%v)", h.Owner, err)
			}
		})
	}
}

// lookAt says what is at path.
func lookAt(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	if !info.Mode().IsRegular() {
		target, _ := os.Readlink(path)
		return info.Mode().String() + " " + target
	}
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// One slot that isn't whole: the other is taken, with a warning, and the next owner
// starts from it and mends the file.
func TestTornSlotFallsBack(t *testing.T) {
	dir := t.TempDir()
	text := savedFile(t, dir, "k")
	copy(text[4096/2:], bytes.Repeat([]byte{0}, 4096/2)) // the newest is in the first slot
	path := filepath.Join(dir, "k.json")
	must(t, os.WriteFile(path, text, 0o600))

	s, logged := openTest(t, dir)
	wantToken(t, s, "k", numbered(t, 1))
	if !logged.has("level=WARN") || !logged.has(path) || !logged.has("line 1") {
		t.Errorf("the log says %q", logged)
	}
	g := acquire(t, s, "k", "first")
	if g.Checkpoint.Token != numbered(t, 1).Token {
		t.Errorf("the grant has sequence %d", g.Checkpoint.Sequence)
	}
	logged.Reset()
	wantToken(t, s, "k", numbered(t, 1))
	if logged.Len() > 0 {
		t.Errorf("after Acquire the file is still damaged: %s", logged)
	}
}

// A tornFS gives readers, the first few times, the file as it is in the middle of a write.
type tornFS struct {
	osFS
	torn []byte
	left int
}

type tornFile struct {
	file
	s *tornFS
}

func (s *tornFS) Open(path string, flag int) (file, error) {
	f, err := s.osFS.Open(path, flag)
	if err == nil && strings.HasSuffix(path, dataSuffix) {
		f = &tornFile{f, s}
	}
	return f, err
}

func (f *tornFile) ReadAt(b []byte, off int64) (int, error) {
	if f.s.left == 0 {
		return f.file.ReadAt(b, off)
	}
	f.s.left--
	f.s.torn[1000]++ // no two are the same
	return copy(b, f.s.torn[off:]), nil
}

// Whoever reads without the lock meets the owner in the middle of a write, and reads
// again before it says that anything is damaged.
func TestReaderMeetsWriter(t *testing.T) {
	for name, damage := range map[string]func([]byte){
		"one slot": func(text []byte) { text[50]++ },
		"both":     func(text []byte) { text[50]++; text[5000]++ },
	} {
		t.Run(name, func(t *testing.T) {
			sys := &tornFS{}
			s, logged := openOn(t, sys, t.TempDir())
			sys.torn = savedFile(t, s.dir, "k")
			damage(sys.torn)
			sys.left = 5
			wantToken(t, s, "k", numbered(t, 2))
			if sys.left != 0 || logged.Len() > 0 {
				t.Errorf("%d torn reads are left, the log says %q", sys.left, logged)
			}
		})
	}
}

// The older line alone was edited: nobody is misled by it, and it is not in force.
func TestOlderLineEdited(t *testing.T) {
	dir := t.TempDir()
	text := savedFile(t, dir, "k")
	text = bytes.Replace(text, []byte(`00.001Z`), []byte(`00.000Z`), 1)
	must(t, os.WriteFile(filepath.Join(dir, "k.json"), text, 0o600))
	s, logged := openTest(t, dir)
	wantToken(t, s, "k", numbered(t, 2))
	if !logged.has("line 2") {
		t.Errorf("the log says %q", logged)
	}
}

// Slots change places: generation decides, not the order, and not the sequence.
func TestGenerationDecides(t *testing.T) {
	dir := t.TempDir()
	text := savedFile(t, dir, "k")
	must(t, os.WriteFile(filepath.Join(dir, "k.json"), append(text[4096:len(text):len(text)], text[:4096]...), 0o600))
	s, logged := openTest(t, dir)
	wantToken(t, s, "k", numbered(t, 2))
	must(t, s.Save(t.Context(), "k", numbered(t, 9)))
	must(t, s.Save(t.Context(), "k", plain(t, 5))) // no sequence, and so below the other
	wantToken(t, s, "k", numbered(t, 5))
	if logged.Len() > 0 {
		t.Errorf("the log says %q", logged)
	}
}

// checkDamaged opens a damaged file: one of its two places, or a typed error that names
// the file, and never ErrNotFound.
func checkDamaged(t *testing.T, s *Store, what string) {
	t.Helper()
	cp, err := s.Load(t.Context(), "k")
	switch {
	case err == nil && (cp.Token == numbered(t, 1).Token || cp.Token == numbered(t, 2).Token):
	case errors.Is(err, state.ErrCorrupt) && strings.Contains(err.Error(), s.path("k")):
	default:
		t.Fatalf("%s: the checkpoint is that of sequence %d, the error %v", what, cp.Sequence, err)
	}
}

func TestEveryByteAndLength(t *testing.T) {
	dir := t.TempDir()
	text := savedFile(t, dir, "k")
	path := filepath.Join(dir, "k.json")
	// Byte for byte without the store, whose reading a damaged file twice takes time.
	whole := 0
	for i := range text {
		for _, bit := range []byte{1, 0x20, 0x80} {
			damaged := bytes.Clone(text)
			damaged[i] ^= bit
			f, err := judge(path, "k", damaged)
			switch {
			case err == nil && f.bad != nil && (f.force == 1) == (i < 4096):
			case err == nil && f.bad == nil:
				whole++
			case !errors.Is(err, state.ErrCorrupt):
				t.Fatalf("byte %d, bit %#x: force %d, bad %v, %v", i, bit, f.force, f.bad, err)
			}
		}
	}
	if whole > 0 {
		t.Errorf("%d flipped bits are not noticed", whole)
	}
	for n := range text {
		if _, err := judge(path, "k", text[:n]); !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzDamage(f *testing.F) {
	dir := f.TempDir()
	text := savedFile(f, dir, "k")
	f.Add(0, []byte("x"), 0)
	f.Add(100, []byte(`"generation":9`), 4096)
	f.Add(4096, text[:4096], 8192)
	f.Fuzz(func(t *testing.T, at int, what []byte, length int) {
		damaged := slices.Clone(text)
		at = max(0, min(at, len(damaged)))
		damaged = append(damaged[:at], append(what, damaged[min(len(damaged), at+len(what)):]...)...)
		if length > 0 && length < len(damaged) {
			damaged = damaged[:length]
		}
		synctest.Test(t, func(t *testing.T) { fuzzDamaged(t, damaged) })
	})
}

func fuzzDamaged(t *testing.T, damaged []byte) {
	m := newSimFS(nil)
	s, _ := openOn(t, m, simStore)
	m.dir.do(simOp{put: "k" + dataSuffix, node: &simNode{id: 1 << 30, now: damaged, disk: damaged}})
	checkDamaged(t, s, "fuzzed")
	// Whoever would write finds the same, and leaves alone what can't be read.
	cp, loadErr := s.Load(t.Context(), "k")
	g, err := s.Acquire(t.Context(), "k", request("first"))
	switch {
	case loadErr == nil && (err != nil || g.LoadErr != nil || !g.Checkpoint.Equal(cp)):
		t.Fatalf("Load says %d, and Acquire %d (%v, %v)", cp.Sequence, g.Checkpoint.Sequence, g.LoadErr, err)
	case loadErr != nil && !errors.Is(err, state.ErrCorrupt):
		t.Fatalf("Load says %v, and Acquire %v", loadErr, err)
	case loadErr != nil && !bytes.Equal(m.dir.now["k"+dataSuffix].now, damaged):
		t.Fatal("the damaged file has been changed")
	}
}

// Whatever is in a file: no panic, and what is taken for a record comes back as it was
// from what the store would write of it.
func FuzzJudge(f *testing.F) {
	text := savedFile(f, f.TempDir(), "k")
	golden, err := filepath.Glob(filepath.Join("testdata", "version1", "*"+dataSuffix))
	must(f, err)
	for _, name := range golden {
		text, err := os.ReadFile(name)
		must(f, err)
		f.Add(text[:len(text)/2], text[len(text)/2:])
	}
	f.Add(text[:slotUnit], text[slotUnit:])
	f.Add([]byte(`{"version":1,"generation":18446744073709551615,"key":"k","checksum":"crc32c:00000000@18446744073709551615"}`), []byte("{}"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		first, second = summed(first), summed(second)
		n := (max(len(first), len(second)) + slotUnit) / slotUnit * slotUnit
		found, err := judge("k.json", "k", append(pad(first, n), pad(second, n)...))
		if errors.Is(err, state.ErrNotFound) {
			t.Fatalf("what can't be read is said not to be there: %v", err)
		}
		if err != nil {
			return
		}
		line, m, err := appendLine(nil, found.slots[found.force].mark.generation, quote("k"), &found.rec)
		must(t, err)
		sl := readSlot(pad(line, (len(line)+slotUnit)/slotUnit*slotUnit))
		if sl.err != nil || sl.mark != m {
			t.Fatalf("what was read can't be read again once it is written: %v", sl.err)
		}
		rec, key, err := sl.parse()
		if err != nil || key != "k" || !like(rec)(found.rec) {
			t.Fatalf("%+v was read, and comes back as %+v (%q, %v)", found.rec, rec, key, err)
		}
	})
}

// summed gives a line that has a checksum the right one, so that a fuzzer comes past it.
func summed(line []byte) []byte {
	line = bytes.TrimRight(bytes.Clone(line), " \n")
	at := bytes.LastIndex(line, []byte(lineTail))
	generation, ok := headGeneration(append(bytes.Clone(line), make([]byte, len(lineHead))...))
	if at < 0 || !ok {
		return line
	}
	return fmt.Appendf(line[:at], `,"checksum":"crc32c:%08x@%d"}`, crc(line[:at]), generation)
}

// Files that are cut short, or have grown, are found so by whoever opens them.
func TestEveryLengthOfLargeFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	for n := 1; n <= 2; n++ {
		must(t, s.Save(t.Context(), "k", numberedOf(t, n, 9000)))
	}
	text := []byte(lookAt(t, s.path("k")))
	for _, length := range []int{0, 1, 511, 512, 4095, 4096, 8192, len(text) / 2, len(text) - 4096, len(text) - 8192, len(text) - 1, len(text) + 1, len(text) + 4096, len(text) + 8192} {
		grown := append(slices.Clone(text), bytes.Repeat([]byte(" "), 8192)...)
		must(t, os.WriteFile(s.path("k"), grown[:length], 0o600))
		_, err := s.Load(t.Context(), "k")
		want(t, err, state.ErrCorrupt, s.path("k"))
		_, err = s.Acquire(t.Context(), "k", request("first"))
		want(t, err, state.ErrCorrupt, s.path("k"))
	}
}

// Forget is the way to be rid of a damaged file, but not of another key's, and not of
// what is no file.
func TestForgetDamaged(t *testing.T) {
	dir := t.TempDir()
	text := savedFile(t, dir, "k")
	s, _ := openTest(t, dir)
	must(t, os.WriteFile(s.path("k"), text[:99], 0o600))
	must(t, s.Forget(t.Context(), "k"))
	_, err := s.Load(t.Context(), "k")
	want(t, err, state.ErrNotFound)

	must(t, os.WriteFile(s.path("other"), text, 0o600))
	want(t, s.Forget(t.Context(), "other"), state.ErrCorrupt, `another key, "k"`)
	must(t, os.Mkdir(s.path("dir"), 0o700))
	want(t, s.Forget(t.Context(), "dir"), state.ErrCorrupt, "is a directory")
}

// A volume that isn't mounted must not look like a first start.
func TestDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := openTest(t, dir)
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	g := acquire(t, s, "leased", "first")
	check := func() {
		t.Helper()
		_, err := s.Load(t.Context(), "k")
		want(t, err, state.ErrUnavailable, dir, "removed or replaced since it was opened", "put it back")
		want(t, s.Save(t.Context(), "k", plain(t, 2)), state.ErrUnavailable, dir)
		want(t, s.SaveFenced(t.Context(), "leased", g.Fence, numbered(t, 1)), state.ErrUnavailable, dir)
		want(t, s.Ping(t.Context()), state.ErrUnavailable, dir)
		for _, err := range s.List(t.Context(), "") {
			want(t, err, state.ErrUnavailable, dir)
		}
	}
	must(t, os.Rename(dir, dir+".away"))
	check()
	must(t, os.Mkdir(dir, 0o700))
	check()
	must(t, os.RemoveAll(dir))
	must(t, os.Rename(dir+".away", dir))
	wantToken(t, s, "k", numbered(t, 1))
	must(t, s.SaveFenced(t.Context(), "leased", g.Fence, numbered(t, 1)))
	must(t, s.Ping(t.Context()))
}
