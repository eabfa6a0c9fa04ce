package ndjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

func put(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func text(t testing.TB, first, last int) string {
	return want(t, extjson.Relaxed, batch(t, first, last, 3))
}

func savedDoc(file string, size, files int, before string) json.RawMessage {
	if before != "" {
		before = `,"before":` + before
	}
	return fmt.Appendf(nil, `{"file":"%s","size":%d,"files":%d%s}`, file, size, files, before)
}

// TestOutputIsCutBackToTheCheckpoint: whole lines behind it go too, and so do files.
func TestOutputIsCutBackToTheCheckpoint(t *testing.T) {
	covered := text(t, 1, 2)
	all := text(t, 1, 4)
	for end := len(covered); end <= len(all); end++ {
		dir := tempDir(t)
		put(t, dir, open(1, 2), all[:end])
		put(t, dir, open(1, 1), covered)
		put(t, dir, open(1, 3), all)
		put(t, dir, open(1, 4), "")
		var log bytes.Buffer
		d := openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s := openSink(t, d, rigatoni.Opening{Fence: fence(2), Saved: savedDoc(name(1, 2), len(covered), 2, fmt.Sprintf(`[{"number":1,"size":%d}]`, len(covered)))})
		wantNames(t, dir, name(1, 1), name(1, 2))
		if got := read(t, dir, name(1, 2)); got != covered {
			t.Fatalf("cut at %d: %d bytes are left, want %d", end, len(got), len(covered))
		}
		if end > len(covered) && !strings.Contains(log.String(), fmt.Sprintf("size=%d bytes_removed=%d", len(covered), end-len(covered))) || strings.Contains(log.String(), "fullDocument") {
			t.Fatalf("cut at %d, the log has %q", end, &log)
		}
		if got, want := string(doSync(t, s)), string(savedDoc(name(1, 2), len(covered), 2, "")); got != want {
			t.Errorf("Sync returns %s, want %s", got, want)
		}
		deliver(t, s, batch(t, 3, 3, 3))
		wantNames(t, dir, name(1, 1), name(1, 2), open(2, 1))
	}
}

func TestOnlyTheOutputOfTheKeyIsTouched(t *testing.T) {
	dir := tempDir(t)
	line := text(t, 1, 1)
	others := []string{
		strings.Replace(open(1, 1), "shop", "shop2", 1), // another key
		name(9, 1), open(9, 2), // a later owner, perhaps
		open(8, 1),                // in this directory, the epoch 8 says nothing
		name(5, 1),                // finished long ago
		"shop-1-1.ndjson.partial", // not ours
		open(6, 1) + ".x", open(6, 1) + ".1", open(6, 1) + "7",
	}
	for _, n := range others {
		put(t, dir, n, line)
	}
	put(t, dir, open(7, 1), line)
	put(t, dir, open(6, 3)+".0000000007", line)
	put(t, dir, markerName("shop", 8), `{"file":"`+name(7, 2)+`","size":5,"files":9}`)
	openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(8), Saved: savedDoc(name(7, 2), 5, 9, "")})
	got := names(t, dir)
	slices.Sort(others)
	if !slices.Equal(got, others) {
		t.Errorf("the files are %v, want %v", got, others)
	}
}

// TestTheFilesOfAFrozenOwner: it holds its file open, goes on writing to it when it
// thaws, and believes that it may finish it.
func TestTheFilesOfAFrozenOwner(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	frozen := openSink(t, d, rigatoni.Opening{Fence: fence(7)})
	deliver(t, frozen, batch(t, 1, 2, 0))
	saved := commit(t, frozen)
	deliver(t, frozen, batch(t, 3, 3, 0))

	var log bytes.Buffer
	d2 := openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	owner := openSink(t, d2, rigatoni.Opening{Fence: fence(8), Saved: saved})
	wantNames(t, dir, open(7, 1)+".0000000008", open(8, 1))
	if got := read(t, dir, open(8, 1)); got != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Errorf("the copy is %q", got)
	}
	deliver(t, frozen, batch(t, 4, 4, 0))
	deliver(t, owner, batch(t, 3, 4, 0))
	commit(t, owner)
	wantNames(t, dir, open(8, 1)) // the copy is covered
	closeSink(t, frozen)
	closeSink(t, owner)
	wantNames(t, dir, name(8, 1))
	if got := read(t, dir, name(8, 1)); got != want(t, extjson.Relaxed, batch(t, 1, 4, 0)) {
		t.Errorf("the file is %q", got)
	}
	if !strings.Contains(log.String(), "may still have it open") {
		t.Errorf("the log has %q", &log)
	}
}

