package ndjson

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// special are the ways to put something else where a file is expected.
var special = map[string]func(path, target string) error{
	"a symbolic link":  func(path, target string) error { return os.Symlink(target, path) },
	"a directory":      func(path, target string) error { return os.Mkdir(path, 0o700) },
	"a named pipe":     func(path, target string) error { return syscall.Mkfifo(path, 0o600) },
	"a socket":         func(path, target string) error { l, err := net.Listen("unix", path); _ = l; return err },
	"a special file":   func(path, target string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3) },
	"a symbolic link ": func(path, target string) error { return os.Symlink(filepath.Join(target, "nowhere"), path) }, // dangling
}

// TestOnlyRegularFilesAreOpened: nothing is read from what else has the name of one, cut in
// it, or waited for, and the error names it.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target")
	const valuable = "not for us\n"
	ok(t, os.WriteFile(target, []byte(valuable), 0o600))
	one := len(text(t, 1, 1))
	places := map[string]string{
		"covered":    open(1, 1),
		"uncovered":  open(1, 2),
		"claimed":    open(1, 1) + ".0000000002",
		"the marker": markerName("shop", 1),
	}
	for what, make := range special {
		for where, base := range places {
			dir := shortTempDir(t)
			if err := make(filepath.Join(dir, base), target); errors.Is(err, syscall.EPERM) {
				continue // a device needs rights
			} else if err != nil {
				t.Fatal(err)
			}
			o := rigatoni.Opening{Key: "shop", Fence: fence(2), Saved: savedDoc(name(1, 1), one, 1, "")}
			for _, first := range []bool{false, true} {
				if o.FirstStart, o.AcceptAnyOutput = first, first; first {
					o.Saved = nil
				}
				_, err := openFiles(t, dir, Options{}).Open(t.Context(), o)
				if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), filepath.Join(dir, base)+" is "+strings.TrimSpace(what)) {
					t.Errorf("%s, %s: %v", what, where, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, base)); err != nil {
				t.Errorf("%s, %s: it is gone: %v", what, where, err)
			}
		}
		dir := shortTempDir(t)
		if err := make(filepath.Join(dir, "shop.ndjson"), target); errors.Is(err, syscall.EPERM) {
			continue
		}
		d, err := OpenDeadLetters(dir, nil)
		if err != nil {
			t.Errorf("%s among dead letters: %v", what, err)
			continue
		}
		if err := d.Put(t.Context(), deadLetter(t, "shop", 1)); err == nil || !strings.Contains(err.Error(), "shop.ndjson is "+strings.TrimSpace(what)) {
			t.Errorf("%s as dead letters: %v", what, err)
		}
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != valuable {
		t.Errorf("what a link points to is now %q, %v", got, err)
	}
}

// shortTempDir has a path that is short enough for a socket.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nd")
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestAFinishedFileThatIsALink: a consumer has moved the file, and left a link to it.
func TestAFinishedFileThatIsALink(t *testing.T) {
	dir := tempDir(t)
	target := filepath.Join(t.TempDir(), "taken")
	ok(t, os.WriteFile(target, []byte(text(t, 1, 1)), 0o600))
	ok(t, os.Symlink(target, filepath.Join(dir, name(1, 1))))
	put(t, dir, markerName("shop", 1), `{"file":"`+name(1, 1)+`","size":`+itoa(len(text(t, 1, 1)))+`,"files":1}`)
	s := openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(2), Saved: savedDoc(name(1, 1), len(text(t, 1, 1)), 1, "")})
	deliver(t, s, batch(t, 2, 2, 0))
	wantNames(t, dir, name(1, 1), open(2, 1))
	refused(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(3), FirstStart: true}, rigatoni.ErrOutputExists)
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// asNobody runs a function as a user without rights. The thread ends with it.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		do()
		return
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
			done <- errno
			return
		}
		do()
		done <- nil
	}()
	ok(t, <-done)
}

