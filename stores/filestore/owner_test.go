package filestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// What people do to the file of a living owner.

func TestRemovedUnderItsOwner(t *testing.T) {
	for _, how := range []string{"save", "renew"} {
		t.Run(how, func(t *testing.T) {
			s, logged := openTest(t, t.TempDir())
			g := acquire(t, s, "k", "first")
			must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
			must(t, os.Remove(s.path("k")))
			want := 1
			if how == "save" {
				want = 2
				must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)))
			} else {
				must(t, s.Renew(t.Context(), "k", g.Fence, time.Minute))
			}
			wantToken(t, s, "k", numbered(t, want))
			if !logged.has("level=WARN") || !logged.has(s.path("k")) {
				t.Errorf("the log says %q", logged)
			}
			must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 3)))
			wantToken(t, s, "k", numbered(t, 3))
		})
	}
}

// editFile changes a file as sed -i and most editors do: beside, and renamed.
func editFile(t *testing.T, path string, edit func([]byte) []byte) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path+".new", edit(text), 0o600))
	must(t, os.Rename(path+".new", path))
	return lookAt(t, path)
}

func TestEditedUnderItsOwner(t *testing.T) {
	renamed := func(t *testing.T, path string) string {
		return editFile(t, path, func(text []byte) []byte {
			return bytes.ReplaceAll(text, []byte(`"sequence":1`), []byte(`"sequence":7`))
		})
	}
	inPlace := func(t *testing.T, path string) string {
		text := bytes.ReplaceAll([]byte(lookAt(t, path)), []byte(`"sequence":1`), []byte(`"sequence":7`))
		must(t, os.WriteFile(path, text, 0o600))
		return lookAt(t, path)
	}
	for name, edit := range map[string]func(*testing.T, string) string{"renamed": renamed, "in place": inPlace} {
		t.Run(name, func(t *testing.T) {
			s, _ := openTest(t, t.TempDir())
			g := acquire(t, s, "k", "first")
			must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
			edited := edit(t, s.path("k"))
			s.entries["k"].file.checked = time.Now().Add(-checkEvery)
			for range 2 {
				want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)), state.ErrCorrupt, s.path("k"), "edited", "undo the change")
			}
			want(t, s.Renew(t.Context(), "k", g.Fence, time.Minute), state.ErrCorrupt)
			if lookAt(t, s.path("k")) != edited {
				t.Error("the file is not as it was left")
			}
		})
	}
}

// A change of its length is seen at once, also in place.
func TestLengthenedUnderItsOwner(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	text := lookAt(t, s.path("k"))
	must(t, os.WriteFile(s.path("k"), []byte(text+"\n"), 0o600))
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)), state.ErrCorrupt, s.path("k"), "was edited", "undo the change")
	must(t, os.Truncate(s.path("k"), int64(len(text)))) // undone
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 3)))
	wantToken(t, s, "k", numbered(t, 3))
}

// An editor that changed nothing, or a touch, is no reason to stop.
func TestTouchedUnderItsOwner(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	for n := 1; n < 10; n += 2 {
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, n)))
		if n%4 == 1 {
			editFile(t, s.path("k"), func(text []byte) []byte { return text })
		} else {
			must(t, os.Chtimes(s.path("k"), time.Time{}, time.Now().Add(time.Hour)))
		}
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, n+1)))
		wantToken(t, s, "k", numbered(t, n+1))
	}
}

// A backup that is put back while the owner lives is not overwritten.
func TestBackupPutBackUnderItsOwner(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	backup := []byte(lookAt(t, s.path("k")))
	for n := 2; n <= 4; n++ {
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, n)))
	}
	editFile(t, s.path("k"), func([]byte) []byte { return backup })
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 5)), state.ErrCorrupt, "was replaced", "restart the process")
	must(t, s.Close())
	next, _ := openTest(t, s.dir)
	if g := acquire(t, next, "k", "second"); g.Checkpoint.Token != numbered(t, 1).Token {
		t.Errorf("the next owner starts at sequence %d", g.Checkpoint.Sequence)
	}
}

