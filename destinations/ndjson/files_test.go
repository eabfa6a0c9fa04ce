package ndjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

var quiet = slog.New(slog.DiscardHandler)

func openFiles(t testing.TB, dir string, o Options) *Files {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	d, err := Open(dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	d.fs = newDisk() // spares the tests the time of flushing
	return d
}

func attach(t testing.TB, d *Files, a rigatoni.Opening) *stream {
	t.Helper()
	if a.Key == "" {
		a.Key = "shop"
	}
	dest, err := d.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dest.(io.Closer).Close() })
	return dest.(*stream)
}

// batch has the events from first to last, and payloads of n bytes.
func batch(t testing.TB, first, last, n int) *rigatoni.Batch {
	b := &rigatoni.Batch{}
	for i := first; i <= last; i++ {
		raw := must(t, event(i, strings.Repeat("x", n)))
		b.Events = append(b.Events, rigatoni.Event{Raw: raw})
		b.Bytes += len(raw)
	}
	return b
}

func deliver(t testing.TB, d rigatoni.Sink, b *rigatoni.Batch) {
	t.Helper()
	if err := d.Deliver(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func doSync(t testing.TB, s rigatoni.Syncer) json.RawMessage {
	t.Helper()
	doc, err := s.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// want is what the batches must look like, by the driver's own encoder.
func want(t testing.TB, canonical bool, batches ...*rigatoni.Batch) string {
	var b strings.Builder
	for _, batch := range batches {
		for _, ev := range batch.Events {
			line, err := bson.MarshalExtJSON(ev.Raw, canonical, false)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
	}
	return b.String()
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readAll(t testing.TB, dir string) (all string) {
	t.Helper()
	for _, n := range names(t, dir) {
		all += read(t, dir, n)
	}
	return all
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the files are %v, want %v", got, want)
	}
}

func name(epoch, number int) string { return fmt.Sprintf("shop-%010d-%06d.ndjson", epoch, number) }

func TestEachEventIsALine(t *testing.T) {
	for _, canonical := range []bool{false, true} {
		dir := filepath.Join(tempDir(t), "new", "out")
		s := attach(t, openFiles(t, dir, Options{Canonical: canonical}), rigatoni.Opening{Fence: state.Fence{Epoch: 7, Nonce: "n"}})
		wantNames(t, dir)
		if doc := doSync(t, s); doc != nil {
			t.Errorf("Sync returns %s though nothing was written", doc)
		}
		a, b := batch(t, 1, 3, 10), batch(t, 4, 3000, 300) // more than a chunk
		deliver(t, s, a)
		deliver(t, s, b)
		wantNames(t, dir, name(7, 1))
		text := want(t, canonical, a, b)
		if read(t, dir, name(7, 1)) != text {
			t.Error("the file isn't what was delivered")
		}
		if got, want := string(doSync(t, s)), fmt.Sprintf(`{"file":"%s","size":%d}`, name(7, 1), len(text)); got != want {
			t.Errorf("Sync returns %s, want %s", got, want)
		}
		for path, most := range map[string]os.FileMode{dir: 0o750, filepath.Join(dir, name(7, 1)): 0o640} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^most != 0 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
	}
}

func TestFilesEndBeforeTheyAreTooLarge(t *testing.T) {
	line := len(want(t, false, batch(t, 21, 21, 100))) // 22 to 29 have as many bytes
	for _, tc := range []struct {
		limit int64
		files int
	}{{int64(line), 9}, {int64(2*line - 1), 9}, {int64(2 * line), 5}, {int64(3*line + 5), 3}, {1, 9}, {-1, 1}, {0, 1}} {
		for _, size := range []int{1, 3, 9} { // events in a batch
			dir := tempDir(t)
			s := attach(t, openFiles(t, dir, Options{MaxFileBytes: tc.limit}), rigatoni.Opening{})
			for i := 21; i <= 29; i += size {
				deliver(t, s, batch(t, i, min(29, i+size-1), 100))
			}
			all := ""
			for _, n := range names(t, dir) {
				text := read(t, dir, n)
				all += text
				if tc.limit > 1 && int64(len(text)) > tc.limit || tc.limit == 1 && len(text) != line {
					t.Errorf("limit %d: a file has %d bytes", tc.limit, len(text))
				}
			}
			if len(names(t, dir)) != tc.files || all != want(t, false, batch(t, 21, 29, 100)) {
				t.Errorf("limit %d, batches of %d: %d files, want %d, with %d bytes", tc.limit, size, len(names(t, dir)), tc.files, len(all))
			}
		}
	}
}

func TestFilesEndWhenTheyAreOld(t *testing.T) {
	dir := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		s := attach(t, openFiles(t, dir, Options{MaxFileAge: time.Hour}), rigatoni.Opening{Fence: state.Fence{Epoch: 1, Nonce: "n"}})
		time.Sleep(2 * time.Hour) // a file's age begins with its first event
		deliver(t, s, batch(t, 1, 1, 0))
		time.Sleep(time.Hour - 1)
		deliver(t, s, batch(t, 2, 2, 0))
		doSync(t, s)
		wantNames(t, dir, name(1, 1))
		time.Sleep(1 * time.Nanosecond)
		deliver(t, s, batch(t, 3, 3, 0))
		wantNames(t, dir, name(1, 1), name(1, 2))

		time.Sleep(time.Hour) // also without events, at a save
		doc := doSync(t, s)
		if s.cur != nil {
			t.Error("an old file stays open")
		}
		if got := string(doSync(t, s)); got != string(doc) {
			t.Errorf("the place of the end went from %s to %s", doc, got)
		}
		deliver(t, s, batch(t, 4, 4, 0))
		wantNames(t, dir, name(1, 1), name(1, 2), name(1, 3))
	})
}

func TestEveryLifeHasFilesOfItsOwn(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	zombie := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 7, Nonce: "n"}})
	deliver(t, zombie, batch(t, 1, 2, 0))
	owner := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 8, Nonce: "n"}, Saved: doSync(t, zombie)})
	deliver(t, owner, batch(t, 3, 4, 0))
	deliver(t, zombie, batch(t, 3, 3, 0))
	wantNames(t, dir, name(7, 1), name(8, 1))
	if read(t, dir, name(8, 1)) != want(t, false, batch(t, 3, 4, 0)) {
		t.Error("the owner's file has other lines than the owner's")
	}

	saved := doSync(t, owner)
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	again := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 8, Nonce: "n"}, Saved: saved})
	deliver(t, again, batch(t, 5, 5, 0))
	wantNames(t, dir, name(7, 1), name(8, 1), name(8, 2))

	// Files that a consumer has taken keep their names to themselves.
	saved = doSync(t, again)
	again.Close()
	for _, n := range names(t, dir) {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	s := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 8, Nonce: "n"}, Saved: saved})
	if got := string(doSync(t, s)); got != string(saved) {
		t.Errorf("before anything is written, Sync returns %s, want what was saved: %s", got, saved)
	}
	deliver(t, s, batch(t, 6, 6, 0))
	wantNames(t, dir, name(8, 3))
}

