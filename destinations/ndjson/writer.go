package ndjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// Writer is the destination that writes to one io.Writer, such as standard
// output. Streams share it: their lines are mixed, but each is whole. It is safe
// for concurrent use.
//
// It delivers at least once: events since the last checkpoint are written again
// after a crash, because what was written can't be taken back. An event counts as
// delivered once the writer has taken it. What a pipe's reader has not read, or has
// not made durable, is lost if the reader dies. Where that matters, use files, or a
// reader that remembers the _id of the events it has processed. Standard output that
// is redirected to a regular file is flushed to the disk before each checkpoint.
//
// A program whose standard output is a pipe that nobody reads any more ends by
// SIGPIPE, as any does, before the checkpoint is saved. On other descriptors, or if the
// signal is caught, it is a [rigatoni.ErrDestinationClosed], and the pipeline stops.
type Writer struct {
	mode extjson.Mode

	mu   sync.Mutex
	w    io.Writer
	buf  []byte
	torn []byte // what is missing of the last line, after a write that stopped inside it
}

var (
	_ rigatoni.Destination = (*Writer)(nil)
	_ rigatoni.Syncer      = (*Writer)(nil)
)

// To returns a destination that writes to w. It uses o.Format alone, and refuses
// options of files. It does not close w.
func To(w io.Writer, o *Options) (*Writer, error) {
	if w == nil {
		return nil, errors.New("ndjson: To got a nil writer")
	}
	if o != nil && (o.MaxFileBytes != 0 || o.MaxFileAge != 0) {
		return nil, errors.New("ndjson: MaxFileBytes and MaxFileAge are for files; a writer has none")
	}
	c, err := o.orDefaults()
	if err != nil {
		return nil, err
	}
	return &Writer{mode: c.Format, w: w}, nil
}

// Open returns the writer itself. It keeps nothing of the opening: there is no
// output that it could compare with the checkpoint.
func (d *Writer) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return d, nil }

// Deliver writes a line for each event. If the writer stops inside a line, the
// rest of that line is what it gets first the next time.
func (d *Writer) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := lines{mode: d.mode, buf: d.buf[:0]}
	l.limit = func(int) int { return chunkBytes }
	l.write = func(p []byte) (int, error) { return d.write(ctx, p) }
	err := l.deliver(b.Events)
	d.buf = l.rest()
	return err
}

func (d *Writer) write(ctx context.Context, p []byte) (whole int, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err := d.finishTorn(); err != nil {
		return 0, err
	}
	n, err := d.put(p)
	if err == nil {
		return 0, nil
	}
	whole = bytes.Count(p[:n], []byte("\n"))
	if n > 0 && p[n-1] != '\n' {
		d.torn = bytes.Clone(p[n : n+bytes.IndexByte(p[n:], '\n')+1])
	}
	return whole, err
}

func (d *Writer) finishTorn() error {
	if len(d.torn) == 0 {
		return nil
	}
	n, err := d.put(d.torn)
	d.torn = d.torn[n:]
	return err
}

// put writes p, and marks the errors after which no write will succeed.
func (d *Writer) put(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if n < 0 || n > len(p) {
		return 0, rigatoni.Permanent(fmt.Errorf("ndjson: the writer says that it wrote %d of %d bytes", n, len(p)))
	}
	switch {
	case err == nil && n < len(p):
		err = fmt.Errorf("ndjson: %w", io.ErrShortWrite)
	case errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe), errors.Is(err, os.ErrClosed):
		err = fmt.Errorf("ndjson: nobody reads the output any more: %w: %w", rigatoni.ErrDestinationClosed, err)
	case err != nil:
		err = fmt.Errorf("ndjson: %w", err)
	}
	return n, err
}

// Sync finishes a torn line, and flushes as far as the writer can: a Flush
// method (bufio.Writer) and then a Sync method (os.File) are called. A pipe and a
// terminal have nothing to flush. It returns no document.
//
// After an error the stream goes back to its checkpoint, and all that a flush
// may have lost is redelivered.
func (d *Writer) Sync(ctx context.Context) (json.RawMessage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := d.finishTorn(); err != nil {
		return nil, err
	}
	if f, ok := d.w.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return nil, fmt.Errorf("ndjson: flushing the output: %w", err)
		}
	}
	if f, ok := d.w.(interface{ Sync() error }); ok && d.isDurable() {
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("ndjson: flushing the output: %w", err)
		}
	}
	return nil, nil
}

// isDurable reports whether flushing means something: fsync of a pipe or a terminal
// is an error.
func (d *Writer) isDurable() bool {
	f, ok := d.w.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return true
	}
	info, err := f.Stat()
	return err != nil || info.Mode().IsRegular()
}