// The file of an earlier owner is copied over that of a live one: the error says so, and
// nothing suggests that somebody else has the lease.
func TestFileOfAnEarlierOwnerPutBack(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	backup := []byte(lookAt(t, s.path("k")))
	must(t, s.Release(t.Context(), "k", g.Fence))
	g = acquire(t, s, "k", "second")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)))
	there := editFile(t, s.path("k"), func([]byte) []byte { return backup })
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 3)), state.ErrCorrupt, s.path("k"), "was replaced", "restart the process")
	want(t, s.Renew(t.Context(), "k", g.Fence, time.Minute), state.ErrCorrupt, "was replaced")
	if lookAt(t, s.path("k")) != there {
		t.Error("the file is not as it was left")
	}
	must(t, s.Close())
	next, _ := openTest(t, s.dir)
	if g := acquire(t, next, "k", "third"); g.Checkpoint.Token != numbered(t, 1).Token {
		t.Errorf("the next owner starts at sequence %d", g.Checkpoint.Sequence)
	}
}

// The file of a later epoch is copied over that of a live owner, as from another
// directory: the owner is fenced, and may acquire the lease again, since it is no one
// else's.
func TestFileOfALaterEpochPutThere(t *testing.T) {
	elsewhere, _ := openTest(t, t.TempDir())
	for n := range 3 {
		g := acquire(t, elsewhere, "k", "elsewhere")
		must(t, elsewhere.SaveFenced(t.Context(), "k", g.Fence, numbered(t, n+1)))
		must(t, elsewhere.Release(t.Context(), "k", g.Fence))
	}
	later := []byte(lookAt(t, elsewhere.path("k")))

	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 7)))
	_, err := s.Acquire(t.Context(), "k", request("another"))
	want(t, err, state.ErrLeaseHeld, `"first"`)
	editFile(t, s.path("k"), func([]byte) []byte { return later })
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 8)), state.ErrFenced, s.path("k"), "was replaced", "epoch 3", "copied a file there")
	want(t, s.Renew(t.Context(), "k", g.Fence, time.Minute), state.ErrFenced)
	other, _ := openTest(t, s.dir)
	_, err = other.Acquire(t.Context(), "k", request("another")) // the first one lives
	want(t, err, state.ErrLeaseHeld, `"first"`)
	again := acquire(t, s, "k", "first")
	if again.Fence.Epoch != 4 || again.Checkpoint.Token != numbered(t, 3).Token {
		t.Errorf("the lease is granted again with %v and sequence %d", again.Fence, again.Checkpoint.Sequence)
	}
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 8)), state.ErrFenced)
	must(t, s.SaveFenced(t.Context(), "k", again.Fence, numbered(t, 4)))
	must(t, s.Release(t.Context(), "k", again.Fence))
	acquire(t, other, "k", "another")
}

// The lock file is removed, and another process takes the lease: the old owner's saves
// go nowhere, and it learns of it.
func TestLockFileRemoved(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	must(t, os.Remove(s.lockPath("k")))
	next := acquire(t, other, "k", "second")
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)), state.ErrFenced)
	want(t, s.Renew(t.Context(), "k", g.Fence, time.Minute), state.ErrFenced)
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)), state.ErrFenced)
	must(t, s.Release(t.Context(), "k", g.Fence))
	must(t, other.SaveFenced(t.Context(), "k", next.Fence, numbered(t, 3)))
	wantToken(t, s, "k", numbered(t, 3))
}

// The lock file is removed while the store keeps it open for its next save: a lock on a
// file without a name keeps nobody out.
func TestLockFileRemovedBetweenSaves(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	must(t, os.Remove(s.lockPath("k")))
	acquire(t, other, "k", "second")
	want(t, s.Save(t.Context(), "k", plain(t, 2)), state.ErrLeaseHeld, `"second"`)
	wantToken(t, s, "k", numbered(t, 1))
}