// TestAFrozenOwnerFinishesFirst: what it finishes is what the checkpoint covers.
func TestAFrozenOwnerFinishesFirst(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	frozen := openSink(t, d, rigatoni.Opening{Fence: fence(7)})
	deliver(t, frozen, batch(t, 1, 2, 0))
	saved := commit(t, frozen)
	closeSink(t, frozen)
	owner := openSink(t, d, rigatoni.Opening{Fence: fence(8), Saved: saved})
	deliver(t, owner, batch(t, 3, 3, 0))
	wantNames(t, dir, name(7, 1), open(8, 1))
}

func TestWithoutALeaseTwoProcessesAreRefused(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	first := openSink(t, d, rigatoni.Opening{})
	deliver(t, first, batch(t, 1, 1, 0))
	for _, saved := range []json.RawMessage{nil, commit(t, first)} {
		if _, err := d.Open(t.Context(), rigatoni.Opening{Key: "shop", Saved: saved}); err == nil || !strings.Contains(err.Error(), "another process writes") {
			t.Errorf("a second one: %v", err)
		}
	}
	saved := commit(t, first)
	closeSink(t, first)
	again := openSink(t, d, rigatoni.Opening{Saved: saved})
	deliver(t, again, batch(t, 2, 2, 0))
	wantNames(t, dir, name(0, 1), open(0, 2))
}

func TestAFirstStartRefusesOutputThatIsThere(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	put(t, dir, open(1, 1), "")
	s := openSink(t, d, rigatoni.Opening{Fence: fence(2), FirstStart: true}) // an empty file is no output
	deliver(t, s, batch(t, 1, 2, 0))
	closeSink(t, s)
	put(t, dir, open(2, 2), read(t, dir, open(2, 1))+"torn")
	put(t, dir, open(5, 1), text(t, 3, 3)) // of a store whose epochs went further

	first := rigatoni.Opening{Fence: fence(3), FirstStart: true, Key: "shop"}
	err := refused(t, d, first, rigatoni.ErrOutputExists)
	for _, part := range []string{dir, "3 files", open(5, 1)[:len(name(5, 1))], "directory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error doesn't have %q: %v", part, err)
		}
	}
	openSink(t, d, rigatoni.Opening{Key: "shop-2", FirstStart: true}) // another key's output is not ours
	openSink(t, openFiles(t, tempDir(t), Options{}), rigatoni.Opening{FirstStart: true})

	// What is accepted is finished, whole lines of it: no checkpoint covers it, and
	// none will.
	first.AcceptAnyOutput = true
	closeSink(t, openSink(t, d, first))
	wantNames(t, dir, name(2, 1), name(2, 2), name(5, 1))
	if got := read(t, dir, name(2, 2)); got != want(t, extjson.Relaxed, batch(t, 1, 2, 0)) {
		t.Errorf("a file was finished as %q", got)
	}
}

// TestAFirstStartKnowsOutputThatConsumersHaveTaken: and once it is accepted, the
// stream that follows is not refused.
func TestAFirstStartKnowsOutputThatConsumersHaveTaken(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	deliver(t, s, batch(t, 1, 2, 0))
	commit(t, s)
	closeSink(t, s)
	if err := os.Remove(filepath.Join(dir, name(1, 1))); err != nil {
		t.Fatal(err)
	}
	first := rigatoni.Opening{Key: "shop", Fence: fence(1), FirstStart: true}
	err := refused(t, d, first, rigatoni.ErrOutputExists)
	first.AcceptOutput = "something else"
	refused(t, d, first, rigatoni.ErrOutputExists)
	first.AcceptOutput = err.Accept
	closeSink(t, openSink(t, d, first))
	s = openSink(t, d, rigatoni.Opening{Fence: fence(1)}) // killed before anything was saved of the output
	deliver(t, s, batch(t, 1, 1, 0))
	wantNames(t, dir, open(1, 2)) // the number is not used again
	saved := commit(t, s)
	closeSink(t, s)
	openSink(t, d, rigatoni.Opening{Fence: fence(2), Saved: saved})
}

