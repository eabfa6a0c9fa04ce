package ndjson

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// A removal is what somebody does to the output of a pipeline that runs. Nothing that it
// has written is lost by it.
var removals = map[string]func(t *testing.T, dir, file string){
	"the file is removed":    func(t *testing.T, dir, file string) { ok(t, os.Remove(file)) },
	"the file is moved away": func(t *testing.T, dir, file string) { ok(t, os.Rename(file, file+".old")) },
	"the file is replaced": func(t *testing.T, dir, file string) {
		put(t, dir, "edited", "{\"other\":1}\n")
		ok(t, os.Rename(filepath.Join(dir, "edited"), file))
	},
	"the file is replaced by a copy": func(t *testing.T, dir, file string) {
		put(t, dir, "copy", read(t, dir, filepath.Base(file)))
		ok(t, os.Rename(filepath.Join(dir, "copy"), file))
	},
	"the folder is removed":    func(t *testing.T, dir, file string) { ok(t, os.RemoveAll(dir)) },
	"the folder is moved away": func(t *testing.T, dir, file string) { ok(t, os.Rename(dir, dir+".old")) },
	"the folder is made again": func(t *testing.T, dir, file string) {
		ok(t, os.RemoveAll(dir))
		ok(t, os.Mkdir(dir, 0o755))
	},
	"all folders are removed": func(t *testing.T, dir, file string) { ok(t, os.RemoveAll(filepath.Dir(dir))) },
	"the folder is emptied": func(t *testing.T, dir, file string) {
		ok(t, os.RemoveAll(dir+".old"))
		all, err := os.ReadDir(dir)
		ok(t, err)
		for _, e := range all {
			ok(t, os.Remove(filepath.Join(dir, e.Name())))
		}
	},
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOutputThatIsRemovedWhileThePipelineRuns is found by Sync. What the checkpoint covers
// is there again in the next session, what it doesn't is redelivered, and names grow.
func TestOutputThatIsRemovedWhileThePipelineRuns(t *testing.T) {
	for what, remove := range removals {
		for _, idle := range []bool{true, false} {
			t.Run(what, func(t *testing.T) {
				dir := filepath.Join(tempDir(t), "a", "out")
				d := openFiles(t, dir, Options{})
				ok(t, os.MkdirAll(dir, 0o755))
				s := openSink(t, d, rigatoni.Opening{Fence: fence(7), FirstStart: true})
				deliver(t, s, batch(t, 1, 2, 0))
				saved := commit(t, s)
				if !idle {
					deliver(t, s, batch(t, 3, 3, 0))
				}
				remove(t, dir, filepath.Join(dir, open(7, 1)))
				if !idle {
					deliver(t, s, batch(t, 4, 4, 0)) // goes nowhere
				}
				for range 2 {
					if doc, err := s.Sync(t.Context()); err == nil {
						t.Fatalf("Sync returns %s", doc)
					}
				}
				closeSink(t, s)
				s = openSink(t, d, rigatoni.Opening{Fence: fence(7), Saved: saved})
				deliver(t, s, batch(t, 3, 5, 0))
				saved = commit(t, s)
				closeSink(t, s)
				var consumer taker
				consumer.take(t, dir)
				if consumer.lines != want(t, extjson.Relaxed, batch(t, 1, 5, 0)) {
					t.Errorf("the consumer has %s", consumer.lines)
				}
				info, err := os.Stat(dir)
				if ok(t, err); info.Mode().Perm() != 0o755 {
					t.Errorf("the permissions of the directory are %v", info.Mode())
				}
				closeSink(t, openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(8), Saved: saved})) // it is in order
			})
		}
	}
}