// A file that is written again has what was saved, whatever the caller has done with
// its memory since.
func TestNoSharedMemory(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	cp := numbered(t, 1)
	cp.Extra = map[string]json.RawMessage{"gap": json.RawMessage(`{"n":1}`)}
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, cp))
	copy(cp.Extra["gap"], `[false]`)
	must(t, os.Remove(s.path("k")))
	must(t, s.Renew(t.Context(), "k", g.Fence, time.Minute))
	got, err := s.Load(t.Context(), "k")
	must(t, err)
	if string(got.Extra["gap"]) != `{"n":1}` {
		t.Errorf("written again: %s", got.Extra["gap"])
	}
}

// Removed, and nobody came: the owner takes it again.
func TestLockFileRemovedAndTakenAgain(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	g := acquire(t, s, "k", "first")
	must(t, os.Remove(s.lockPath("k")))
	must(t, s.Renew(t.Context(), "k", g.Fence, time.Minute))
	_, err := other.Acquire(t.Context(), "k", request("second"))
	want(t, err, state.ErrLeaseHeld, `"first"`)
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	must(t, s.Release(t.Context(), "k", g.Fence))
	acquire(t, other, "k", "second")
}

// What stands in the lock file may be spoiled. The owner mends it with its next
// renewal; whoever comes before that takes the lease, and the fence keeps the old owner
// out.
func TestLockFileSpoiled(t *testing.T) {
	for _, text := range []string{"", "garbage", `{"owner":"x","session":"x/../../locked"}`, `{"owner":"x","session":"0123"}`} {
		dir := t.TempDir()
		elsewhere := lockFile{sys: osFS{}, path: filepath.Join(dir, "locked")}
		if ok, err := elsewhere.try(); !ok {
			t.Fatal(err)
		}
		defer elsewhere.close()
		s, _ := openTest(t, filepath.Join(dir, "state"))
		other, _ := openTest(t, s.dir)
		g := acquire(t, s, "k", "first")
		must(t, os.WriteFile(s.lockPath("k"), []byte(text), 0o600))
		must(t, s.Renew(t.Context(), "k", g.Fence, time.Minute))
		_, err := other.Acquire(t.Context(), "k", request("second"))
		want(t, err, state.ErrLeaseHeld, `"first"`)
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
		must(t, os.WriteFile(s.lockPath("k"), []byte(text), 0o600))
		acquire(t, other, "k", "second")
		want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)), state.ErrFenced)
		want(t, s.Renew(t.Context(), "k", g.Fence, time.Minute), state.ErrFenced)
		must(t, s.Release(t.Context(), "k", g.Fence))
		_, err = s.Acquire(t.Context(), "k", request("first"))
		want(t, err, state.ErrLeaseHeld, `"second"`)
		wantToken(t, s, "k", numbered(t, 1))
	}
}

// The session's file is removed: its owner creates it again with the next renewal of any
// lease, and until then leases can be taken, behind a fence.
func TestSessionRemoved(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	a, b := acquire(t, s, "a", "first"), acquire(t, s, "b", "first")
	must(t, os.Remove(s.session.path(s.session.name)))
	must(t, s.Renew(t.Context(), "a", a.Fence, time.Minute))
	for _, key := range []string{"a", "b"} {
		_, err := other.Acquire(t.Context(), key, request("second"))
		want(t, err, state.ErrLeaseHeld, `"first"`)
	}
	must(t, os.Remove(s.session.path(s.session.name)))
	acquire(t, other, "b", "second")
	must(t, s.Renew(t.Context(), "a", a.Fence, time.Minute))
	want(t, s.Renew(t.Context(), "b", b.Fence, time.Minute), state.ErrFenced, `"second"`)
	want(t, s.SaveFenced(t.Context(), "b", b.Fence, numbered(t, 1)), state.ErrFenced)
	must(t, s.SaveFenced(t.Context(), "a", a.Fence, numbered(t, 1)))
}

