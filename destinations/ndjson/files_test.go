package ndjson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
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
	d.fs = newDisk(tempDir(t)) // spares the tests the time of flushing
	return d
}

func fence(epoch int) state.Fence { return state.Fence{Epoch: uint64(epoch), Nonce: "n"} }

func openSink(t testing.TB, d *Files, o rigatoni.Opening) *sink {
	t.Helper()
	if o.Key == "" {
		o.Key = "shop"
	}
	opened, err := d.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.(io.Closer).Close() })
	return opened.(*sink)
}

// refused is the error of an opening that must be refused.
func refused(t testing.TB, d *Files, o rigatoni.Opening, want error) *rigatoni.OutputError {
	t.Helper()
	if o.Key == "" {
		o.Key = "shop"
	}
	_, err := d.Open(t.Context(), o)
	var refused *rigatoni.OutputError
	if !errors.As(err, &refused) || !errors.Is(err, want) || refused.Accept == "" {
		t.Fatalf("got %v, want %v with a code", err, want)
	}
	return refused
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

// want is what the batches must look like, as lines.
func want(t testing.TB, mode extjson.Mode, batches ...*rigatoni.Batch) string {
	var b strings.Builder
	for _, batch := range batches {
		for _, ev := range batch.Events {
			line, err := extjson.Append(nil, ev.Raw, mode)
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

// names are the files that are not hidden.
func names(t testing.TB, dir string) (visible []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			visible = append(visible, e.Name())
		}
	}
	return visible
}

func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the files are %v, want %v", got, want)
	}
}

func name(epoch, number int) string { return fmt.Sprintf("shop-%010d-%06d.ndjson", epoch, number) }

func open(epoch, number int) string { return name(epoch, number) + ".partial" }

// commit saves a checkpoint, as the pipeline does.
func commit(t testing.TB, s *sink) json.RawMessage {
	t.Helper()
	doc := doSync(t, s)
	if err := s.Committed(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func closeSink(t testing.TB, s *sink) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEachEventIsALine(t *testing.T) {
	for _, mode := range []extjson.Mode{extjson.Relaxed, extjson.Canonical, extjson.Simplified} {
		dir := filepath.Join(tempDir(t), "new", "out")
		s := openSink(t, openFiles(t, dir, Options{Format: mode}), rigatoni.Opening{Fence: fence(7), FirstStart: true})
		wantNames(t, dir)
		if doc := doSync(t, s); doc != nil {
			t.Errorf("Sync returns %s though nothing was written", doc)
		}
		a, b := batch(t, 1, 3, 10), batch(t, 4, 3000, 300) // more than a chunk
		deliver(t, s, a)
		deliver(t, s, b)
		wantNames(t, dir, open(7, 1))
		text := want(t, mode, a, b)
		if read(t, dir, open(7, 1)) != text {
			t.Error("the file isn't what was delivered")
		}
		if got, want := string(commit(t, s)), fmt.Sprintf(`{"file":"%s","size":%d,"files":1}`, name(7, 1), len(text)); got != want {
			t.Errorf("Sync returns %s, want %s", got, want)
		}
		for path, most := range map[string]os.FileMode{dir: 0o750, filepath.Join(dir, open(7, 1)): 0o640} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^most != 0 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
		closeSink(t, s)
		wantNames(t, dir, name(7, 1))
	}
}

// TestAFileGetsItsNameOnceACheckpointCoversIt: not when it ends, and not when it is
// flushed.
func TestAFileGetsItsNameOnceACheckpointCoversIt(t *testing.T) {
	dir := tempDir(t)
	s := openSink(t, openFiles(t, dir, Options{MaxFileBytes: 1}), rigatoni.Opening{Fence: fence(1)})
	deliver(t, s, batch(t, 1, 2, 0))
	first := doSync(t, s) // its checkpoint could not be saved
	wantNames(t, dir, open(1, 1), open(1, 2))
	deliver(t, s, batch(t, 3, 3, 0))
	second := doSync(t, s)
	wantNames(t, dir, open(1, 1), open(1, 2), open(1, 3))
	if err := s.Committed(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, name(1, 1), name(1, 2), open(1, 3))
	if err := s.Committed(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, name(1, 1), name(1, 2), open(1, 3)) // more may come
	deliver(t, s, batch(t, 4, 4, 0))
	closeSink(t, s)
	wantNames(t, dir, name(1, 1), name(1, 2), open(1, 3), open(1, 4))
	if err := s.Committed(t.Context(), second); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Committed after Close: %v", err)
	}
}

// TestACleanStopFinishesEverything: a consumer of finished files has all events then.
func TestACleanStopFinishesEverything(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 1000})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1)})
	deliver(t, s, batch(t, 1, 7, 0))
	commit(t, s)
	closeSink(t, s)
	for _, n := range names(t, dir) {
		if !strings.HasSuffix(n, ".ndjson") {
			t.Errorf("%s is left", n)
		}
	}
	if readAll(t, dir) != want(t, extjson.Relaxed, batch(t, 1, 7, 0)) {
		t.Error("the files aren't what was delivered")
	}
}

