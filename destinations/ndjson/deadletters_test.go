package ndjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

func openLettersIn(t *testing.T, dir string, o *Options) *DeadLetters {
	t.Helper()
	d, err := OpenDeadLetters(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func deadLetter(t *testing.T, key string, n int) rigatoni.DeadLetter {
	return rigatoni.DeadLetter{
		Key: key, Stream: "orders", Event: batch(t, n, n, 0).Events[0], Err: errors.New("no \u0085 room\n"), Attempts: 3,
		Position: rigatoni.Position{ClusterTime: bson.Timestamp{T: 5, I: 6}}, At: time.Date(2026, 11, 29, 19, 0, 0, 0, time.FixedZone("", 3600)),
	}
}

func TestADeadLetterIsALine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dead")
	d := openLettersIn(t, dir, &Options{Format: extjson.Simplified})
	l := deadLetter(t, "shop/orders", 1)
	if err := d.Put(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	event, err := extjson.Append(nil, l.Event.Raw, extjson.Simplified)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"at":"2026-11-29T18:00:00Z","key":"shop/orders","stream":"orders","error":"no \u0085 room\n","attempts":3,"namespace":"shop.orders",` +
		`"documentKey":{"_id":"650000000000000100000000"},"clusterTime":{"t":5,"i":6},"event":` + string(event) + "}\n"
	want = strings.Replace(want, "650000000000000100000000", l.Event.DocumentKey().Lookup("_id").ObjectID().Hex(), 1)
	if got := read(t, dir, "shop%2forders.ndjson"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	checkLine(t, []byte(strings.TrimSuffix(want, "\n")))
}

// TestADeadLetterOfAnEventThatIsBroken: that may be why it was refused.
func TestADeadLetterOfAnEventThatIsBroken(t *testing.T) {
	dir := t.TempDir()
	d := openLettersIn(t, dir, nil)
	whole := batch(t, 1, 1, 0).Events[0].Raw
	for n := range whole {
		l := rigatoni.DeadLetter{Key: "shop", Event: rigatoni.Event{Raw: whole[:n]}}
		if err := d.Put(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(read(t, dir, "shop.ndjson")), "\n")
	for n, line := range lines {
		var got struct{ BSON []byte }
		if err := json.Unmarshal([]byte(line), &got); err != nil || !bytes.Equal(got.BSON, whole[:n]) {
			t.Fatalf("of %d bytes: %s, %v", n, line, err)
		}
	}
}

func TestDeadLettersFromManySides(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 { // as many processes
		d := openLettersIn(t, dir, nil)
		for range 2 {
			wg.Go(func() {
				for n := range 20 {
					if err := d.Put(context.Background(), deadLetter(t, fmt.Sprint("key", i%2), n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, base := range []string{"key0.ndjson", "key1.ndjson"} {
		all := read(t, dir, base)
		if n := strings.Count(all, "\n"); n != 80 || whole(t, all) != all {
			t.Errorf("%s has %d lines, want 80 whole ones", base, n)
		}
	}
}

// TestTornDeadLettersAreCutOff: a letter that was not written to its end. What else stands
// there without a line break is kept: another program's line, or a letter of a file that an
// editor has saved.
func TestTornDeadLettersAreCutOff(t *testing.T) {
	for tail, torn := range map[string]bool{
		"": false, "{": true, `{"at":`: true, `{"at":"2026-1`: true, `{"at":"` + strings.Repeat("x", 200_000): true, "\x00\x00\x00": true,
		`{"at":"2026-11-29T18:00:00Z"}`: false, `{"a":1`: false, "x,y": false, strings.Repeat("x", 200_000): false,
	} {
		for _, before := range []string{"", "{}\n", `{"a":"` + strings.Repeat("x", 200_000) + "\"}\n"} {
			dir := t.TempDir()
			put(t, dir, "shop.ndjson", before+tail)
			put(t, dir, "other", `{"at":`)
			d := openLettersIn(t, dir, nil)
			kept := before + tail
			if torn {
				kept = before
			}
			if got := read(t, dir, "shop.ndjson"); got != kept || read(t, dir, "other") != `{"at":` {
				t.Fatalf("%.20q: %d bytes are left of %d and %d", tail, len(got), len(before), len(tail))
			}
			put(t, dir, "shop.ndjson", before+tail) // by another process, since
			if err := d.Put(t.Context(), deadLetter(t, "shop", 1)); err != nil {
				t.Fatal(err)
			}
			if tail != "" && !torn {
				kept += "\n"
			}
			got, ok := strings.CutPrefix(read(t, dir, "shop.ndjson"), kept)
			if !ok || whole(t, got) != got || strings.Count(got, "\n") != 1 {
				t.Fatalf("%.20q: after a letter: %.100q", tail, got)
			}
		}
	}
}

// TestDeadLettersAreDurable: the file is flushed after it was written, and so is the
// directory after that.
func TestDeadLettersAreDurable(t *testing.T) {
	d := openLettersIn(t, t.TempDir(), nil)
	var calls []string
	d.open = func(path string, flag int) (letterFile, error) {
		f, err := openLetters(path, flag)
		return &watchedLetters{f, func(op string) error { calls = append(calls, op); return nil }}, err
	}
	d.syncDir = func(string) error { calls = append(calls, "syncDir"); return nil }
	if err := d.Put(t.Context(), deadLetter(t, "shop", 1)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"write", "sync", "syncDir", "close"}; !slices.Equal(calls, want) {
		t.Errorf("called: %v, want %v", calls, want)
	}
}

type watchedLetters struct {
	letterFile
	op func(op string) error
}

func (f *watchedLetters) Write(p []byte) (int, error) {
	if err := f.op("write"); err != nil {
		n, _ := f.letterFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.letterFile.Write(p)
}

func (f *watchedLetters) Sync() error {
	if err := f.op("sync"); err != nil {
		return err
	}
	return f.letterFile.Sync()
}

func (f *watchedLetters) Close() error {
	return errors.Join(f.op("close"), f.letterFile.Close())
}

func TestADeadLetterThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	d := openLettersIn(t, dir, nil)
	if err := d.Put(t.Context(), deadLetter(t, "shop", 1)); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir, "shop.ndjson")
	for _, failing := range []string{"write", "sync"} {
		d.open = func(path string, flag int) (letterFile, error) {
			f, err := openLetters(path, flag)
			return &watchedLetters{f, func(op string) error {
				if op == failing {
					return syscall.ENOSPC
				}
				return nil
			}}, err
		}
		if err := d.Put(t.Context(), deadLetter(t, "shop", 2)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", failing, err)
		}
		if got := read(t, dir, "shop.ndjson"); got != before {
			t.Errorf("%s: %d bytes are left, want %d", failing, len(got), len(before))
		}
	}
	d.open, d.syncDir = openLetters, func(string) error { return syscall.EIO }
	if err := d.Put(t.Context(), deadLetter(t, "shop", 2)); !errors.Is(err, syscall.EIO) {
		t.Errorf("syncDir: %v", err)
	}
}

// TestTheFolderOfDeadLettersIsRemoved while a pipeline runs: it is made again, since a
// letter that can't be written would hold up its stream for ever.
func TestTheFolderOfDeadLettersIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "dead")
	d := openLettersIn(t, dir, nil)
	for n := range 2 {
		if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
		if err := d.Put(t.Context(), deadLetter(t, "shop", n)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, dir, "shop.ndjson"); strings.Count(got, "\n") != 1 {
			t.Errorf("the letters are %q", got)
		}
	}
}

// TestDeadLettersWaitForAnotherProcess: as long as ctx lasts.
func TestDeadLettersWaitForAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	d := openLettersIn(t, dir, nil)
	f, err := openLetters(filepath.Join(dir, "shop.ndjson"), os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.lock() != free {
		t.Skip("no locks here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Put(ctx, deadLetter(t, "shop", 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	openLettersIn(t, dir, nil) // doesn't wait
}

func TestOptionsOfDeadLetters(t *testing.T) {
	if _, err := OpenDeadLetters("", nil); err == nil {
		t.Error("no directory is taken for one")
	}
	if _, err := OpenDeadLetters(t.TempDir(), &Options{MaxFileBytes: 1}); err == nil {
		t.Error("options of files are taken")
	}
	file := filepath.Join(t.TempDir(), "file")
	put(t, filepath.Dir(file), "file", "")
	if _, err := OpenDeadLetters(file, nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a directory: %v", err)
	}
}