// TestTheFolderIsRemovedBetweenFiles: then no file shows it, and none can be created.
func TestTheFolderIsRemovedBetweenFiles(t *testing.T) {
	for _, deliverFirst := range []bool{true, false} {
		dir := filepath.Join(tempDir(t), "out")
		d := openFiles(t, dir, Options{})
		s := openSink(t, d, rigatoni.Opening{Fence: fence(7), FirstStart: true})
		ok(t, os.RemoveAll(dir))
		if deliverFirst {
			deliver(t, s, batch(t, 1, 1, 0)) // Sync says it
		}
		if _, err := s.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "removed") {
			t.Fatalf("Sync: %v", err)
		}
		closeSink(t, s)
		s = openSink(t, d, rigatoni.Opening{Fence: fence(7)})
		deliver(t, s, batch(t, 1, 1, 0))
		commit(t, s)
		closeSink(t, s)
		wantNames(t, dir, name(7, 1))
	}
}

// TestANewFolderKnowsWhatTheOldOneDid: what was finished there is not delivered a second
// time without a decision, also after a restart.
func TestANewFolderKnowsWhatTheOldOneDid(t *testing.T) {
	dir := filepath.Join(tempDir(t), "out")
	d := openFiles(t, dir, Options{MaxFileBytes: 1})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(7), FirstStart: true})
	deliver(t, s, batch(t, 1, 1, 0))
	old := commit(t, s)
	deliver(t, s, batch(t, 2, 4, 0))
	saved := commit(t, s)
	ok(t, os.RemoveAll(dir))
	if _, err := s.Sync(t.Context()); err == nil {
		t.Fatal("Sync does not find it")
	}
	closeSink(t, s)
	closeSink(t, openSink(t, d, rigatoni.Opening{Fence: fence(7), Saved: saved}))
	refused(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(8), Saved: old}, rigatoni.ErrOutputAhead)
}

// TestWhatCannotBeRestoredIsRefused: a file that had ended, so that nobody has it open,
// and that the checkpoint covers. The next process refuses it too, with the same code.
func TestWhatCannotBeRestoredIsRefused(t *testing.T) {
	for what, remove := range removals {
		dir := filepath.Join(tempDir(t), "a", "out")
		d := openFiles(t, dir, Options{MaxFileBytes: 600})
		s := openSink(t, d, rigatoni.Opening{Fence: fence(7), FirstStart: true})
		deliver(t, s, batch(t, 1, 1, 0))
		saved := commit(t, s)
		deliver(t, s, batch(t, 2, 2, 300)) // the first file ends
		wantNames(t, dir, open(7, 1), open(7, 2))
		remove(t, dir, filepath.Join(dir, open(7, 1)))
		if _, err := s.Sync(t.Context()); err == nil {
			t.Fatalf("%s: Sync does not find it", what)
		}
		if err := s.Committed(t.Context(), saved); err == nil {
			t.Errorf("%s: Committed does not find it", what)
		}
		closeSink(t, s)
		if what == "the file is replaced" || what == "the file is replaced by a copy" {
			continue // it may be as long as it was, and then there is nothing to see
		}
		o := rigatoni.Opening{Key: "shop", Fence: fence(7), Saved: saved}
		err := refused(t, d, o, ErrOutputMissing)
		o.Fence = fence(8)
		if again := refused(t, openFiles(t, dir, Options{}), o, ErrOutputMissing); again.Accept != err.Accept {
			t.Errorf("%s: the next process has another code", what)
		}
	}
}

// TestAForeignFileIsNeverFinished: Committed looks before it renames.
func TestAForeignFileIsNeverFinished(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 1})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	deliver(t, s, batch(t, 1, 2, 0))
	doc := doSync(t, s)
	put(t, dir, "edited", "{}\n")
	ok(t, os.Rename(filepath.Join(dir, "edited"), filepath.Join(dir, open(1, 1))))
	if err := s.Committed(t.Context(), doc); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("Committed: %v", err)
	}
	closeSink(t, s)
	wantNames(t, dir, open(1, 1), open(1, 2))
}