// TestAFileThatIsGoneBeforeItIsFinished: somebody has removed it.
func TestAFileThatIsGoneBeforeItIsFinished(t *testing.T) {
	dir := tempDir(t)
	s := openSink(t, openFiles(t, dir, Options{MaxFileBytes: 1}), rigatoni.Opening{Fence: fence(1)})
	deliver(t, s, batch(t, 1, 2, 0))
	doc := doSync(t, s)
	if err := os.Remove(filepath.Join(dir, open(1, 1))); err != nil {
		t.Fatal(err)
	}
	if err := s.Committed(t.Context(), doc); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Committed: %v", err)
	}
	if _, err := s.Sync(t.Context()); err == nil {
		t.Error("a later Sync reports success")
	}
}

func TestFilesEndBeforeTheyAreTooLarge(t *testing.T) {
	line := len(want(t, extjson.Relaxed, batch(t, 21, 21, 100))) // 22 to 29 have as many bytes
	for _, tc := range []struct {
		limit int64
		files int
	}{{int64(line), 9}, {int64(2*line - 1), 9}, {int64(2 * line), 5}, {int64(3*line + 5), 3}, {1, 9}, {-1, 1}, {0, 1}} {
		for _, size := range []int{1, 3, 9} { // events in a batch
			dir := tempDir(t)
			s := openSink(t, openFiles(t, dir, Options{MaxFileBytes: tc.limit}), rigatoni.Opening{})
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
			if len(names(t, dir)) != tc.files || all != want(t, extjson.Relaxed, batch(t, 21, 29, 100)) {
				t.Errorf("limit %d, batches of %d: %d files, want %d, with %d bytes", tc.limit, size, len(names(t, dir)), tc.files, len(all))
			}
		}
	}
}

func TestFilesEndWhenTheyAreOld(t *testing.T) {
	dir := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		s := openSink(t, openFiles(t, dir, Options{MaxFileAge: time.Hour}), rigatoni.Opening{Fence: fence(1)})
		time.Sleep(2 * time.Hour) // a file's age begins with its first event
		deliver(t, s, batch(t, 1, 1, 0))
		time.Sleep(time.Hour - 1)
		deliver(t, s, batch(t, 2, 2, 0))
		doSync(t, s)
		wantNames(t, dir, open(1, 1))
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		wantNames(t, dir, open(1, 1)) // no checkpoint covers it
		deliver(t, s, batch(t, 3, 3, 0))
		wantNames(t, dir, open(1, 1), open(1, 2))
		commit(t, s)
		wantNames(t, dir, name(1, 1), open(1, 2))

		time.Sleep(2 * time.Hour) // without an event, and without a save
		synctest.Wait()
		wantNames(t, dir, name(1, 1), name(1, 2))

		deliver(t, s, batch(t, 4, 4, 0))
		time.Sleep(time.Hour + 1) // a save that comes late
		synctest.Wait()
		wantNames(t, dir, name(1, 1), name(1, 2), open(1, 3))
		doc := commit(t, s)
		wantNames(t, dir, name(1, 1), name(1, 2), name(1, 3))
		if got := string(doSync(t, s)); got != string(doc) {
			t.Errorf("the end went from %s to %s", doc, got)
		}

		deliver(t, s, batch(t, 5, 5, 0))
		doc = doSync(t, s)
		time.Sleep(time.Hour + 1) // a save that takes long
		synctest.Wait()
		if err := s.Committed(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
		wantNames(t, dir, name(1, 1), name(1, 2), name(1, 3), name(1, 4))
	})
}

func TestStreamsWriteConcurrently(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 5000})
	var wg sync.WaitGroup
	keys := []string{"shop/a", "shop/A", "shop/b", "shop"}
	for _, key := range keys {
		wg.Go(func() {
			dest, err := d.Open(context.Background(), rigatoni.Opening{Key: key, Fence: fence(1), FirstStart: true})
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
			if f, _, _ := parseName(n); f.stem == stemOf(key) {
				all += read(t, dir, n)
			}
		}
		if all != want(t, extjson.Relaxed, batch(t, 0, 199, 50)) {
			t.Errorf("the files of %q have other lines than were delivered for it", key)
		}
	}
}

func TestAnEventThatIsBrokenStopsAtItself(t *testing.T) {
	dir := tempDir(t)
	s := openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{})
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
	if read(t, dir, open(0, 1)) != want(t, extjson.Relaxed, batch(t, 1, 3, 0)) {
		t.Error("the events before it are not in the file")
	}
}

func TestAfterTheContextOrCloseNothingIsWritten(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	s := openSink(t, d, rigatoni.Opening{})
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
	if read(t, dir, open(0, 1)) != want(t, extjson.Relaxed, batch(t, 1, 1, 0)) {
		t.Error("something else was written")
	}
	if _, err := d.Open(t.Context(), rigatoni.Opening{}); err == nil {
		t.Error("an attachment without a key is taken")
	}
	file := filepath.Join(dir, open(0, 1))
	if _, err := openFiles(t, file, Options{}).Open(t.Context(), rigatoni.Opening{Key: "k"}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a directory: %v", err)
	}
}

func TestALargeEventLeavesNoLargeBuffer(t *testing.T) {
	s := openSink(t, openFiles(t, tempDir(t), Options{}), rigatoni.Opening{})
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
	s := openSink(b, openFiles(b, b.TempDir(), Options{}), rigatoni.Opening{})
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