// TestACheckpointThatIsOlderThanTheOutput: finished files can't be taken back, also
// if consumers have moved them.
func TestACheckpointThatIsOlderThanTheOutput(t *testing.T) {
	at := time.Date(2026, 11, 29, 18, 0, 0, 0, time.UTC)
	for _, moved := range []bool{false, true} {
		for _, marked := range []bool{true, false} {
			if moved && !marked {
				continue // nothing is known then
			}
			dir := tempDir(t)
			d := openFiles(t, dir, Options{MaxFileBytes: 1})
			s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
			var saved []json.RawMessage
			for i := range 3 {
				deliver(t, s, batch(t, i+1, i+1, 0))
				saved = append(saved, commit(t, s))
			}
			closeSink(t, s)
			if moved {
				for _, n := range names(t, dir) {
					if err := os.Remove(filepath.Join(dir, n)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !marked {
				if err := os.Remove(filepath.Join(dir, markerName("shop", 1))); err != nil {
					t.Fatal(err)
				}
			}
			o := rigatoni.Opening{Key: "shop", Fence: fence(2), Saved: saved[0], SavedAt: at, ClusterTime: bson.Timestamp{T: uint32(at.Unix()) - 60}}
			err := refused(t, d, o, rigatoni.ErrOutputAhead)
			for _, part := range []string{"2026-11-29T18:00:00Z", "2026-11-29T17:59:00Z", name(1, 1), name(1, 3), dir} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error doesn't have %q: %v", part, err)
				}
			}
			before := o
			before.Saved = nil
			if refused(t, d, before, rigatoni.ErrOutputAhead).Accept == err.Accept {
				t.Error("the code accepts another checkpoint too")
			}
			o.AcceptAnyOutput = true // is for a first start
			refused(t, d, o, rigatoni.ErrOutputAhead)
			o.AcceptOutput, o.AcceptAnyOutput = err.Accept, false
			s = openSink(t, d, o)
			deliver(t, s, batch(t, 2, 2, 0))
			closeSink(t, s)

			o.AcceptOutput = "" // it is accepted once, for good
			s = openSink(t, d, o)
			deliver(t, s, batch(t, 2, 2, 0))
			o.Saved = commit(t, s)
			closeSink(t, s)
			o.Fence = fence(3)
			closeSink(t, openSink(t, d, o))
			o.Saved, o.AcceptOutput = saved[0], err.Accept
			refused(t, d, o, rigatoni.ErrOutputAhead) // a later case is another one
		}
	}
}

// TestACheckpointThatIsOlderWithinAFile: the file has grown since, and was finished.
func TestACheckpointThatIsOlderWithinAFile(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
	deliver(t, s, batch(t, 1, 1, 0))
	saved := commit(t, s)
	deliver(t, s, batch(t, 2, 2, 0))
	commit(t, s)
	closeSink(t, s)
	refused(t, d, rigatoni.Opening{Fence: fence(2), Saved: saved}, rigatoni.ErrOutputAhead)
}

func TestOutputThatIsMissing(t *testing.T) {
	lose := map[string]func(path string) error{
		"gone":    os.Remove,
		"shorter": func(path string) error { return os.Truncate(path, 100) },
	}
	for what, do := range lose {
		dir := tempDir(t)
		d := openFiles(t, dir, Options{})
		s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
		deliver(t, s, batch(t, 1, 3, 0))
		saved := commit(t, s)
		deliver(t, s, batch(t, 4, 4, 0)) // so that Close doesn't finish it
		closeSink(t, s)
		if err := do(filepath.Join(dir, open(1, 1))); err != nil {
			t.Fatal(err)
		}
		o := rigatoni.Opening{Key: "shop", Fence: fence(2), Saved: saved}
		err := refused(t, d, o, ErrOutputMissing)
		if !strings.Contains(err.Error(), open(1, 1)) {
			t.Errorf("%s: %v", what, err)
		}
		o.AcceptOutput = err.Accept
		var log bytes.Buffer
		d = openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		closeSink(t, openSink(t, d, o))
		if text := log.String(); !strings.Contains(text, "output accepted") || strings.Contains(text, "restore") {
			t.Errorf("%s: the log has advice for what was decided: %s", what, text)
		}
		o.AcceptOutput = ""
		closeSink(t, openSink(t, d, o))
		wantNames(t, dir) // what nothing is left of is not finished
	}
}

// TestMissingOutputHasTheTimeUpToWhichConsumersHaveAll, so that the checkpoint can be set
// back to it.
func TestMissingOutputHasTheTimeUpToWhichConsumersHaveAll(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	at := bson.Timestamp{T: uint32(time.Date(2026, 11, 29, 18, 0, 0, 0, time.UTC).Unix()), I: 3}
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	b := batch(t, 1, 1, 0)
	b.End.ClusterTime = at
	deliver(t, s, b)
	saved := commit(t, s)
	closeSink(t, s) // finishes the file
	s = openSink(t, d, rigatoni.Opening{Fence: fence(2), Saved: saved, ClusterTime: at})
	deliver(t, s, batch(t, 2, 2, 0))
	o := rigatoni.Opening{Key: "shop", Fence: fence(3), Saved: commit(t, s), ClusterTime: bson.Timestamp{T: at.T + 60}}
	ok(t, os.Truncate(filepath.Join(dir, open(2, 1)), 10))
	_ = s.Close() // it finds that
	err := refused(t, d, o, ErrOutputMissing)
	if err.Since != at || !strings.Contains(err.Error(), "finished files have the events up to the cluster time 2026-11-29T18:00:00Z") || !strings.Contains(err.Error(), "set the checkpoint back to that time, and accept then, which loses nothing") || !strings.Contains(err.Error(), "at the cluster time 2026-11-29T18:01:00Z") {
		t.Errorf("Since is %v: %v", err.Since, err)
	}
}

// TestWhatAFirstStartWouldSkip: the refusal has the time from which nothing is lost,
// which is that of the finished output and not of what is behind it.
func TestWhatAFirstStartWouldSkip(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 1})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	first := rigatoni.Opening{Key: "shop", Fence: fence(1), FirstStart: true}
	at := func(minute int) bson.Timestamp {
		return bson.Timestamp{T: uint32(time.Date(2026, 11, 29, 18, minute, 0, 0, time.UTC).Unix())}
	}
	var doc json.RawMessage
	for i := range 4 {
		b := batch(t, i+1, i+1, 0)
		b.End.ClusterTime = at(i)
		deliver(t, s, b)
		if i == 2 {
			doc = doSync(t, s)
		}
	}
	err := refused(t, d, first, rigatoni.ErrOutputExists)
	for _, part := range []string{"there are 4 files", "begin at 2026-11-06T21:20:00Z", "skips what was written since"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing is finished: the error doesn't have %q: %v", part, err)
		}
	}
	if err := s.Committed(t.Context(), doc); err != nil { // the first 3 files
		t.Fatal(err)
	}
	err = refused(t, d, first, rigatoni.ErrOutputExists)
	for _, part := range []string{"files up to " + name(1, 3), "begin at 2026-11-29T18:02:00Z", "skips what was written since"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("3 files are finished: the error doesn't have %q: %v", part, err)
		}
	}
	closeSink(t, s)

	// Accepting that once doesn't forget the time.
	first.AcceptOutput = err.Accept
	var log bytes.Buffer
	d = openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	closeSink(t, openSink(t, d, first))
	if text := log.String(); !strings.Contains(text, "output accepted") || !strings.Contains(text, name(1, 3)) || strings.Contains(text, "restore") || strings.Contains(text, "begin at") {
		t.Errorf("the log has advice for what was decided, or no facts: %s", text)
	}
	first.AcceptOutput = ""
	if err := refused(t, d, first, rigatoni.ErrOutputExists); !strings.Contains(err.Error(), "begin at 2026-11-29T18:02:00Z") {
		t.Errorf("a second time: %v", err)
	}
}