// A hookFS calls a function, once, when a file is opened.
type hookFS struct {
	osFS
	on     func(path string, flag int) bool // whether it is the one
	before func()
	after  func()
}

func (h *hookFS) Open(path string, flag int) (file, error) {
	if h.on == nil || !h.on(path, flag) {
		return h.osFS.Open(path, flag)
	}
	h.on = nil
	if h.before != nil {
		h.before()
	}
	f, err := h.osFS.Open(path, flag)
	if h.after != nil {
		h.after()
	}
	return f, err
}

// A session's file that is swept before it is locked, as one that a dead process has
// left, is not what a lease is founded on.
func TestSessionSweptWhileItBegins(t *testing.T) {
	sys := &hookFS{}
	s, _ := openOn(t, sys, t.TempDir())
	other, _ := openTest(t, s.dir)
	var session string
	sys.on = func(path string, _ int) bool {
		session = path
		return strings.HasPrefix(filepath.Base(path), sessionPrefix)
	}
	sys.after = func() { must(t, os.Remove(session)) }
	acquire(t, s, "k", "first")
	_, err := other.Acquire(t.Context(), "k", request("second"))
	want(t, err, state.ErrLeaseHeld, `"first"`)
}

// Any number may ask at once whether an owner is dead, and none takes another's asking
// for its life.
func TestDeadSessionAskedForByMany(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	dead := holder{Session: "0123456789abcdef"}
	must(t, os.WriteFile(s.session.path(dead.Session), nil, 0o600))
	f, err := osFS{}.Open(s.session.path(dead.Session), os.O_RDONLY)
	must(t, err)
	defer f.Close()
	if ok, err := f.TryLock(false); !ok {
		t.Fatal(err)
	}
	if ended, err := s.session.ended(dead); !ended || err != nil {
		t.Errorf("while somebody else asks: ended %t, %v", ended, err)
	}
}

// A key that is leased between a sweep's look and its lock is left alone.
func TestLeasedWhileSwept(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	temp := strings.TrimSuffix(s.path("k"), dataSuffix) + ".0a1b2c3d" + tempSuffix
	must(t, os.WriteFile(temp, nil, 0o600))
	sys := &hookFS{before: func() { acquire(t, s, "k", "first") }}
	sys.on = func(path string, flag int) bool { return path == s.lockPath("k") && flag&os.O_RDWR != 0 }
	openOn(t, sys, s.dir)
	if _, err := os.Lstat(temp); err != nil || sys.on != nil {
		t.Errorf("the owner's file: %v", err)
	}
}

// A Release that can't take the name out of the lock file leaves the lease, to be
// released again, or acquired again by the same nonce.
func TestReleaseHalfFailed(t *testing.T) {
	for _, then := range []string{"released", "acquired"} {
		t.Run(then, func(t *testing.T) {
			sys := &faultFS{}
			s, _ := openOn(t, sys, t.TempDir())
			other, _ := openTest(t, s.dir)
			r := request("first")
			g, err := s.Acquire(t.Context(), "k", r)
			must(t, err)
			sys.err, sys.failOp = syscall.EIO, "truncate"
			want(t, s.Release(t.Context(), "k", g.Fence), state.ErrUnavailable, "truncate")
			sys.failOp = ""
			_, err = other.Acquire(t.Context(), "k", request("second"))
			want(t, err, state.ErrLeaseHeld, `"first"`)
			if then == "released" {
				must(t, s.Release(t.Context(), "k", g.Fence))
				acquire(t, other, "k", "second")
				return
			}
			again, err := s.Acquire(t.Context(), "k", r)
			must(t, err)
			must(t, s.SaveFenced(t.Context(), "k", again.Fence, numbered(t, 1)))
			found, err := other.readShared(t.Context(), "k", s.path("k"))
			must(t, err)
			if found.rec.Fence() != again.Fence || again.Fence.Epoch <= g.Fence.Epoch {
				t.Errorf("granted epoch %d after %d, and the file has %d", again.Fence.Epoch, g.Fence.Epoch, found.rec.Epoch)
			}
		})
	}
}