func TestWithoutALeaseTheNextFreeNumberIsTaken(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	a, b := attach(t, d, rigatoni.Opening{}), attach(t, d, rigatoni.Opening{})
	deliver(t, a, batch(t, 1, 1, 0))
	deliver(t, b, batch(t, 1, 1, 0))
	wantNames(t, dir, name(0, 1), name(0, 2))
}

func TestStreamsWriteConcurrently(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 5000})
	var wg sync.WaitGroup
	keys := []string{"shop/a", "shop/A", "shop/b", "shop"}
	for _, key := range keys {
		wg.Go(func() {
			dest, err := d.Open(context.Background(), rigatoni.Opening{Key: key, Fence: state.Fence{Epoch: 1, Nonce: "n"}, FirstStart: true})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 20 {
				if err := dest.Deliver(context.Background(), batch(t, 10*i, 10*i+9, 50)); err != nil {
					t.Error(err)
				}
				if _, err := dest.(rigatoni.Syncer).Sync(context.Background()); err != nil {
					t.Error(err)
				}
			}
			if err := dest.(io.Closer).Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, key := range keys {
		all := ""
		for _, n := range names(t, dir) {
			if f, _ := parseName(n); f.stem == stemOf(key) {
				all += read(t, dir, n)
			}
		}
		if all != want(t, false, batch(t, 0, 199, 50)) {
			t.Errorf("the files of %q have other lines than were delivered for it", key)
		}
	}
}

func TestAFirstStartRefusesOutputThatIsThere(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(dir, name(1, 1)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	attach(t, d, rigatoni.Opening{FirstStart: true}) // an empty file is no output
	s := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 2, Nonce: "n"}})
	deliver(t, s, batch(t, 1, 1, 0))
	doSync(t, s)
	_, err := d.Open(t.Context(), rigatoni.Opening{Key: "shop", Fence: state.Fence{Epoch: 3, Nonce: "n"}, FirstStart: true})
	if !errors.Is(err, rigatoni.ErrOutputExists) {
		t.Fatalf("got %v, want ErrOutputExists", err)
	}
	for _, part := range []string{dir, "1 files", name(2, 1), "NewStream", "directory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error doesn't say %q: %v", part, err)
		}
	}
	attach(t, d, rigatoni.Opening{Key: "shop-2", FirstStart: true})                             // another key's output is not ours
	attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 3, Nonce: "n"}, FirstStart: false}) // accepted
	attach(t, openFiles(t, tempDir(t), Options{}), rigatoni.Opening{FirstStart: true})
}