// TestTheTimeOfTheFirstEvent is what is left to a first start where no file was
// finished, in each format.
func TestTheTimeOfTheFirstEvent(t *testing.T) {
	first := rigatoni.Opening{Key: "shop", Fence: fence(1), FirstStart: true}
	for _, mode := range []extjson.Mode{extjson.Relaxed, extjson.Canonical, extjson.Simplified} {
		dir := tempDir(t)
		put(t, dir, open(1, 2), want(t, mode, batch(t, 1, 2, 5000)))
		err := refused(t, openFiles(t, dir, Options{}), first, rigatoni.ErrOutputExists)
		if !strings.Contains(err.Error(), "begin at 2026-11-06T21:20:00Z, ") || !strings.Contains(err.Error(), `there is a file of "shop", `+name(1, 2)) {
			t.Errorf("%v: %v", mode, err)
		}
	}
	dir := tempDir(t)
	put(t, dir, open(1, 1), "{}\n"+text(t, 1, 1))
	if err := refused(t, openFiles(t, dir, Options{}), first, rigatoni.ErrOutputExists); !strings.Contains(err.Error(), "begin at the time of the last event in the output, or before") {
		t.Errorf("without a cluster time: %v", err)
	}
}

// TestTheTimeOfFinishedOutputIsNotThatOfTheCopiedPart: a copy is finished later.
func TestTheTimeOfFinishedOutputIsNotThatOfTheCopiedPart(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	frozen := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
	deliver(t, frozen, batch(t, 1, 1, 0))
	saved := commit(t, frozen)
	if err := os.Remove(filepath.Join(dir, markerName("shop", 1))); err != nil {
		t.Fatal(err)
	}
	openSink(t, d, rigatoni.Opening{Fence: fence(2), Saved: saved, ClusterTime: bson.Timestamp{T: 1794000000}})
	if m := read(t, dir, markerName("shop", 2)); strings.Contains(m, "1794000000") {
		t.Errorf("the marker is %s, and nothing is finished", m)
	}
}