// An owner that has lost its lease and not learnt of it gives back nothing of its
// successor's.
func TestReleaseAfterAnother(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	third, _ := openTest(t, s.dir)
	g := acquire(t, s, "k", "first")
	must(t, os.Remove(s.lockPath("k")))
	acquire(t, other, "k", "second")
	must(t, s.Release(t.Context(), "k", g.Fence))
	_, err := third.Acquire(t.Context(), "k", request("third"))
	want(t, err, state.ErrLeaseHeld, `"second"`)
}

// A file that replaced one that is not open is not written to.
func TestReplacedWhileClosed(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	backup := []byte(lookAt(t, s.path("k")))
	for n := 2; n <= 4; n++ {
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, n)))
	}
	s.makeRoom()
	there := editFile(t, s.path("k"), func([]byte) []byte { return backup })
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 5)), state.ErrCorrupt, "was replaced")
	if lookAt(t, s.path("k")) != there {
		t.Error("the file is not as it was left")
	}
}

// Somebody who holds a lock and doesn't let it go is waited for, but not for ever.
func TestLockHeldForEver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTest(t, dir)
		frozen := lockFile{sys: osFS{}, path: s.lockPath("k")}
		if ok, err := frozen.try(); !ok {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		want(t, s.Save(ctx, "k", plain(t, 1)), state.ErrUnavailable, s.lockPath("k"), "has been locked")
		must(t, frozen.close())
		must(t, s.Save(ctx, "k", plain(t, 1)))
		must(t, s.Close())
	})
}

// Sessions leave nothing behind when they are closed, and what a process that was
// killed has left is swept; not that of a living one.
func TestSessionsAreSwept(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	sessions := func() []string {
		found, err := filepath.Glob(filepath.Join(s.dir, sessionPrefix+"*"))
		must(t, err)
		return found
	}
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	if found := sessions(); len(found) > 0 {
		t.Errorf("without a lease there is a session: %q", found)
	}
	acquire(t, s, "k", "first")
	must(t, os.WriteFile(s.session.path("0123456789abcdef"), nil, 0o600))
	openTest(t, s.dir)
	if found := sessions(); len(found) != 1 || found[0] != s.session.path(s.session.name) {
		t.Errorf("there are %q, and the living one is %s", found, s.session.name)
	}
	must(t, s.Close())
	if found := sessions(); len(found) > 0 {
		t.Errorf("after Close: %q", found)
	}
}

func TestHeldNamesTheOwner(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	acquire(t, s, "k", "first")
	host, err := os.Hostname()
	must(t, err)
	steal := request("thief")
	steal.Steal = true
	for _, asker := range []*Store{s, other} {
		for _, r := range []state.LeaseRequest{request("first"), steal} {
			_, err := asker.Acquire(t.Context(), "k", r)
			want(t, err, state.ErrLeaseHeld, `"first"`, "process ", " on "+host, s.lockPath("k"))
			var held *state.HeldError
			if !errors.As(err, &held) || held.Owner != "first" || !held.Until.IsZero() {
				t.Errorf("the error is %#v", held)
			}
		}
		want(t, asker.Save(t.Context(), "k", plain(t, 1)), state.ErrLeaseHeld, `"first"`)
		want(t, asker.Clear(t.Context(), "k"), state.ErrLeaseHeld, `"first"`)
		want(t, asker.Forget(t.Context(), "k"), state.ErrLeaseHeld, `"first"`)
	}
	var h holder
	must(t, json.Unmarshal([]byte(lookAt(t, s.lockPath("k"))), &h))
	if h.PID != os.Getpid() || h.Host != host || h.Owner != "first" || time.Since(h.Since) > time.Minute {
		t.Errorf("the lock file says %+v", h)
	}
	must(t, s.Close())
	if text := lookAt(t, s.lockPath("k")); text != "" {
		t.Errorf("after Close the lock file says %q", text)
	}
	acquire(t, other, "k", "second")
}