// TestOutputThatSomebodyElseWrites to while the pipeline runs: nothing is written behind
// it, and the next session has what the checkpoint covers or refuses.
func TestOutputThatSomebodyElseWrites(t *testing.T) {
	appendTo := func(text string) func(path string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(text)
			return errors.Join(err, f.Close())
		}
	}
	for what, c := range map[string]struct {
		do      func(path string) error
		refused bool
	}{
		"appended":             {appendTo("{}\n"), false},
		"emptied":              {func(path string) error { return os.Truncate(path, 0) }, true},
		"cut":                  {func(path string) error { return os.Truncate(path, 100) }, true},
		"its unsaved part cut": {func(path string) error { info, _ := os.Stat(path); return os.Truncate(path, info.Size()-1) }, false},
		"filled up with zeros": {func(path string) error { return os.Truncate(path, 1<<20) }, false},
	} {
		for _, ended := range []bool{false, true} {
			dir := tempDir(t)
			d := openFiles(t, dir, Options{})
			s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
			deliver(t, s, batch(t, 1, 2, 0))
			saved := commit(t, s)
			deliver(t, s, batch(t, 3, 3, 0))
			if ended {
				s.mu.Lock()
				s.endFile()
				s.mu.Unlock()
			}
			ok(t, c.do(filepath.Join(dir, open(1, 1))))
			if !ended {
				before := read(t, dir, open(1, 1))
				deliver(t, s, batch(t, 4, 4, 0)) // Sync says it
				if read(t, dir, open(1, 1)) != before {
					t.Errorf("%s: something was written behind it", what)
				}
			}
			if _, err := s.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "something else changes it") {
				t.Fatalf("%s: Sync: %v", what, err)
			}
			closeSink(t, s)
			o := rigatoni.Opening{Key: "shop", Fence: fence(1), Saved: saved}
			if c.refused {
				refused(t, d, o, ErrOutputMissing)
				continue
			}
			s = openSink(t, d, o)
			deliver(t, s, batch(t, 3, 4, 0))
			commit(t, s)
			closeSink(t, s)
			if readAll(t, dir) != want(t, extjson.Relaxed, batch(t, 1, 4, 0)) {
				t.Errorf("%s: the output is %s", what, readAll(t, dir))
			}
		}
	}
}

// TestASessionThatEndsForAnotherReason keeps what was removed and not yet found.
func TestASessionThatEndsForAnotherReason(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	deliver(t, s, batch(t, 1, 2, 0))
	saved := commit(t, s)
	deliver(t, s, batch(t, 3, 3, 0))
	ok(t, os.Remove(filepath.Join(dir, open(1, 1))))
	closeSink(t, s)
	openSink(t, d, rigatoni.Opening{Fence: fence(1), Saved: saved})
	if read(t, dir, name(1, 1)) != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Error("what the checkpoint covers is not there")
	}
}

// TestARestoreThatFails is repeated.
func TestARestoreThatFails(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "close", "syncDir"} {
		dir := tempDir(t)
		d := openFiles(t, dir, Options{})
		s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
		deliver(t, s, batch(t, 1, 2, 0))
		o := rigatoni.Opening{Key: "shop", Fence: fence(1), Saved: commit(t, s)}
		ok(t, os.Remove(filepath.Join(dir, open(1, 1))))
		if err := s.Close(); err == nil {
			t.Error("Close gives a file its final name that is gone")
		}
		d.fs.(*disk).fault = failOn(op, syscall.ENOSPC)
		for range 2 {
			if _, err := d.Open(t.Context(), o); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s: %v", op, err)
			}
		}
		d.fs.(*disk).fault = nil
		openSink(t, d, o)
		if read(t, dir, name(1, 1)) != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
			t.Errorf("%s: what the checkpoint covers is not there", op)
		}
	}
}

// TestAFileInPlaceOfTheDirectory is named, and waited for.
func TestAFileInPlaceOfTheDirectory(t *testing.T) {
	dir := filepath.Join(tempDir(t), "out")
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	ok(t, os.RemoveAll(dir))
	put(t, filepath.Dir(dir), "out", "")
	deliver(t, s, batch(t, 1, 1, 0))
	if _, err := s.Sync(t.Context()); err == nil {
		t.Error("Sync does not find it")
	}
	closeSink(t, s)
	o := rigatoni.Opening{Key: "shop", Fence: fence(1), Saved: json.RawMessage(nil)}
	if _, err := d.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "it is a file") {
		t.Errorf("Open: %v", err)
	}
	ok(t, os.Remove(dir))
	openSink(t, d, o)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Error("there is no directory")
	}
}