// TestALossThatIsAcceptedLeavesWholeLines, also where a process may have the file open.
func TestALossThatIsAcceptedLeavesWholeLines(t *testing.T) {
	for _, left := range []int{0, 1} { // lines
		dir := tempDir(t)
		d := openFiles(t, dir, Options{})
		frozen := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
		deliver(t, frozen, batch(t, 1, 3, 0))
		saved := commit(t, frozen)
		whole := ""
		if left > 0 {
			whole = want(t, extjson.Relaxed, batch(t, 1, left, 0))
		}
		if err := os.Truncate(filepath.Join(dir, open(1, 1)), int64(len(whole)+50)); err != nil {
			t.Fatal(err)
		}
		o := rigatoni.Opening{Key: "shop", Fence: fence(2), Saved: saved}
		o.AcceptOutput = refused(t, d, o, ErrOutputMissing).Accept
		s := openSink(t, d, o)
		o.Saved, o.AcceptOutput = commit(t, s), ""
		closeSink(t, s)
		o.Fence = fence(3)
		s = openSink(t, d, o)
		deliver(t, s, batch(t, 4, 4, 0))
		commit(t, s)
		closeSink(t, s)
		if got, want := readAll(t, dir), whole+want(t, extjson.Relaxed, batch(t, 4, 4, 0)); got != want {
			t.Errorf("%d lines are left: the output is %q, want %q", left, got, want)
		}
	}
}

// TestAnEmptiedDirectory: nothing says whether a consumer has taken all files.
func TestAnEmptiedDirectory(t *testing.T) {
	var log bytes.Buffer
	d := openFiles(t, tempDir(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	o := rigatoni.Opening{Fence: fence(2), Saved: savedDoc(name(1, 1), 5, 1, "")}
	closeSink(t, openSink(t, d, o))
	if !strings.Contains(log.String(), name(1, 1)) {
		t.Errorf("the log has %q", &log)
	}
	log.Reset()
	closeSink(t, openSink(t, d, o))
	if log.Len() > 0 {
		t.Errorf("the second time, the log has %q", &log)
	}
}

func TestACheckpointOfAnotherDestination(t *testing.T) {
	for _, foreign := range []string{
		`{"lsn":"0/15E8"}`, `5`, `"x"`, `{"file":"../shop-0000000001-000001.ndjson","files":1}`,
		`{"file":"other-0000000001-000001.ndjson","size":1,"files":1}`, string(savedDoc(name(1, 1), -1, 1, "")), string(savedDoc(name(1, 1), 1, 0, "")),
		string(savedDoc(name(1, 2), 1, 1, `[{"number":1,"size":1}]`)),
	} {
		dir := tempDir(t)
		var log bytes.Buffer
		d := openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s := openSink(t, d, rigatoni.Opening{Fence: fence(3), Saved: json.RawMessage(foreign)})
		if doc := doSync(t, s); doc != nil || !strings.Contains(log.String(), "ignored") {
			t.Errorf("%s: Sync returns %s; log: %s", foreign, doc, &log)
		}
		if err := s.Committed(t.Context(), json.RawMessage(foreign)); err == nil {
			t.Errorf("%s: Committed takes it", foreign)
		}
	}
}

func TestAMarkerThatCannotBeRead(t *testing.T) {
	dir := tempDir(t)
	put(t, dir, markerName("shop", 1), "{")
	_, err := openFiles(t, dir, Options{}).Open(t.Context(), rigatoni.Opening{Key: "shop", Fence: fence(2)})
	if err == nil || !strings.Contains(err.Error(), markerName("shop", 1)) || errors.As(err, new(*rigatoni.OutputError)) {
		t.Errorf("got %v", err)
	}
}