// A fence outlives its store's handle, as long as nobody raised it.
func TestFenceTakenUpAgain(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	must(t, s.Close())
	s, _ = openTest(t, dir)
	other, _ := openTest(t, dir)
	must(t, s.Renew(t.Context(), "k", g.Fence, time.Minute))
	_, err := other.Acquire(t.Context(), "k", request("second"))
	want(t, err, state.ErrLeaseHeld, `"first"`)
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 2)))
	must(t, s.Close())
	acquire(t, other, "k", "second")
	s, _ = openTest(t, dir)
	want(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 3)), state.ErrFenced)
	wantToken(t, s, "k", numbered(t, 2))
}

// A renewal answers while the disk keeps a save waiting.
func TestRenewDoesNotQueue(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	e, err := s.enter(t.Context(), "k") // a save that takes its time
	must(t, err)
	must(t, s.Renew(t.Context(), "k", g.Fence, time.Minute))
	want(t, s.Renew(t.Context(), "k", g.Fence, 0), state.ErrInvalid)
	must(t, s.leave(e))
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	acquire(t, s, "leased", "first")
	temp := func(key string) string { return strings.TrimSuffix(s.path(key), dataSuffix) + ".0a1b2c3d" + tempSuffix }
	for _, key := range []string{"leased", "free", strings.Repeat("long", 99)} {
		must(t, os.WriteFile(temp(key), nil, 0o600))
	}
	must(t, os.WriteFile(dir+"/somebody.tmp", nil, 0o600))
	openTest(t, dir)
	for path, kept := range map[string]bool{temp("leased"): true, temp("free"): false, temp(strings.Repeat("long", 99)): false, dir + "/somebody.tmp": true} {
		if _, err := os.Lstat(path); (err == nil) != kept {
			t.Errorf("%s: %v, want it kept: %t", path, err, kept)
		}
	}
}

// No more files stay open than the limit says, and keys whose files were closed are
// saved as well as before, each in place while nobody else has written.
func TestIdleFilesAreClosed(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	s.idle.maxOpen, s.idle.maxRemembered = 16, 30
	key := func(n int) string { return strings.Repeat("k", n+1) }
	const many = 50
	for round := range 2 {
		for n := range many {
			must(t, s.Save(t.Context(), key(n), plain(t, n+round)))
		}
		s.mu.Lock()
		if open, closed := s.idle.open.Len(), s.idle.closed.Len(); len(s.entries) != open+closed || open != 8 || closed != 30 {
			t.Errorf("%d keys are kept, %d of them open and %d closed, want 8 and 30", len(s.entries), open, closed)
		}
		s.mu.Unlock()
	}
	for n := range many {
		wantToken(t, s, key(n), numbered(t, n+1))
	}
	g := acquire(t, s, "leased", "first")
	for n := range 8 {
		must(t, s.Save(t.Context(), key(many+n), plain(t, 1)))
	}
	if e := s.entries["leased"]; e == nil || e.openFiles() > 0 {
		t.Error("the files of a leased key are not closed")
	}
	sys.arm(0, nil, false)
	must(t, s.Save(t.Context(), key(many-25), plain(t, 99)))
	must(t, s.SaveFenced(t.Context(), "leased", g.Fence, numbered(t, 99)))
	if slices.ContainsFunc(sys.trace(), func(call string) bool { return strings.HasPrefix(call, "rename") }) {
		t.Errorf("saves whose files had been closed are not in place: %q", sys.trace())
	}
	wantToken(t, s, key(many-25), numbered(t, 99))
	wantToken(t, s, "leased", numbered(t, 99))
}