func TestWhatTheCheckpointSaysOfTheOutput(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 1, Nonce: "n"}})
	deliver(t, s, batch(t, 1, 3, 0))
	saved := doSync(t, s)
	s.Close()
	path := filepath.Join(dir, name(1, 1))
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	_, err := d.Open(t.Context(), rigatoni.Opening{Key: "shop", Fence: state.Fence{Epoch: 2, Nonce: "n"}, Saved: saved})
	if err == nil || !strings.Contains(err.Error(), path+" has 100 bytes") {
		t.Errorf("a file that lost flushed lines: %v", err)
	}
	if info, _ := os.Stat(path); info.Size() != 100 {
		t.Error("the file was changed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 2, Nonce: "n"}, Saved: saved})

	for _, foreign := range []string{`{"lsn":"0/15E8"}`, `5`, `"x"`, `{"file":"../shop-0000000001-000001.ndjson"}`, `{"file":"other-0000000001-000001.ndjson","size":1}`} {
		var log bytes.Buffer
		d := openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s := attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 3, Nonce: "n"}, Saved: json.RawMessage(foreign)})
		if doc := doSync(t, s); doc != nil || !strings.Contains(log.String(), "not one of this destination") {
			t.Errorf("%s: Sync returns %s; log: %s", foreign, doc, &log)
		}
		s.Close()
	}
}

func TestAnEventThatIsBrokenStopsAtItself(t *testing.T) {
	dir := tempDir(t)
	s := attach(t, openFiles(t, dir, Options{}), rigatoni.Opening{})
	b := batch(t, 1, 5, 0)
	b.Events[3].Raw = b.Events[3].Raw[:20]
	err := s.Deliver(t.Context(), b)
	var p *rigatoni.PartialError
	if !errors.As(err, &p) || p.Delivered != 3 || !strings.Contains(err.Error(), "malformed BSON") {
		t.Errorf("got %v, want one after 3 events", err)
	}
	if fmt.Sprintf("%T", p.Err) != fmt.Sprintf("%T", rigatoni.Permanent(io.EOF)) {
		t.Errorf("%v is not permanent", p.Err)
	}
	if read(t, dir, name(0, 1)) != want(t, false, batch(t, 1, 3, 0)) {
		t.Error("the events before it are not in the file")
	}
}

func TestAfterTheContextOrCloseNothingIsWritten(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := attach(t, d, rigatoni.Opening{})
	lost := errors.New("the lease is lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	if err := s.Deliver(ctx, batch(t, 1, 1, 0)); !errors.Is(err, lost) {
		t.Errorf("Deliver: %v", err)
	}
	if _, err := s.Sync(ctx); !errors.Is(err, lost) {
		t.Errorf("Sync: %v", err)
	}
	deliver(t, s, batch(t, 1, 1, 0))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Deliver(t.Context(), batch(t, 2, 2, 0)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Deliver after Close: %v", err)
	}
	if _, err := s.Sync(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Sync after Close: %v", err)
	}
	if read(t, dir, name(0, 1)) != want(t, false, batch(t, 1, 1, 0)) {
		t.Error("something else was written")
	}
	if _, err := d.Open(t.Context(), rigatoni.Opening{}); err == nil {
		t.Error("an attachment without a key is taken")
	}
	file := filepath.Join(dir, name(0, 1))
	if _, err := openFiles(t, file, Options{}).Open(t.Context(), rigatoni.Opening{Key: "k"}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a directory: %v", err)
	}
}

func TestALargeEventLeavesNoLargeBuffer(t *testing.T) {
	s := attach(t, openFiles(t, tempDir(t), Options{}), rigatoni.Opening{})
	deliver(t, s, batch(t, 1, 1, 5<<20))
	if cap(s.buf) > keepBytes {
		t.Errorf("%d bytes are kept", cap(s.buf))
	}
	deliver(t, s, batch(t, 1, 4000, 500))
	if cap(s.buf) > 3*chunkBytes {
		t.Errorf("%d bytes are kept after events of usual size", cap(s.buf))
	}
}

func BenchmarkDeliver(b *testing.B) {
	s := attach(b, openFiles(b, b.TempDir(), Options{}), rigatoni.Opening{})
	events := batch(b, 1, 1000, 300)
	b.SetBytes(int64(events.Bytes))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Deliver(context.Background(), events); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/event")
}
