package ndjson

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

func newWriter(t *testing.T, w io.Writer) *Writer {
	t.Helper()
	d, err := To(w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWriterWritesLines(t *testing.T) {
	for _, mode := range []extjson.Mode{extjson.Relaxed, extjson.Canonical, extjson.Simplified} {
		var out bytes.Buffer
		d, err := To(&out, &Options{Format: mode})
		if err != nil {
			t.Fatal(err)
		}
		b := batch(t, 1, 2000, 300)
		deliver(t, d, b)
		if doc := doSync(t, d); doc != nil || out.String() != want(t, mode, b) {
			t.Errorf("%v: the output isn't what was delivered; Sync returns %s", mode, doc)
		}
	}
}

func TestStreamsShareAWriterLineByLine(t *testing.T) {
	r, w := io.Pipe()
	lines := make(chan int)
	go func() {
		n := 0
		for s := bufio.NewScanner(r); s.Scan(); n++ {
			checkLine(t, s.Bytes())
		}
		lines <- n
	}()
	d := newWriter(t, w)
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range 10 {
				if err := d.Deliver(context.Background(), batch(t, 100*k+10*i, 100*k+10*i+9, 200)); err != nil {
					t.Error(err)
				}
				if _, err := d.Sync(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	w.Close()
	if n := <-lines; n != 400 {
		t.Errorf("%d lines arrive, want 400", n)
	}
}

// A halting writer takes a few bytes and fails, again and again.
type halting struct {
	bytes.Buffer
	takes int
	err   error
}

func (w *halting) Write(p []byte) (int, error) {
	if len(p) <= w.takes {
		return w.Buffer.Write(p)
	}
	n, _ := w.Buffer.Write(p[:w.takes])
	return n, w.err
}

func TestAWriterThatStopsInsideALine(t *testing.T) {
	b := batch(t, 1, 3, 0)
	text := want(t, extjson.Relaxed, b)
	line := len(text) / 3
	for takes := 0; takes < len(text); takes++ {
		w := &halting{takes: takes, err: errors.New("away")}
		d := newWriter(t, w)
		err := d.Deliver(t.Context(), b)
		delivered := 0
		if p, ok := err.(*rigatoni.PartialError); ok {
			delivered = p.Delivered
		}
		if err == nil || delivered != takes/line {
			t.Fatalf("after %d bytes: %v, want an error after %d events", takes, err, takes/line)
		}
		w.takes = len(text)
		deliver(t, d, &rigatoni.Batch{Events: b.Events[delivered:]})
		doSync(t, d)
		// The torn line was completed, and its event came again: whole lines, none missing.
		wantText := text
		if takes%line != 0 {
			n := delivered * line
			wantText = text[:n+line] + text[n:]
		}
		if w.String() != wantText {
			t.Fatalf("after %d bytes: got %q", takes, w.String())
		}
	}
}

func TestSyncFinishesATornLine(t *testing.T) {
	w := &halting{takes: 10, err: errors.New("away")}
	d := newWriter(t, w)
	b := batch(t, 1, 1, 0)
	if err := d.Deliver(t.Context(), b); err == nil {
		t.Fatal("no error")
	}
	if _, err := d.Sync(t.Context()); err == nil {
		t.Error("Sync is content with half a line")
	}
	w.takes = 1 << 20
	doSync(t, d)
	if w.String() != want(t, extjson.Relaxed, b) {
		t.Errorf("got %q", w.String())
	}
}

func TestAWriterThatFailsAfterTheLastByte(t *testing.T) {
	failing := writerFunc(func(p []byte) (int, error) { return len(p), errors.New("away") })
	err := newWriter(t, failing).Deliver(t.Context(), batch(t, 1, 3, 0))
	var p *rigatoni.PartialError
	if !errors.As(err, &p) || p.Delivered != 2 {
		t.Errorf("got %v: an error stands at an event of the batch", err)
	}
	lying := writerFunc(func(p []byte) (int, error) { return len(p) + 1, nil })
	if err := newWriter(t, lying).Deliver(t.Context(), batch(t, 1, 1, 0)); !isPermanent(err) {
		t.Errorf("a writer that says it wrote too much: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func isPermanent(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if fmt.Sprintf("%T", err) == fmt.Sprintf("%T", rigatoni.Permanent(io.EOF)) {
			return true
		}
	}
	return false
}

func TestAPipeThatNobodyReadsIsClosed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d := newWriter(t, w)
	deliver(t, d, batch(t, 1, 1, 0))
	doSync(t, d) // fsync of a pipe is an error, and not asked for
	r.Close()
	if err := d.Deliver(t.Context(), batch(t, 2, 2, 0)); !errors.Is(err, syscall.EPIPE) || !errors.Is(err, rigatoni.ErrDestinationClosed) {
		t.Errorf("got %v", err)
	}
	w.Close()
	if err := d.Deliver(t.Context(), batch(t, 2, 2, 0)); !errors.Is(err, rigatoni.ErrDestinationClosed) {
		t.Errorf("a closed file: %v", err)
	}
	if err := newWriter(t, &halting{err: syscall.EAGAIN}).Deliver(t.Context(), batch(t, 1, 1, 0)); err == nil || errors.Is(err, rigatoni.ErrDestinationClosed) {
		t.Errorf("what may go by is final: %v", err)
	}
}

type flushing struct {
	bytes.Buffer
	calls             []string
	flushErr, syncErr error
}

func (w *flushing) Flush() error { w.calls = append(w.calls, "flush"); return w.flushErr }
func (w *flushing) Sync() error  { w.calls = append(w.calls, "sync"); return w.syncErr }

func TestSyncFlushesTheWriter(t *testing.T) {
	w := &flushing{}
	d := newWriter(t, w)
	deliver(t, d, batch(t, 1, 1, 0))
	doSync(t, d)
	if got := strings.Join(w.calls, " "); got != "flush sync" {
		t.Errorf("called: %s", got)
	}
	for _, w := range []*flushing{{flushErr: syscall.EIO}, {syncErr: syscall.EIO}} {
		if _, err := newWriter(t, w).Sync(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	d = newWriter(t, f)
	deliver(t, d, batch(t, 1, 1, 0))
	doSync(t, d)
	f.Close()
	if _, err := d.Sync(t.Context()); err == nil {
		t.Error("Sync of a closed file says nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync after the end of ctx: %v", err)
	}
	var out bytes.Buffer
	if err := newWriter(t, &out).Deliver(ctx, batch(t, 1, 1, 0)); !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("Deliver after the end of ctx: %v, %d bytes", err, out.Len())
	}
}