// TestAFolderThatCannotBeWritten is an error when the stream is opened, not of each
// delivery: also where the directory is there, and has output of an earlier life.
func TestAFolderThatCannotBeWritten(t *testing.T) {
	root := shortTempDir(t)
	ok(t, os.Chmod(root, 0o755))
	for what, mode := range map[string]fs.FileMode{"read only": 0o555, "not ours": 0o750, "no right to search it": 0o666} {
		for _, saved := range []json.RawMessage{nil, savedDoc(name(1, 1), 5, 1, "")} {
			dir := filepath.Join(root, "out")
			ok(t, os.RemoveAll(dir))
			ok(t, os.Mkdir(dir, 0o755))
			put(t, dir, markerName("shop", 1), `{"file":"`+name(1, 1)+`","size":5,"files":1}`)
			ok(t, os.Chmod(filepath.Join(dir, markerName("shop", 1)), 0o644))
			ok(t, os.Chmod(dir, mode))
			var err, deadErr, newErr error
			asNobody(t, func() {
				d, _ := Open(dir, &Options{Logger: quiet})
				_, err = d.Open(t.Context(), rigatoni.Opening{Key: "shop", Fence: fence(2), FirstStart: saved == nil, AcceptAnyOutput: true, Saved: saved})
				_, deadErr = OpenDeadLetters(dir, nil)
				d, _ = Open(filepath.Join(dir, "new"), &Options{Logger: quiet})
				_, newErr = d.Open(t.Context(), rigatoni.Opening{Key: "shop", Fence: fence(2), FirstStart: true})
			})
			for _, err := range []error{err, deadErr, newErr} {
				if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%s, checkpoint %s: %v", what, saved, err)
				}
			}
			ok(t, os.Chmod(dir, 0o755))
		}
	}
}

// TestAReadOnlyFileSystem, on a real one where that can be had.
func TestAReadOnlyFileSystem(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	put(t, dir, markerName("shop", 1), `{"file":"`+name(1, 1)+`","size":5,"files":1}`)
	o := rigatoni.Opening{Key: "shop", Fence: fence(2), Saved: savedDoc(name(1, 1), 5, 1, "")}
	d.fs.(*disk).fault = failOn("create", syscall.EROFS)
	if _, err := d.Open(t.Context(), o); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open: %v", err)
	}
	d.fs.(*disk).fault = nil
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("needs the right to mount a file system: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	d, err := Open(dir, &Options{Logger: quiet})
	ok(t, err)
	if _, err := d.Open(t.Context(), o); !errors.Is(err, syscall.EROFS) {
		t.Errorf("a real one: %v", err)
	}
	if _, err := OpenDeadLetters(dir, nil); !errors.Is(err, syscall.EROFS) {
		t.Errorf("dead letters: %v", err)
	}
}

func TestAFileWhereTheFolderShouldBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	ok(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := openFiles(t, dir, Options{}).Open(t.Context(), rigatoni.Opening{Key: "shop", Fence: fence(1), FirstStart: true})
		if !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", dir, err)
		}
		if _, err := OpenDeadLetters(dir, nil); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), file) {
			t.Errorf("dead letters in %s: %v", dir, err)
		}
	}
}

// TestAnotherFileSystem is mounted over the directory, or the one with the output is gone:
// the output is not there, and is not begun again elsewhere.
func TestAnotherFileSystem(t *testing.T) {
	dir := filepath.Join(tempDir(t), "out")
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	deliver(t, s, batch(t, 1, 1, 0))
	o := rigatoni.Opening{Key: "shop", Fence: fence(1), Saved: commit(t, s)}
	if err := syscall.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("needs the right to mount a file system: %v", err)
	}
	mounted := true
	defer func() {
		if mounted {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}()
	if _, err := s.Sync(t.Context()); err == nil {
		t.Error("Sync does not find it")
	}
	closeSink(t, s)
	if _, err := d.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is on another file system") || errors.As(err, new(*rigatoni.OutputError)) {
		t.Errorf("Open: %v", err)
	}
	ok(t, syscall.Unmount(dir, 0))
	mounted = false
	s = openSink(t, d, o)
	deliver(t, s, batch(t, 2, 2, 0))
	commit(t, s)
	closeSink(t, s)
	if readAll(t, dir) != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Error("the output is not what was delivered")
	}
}
