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
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// A stream writes the files of one stream. Its calls come one at a time, as
// rigatoni.Destination has it.
type stream struct {
	d    *Files
	log  *slog.Logger
	buf  []byte
	next fileName // of the next file

	cur        *output         // the file being written; nil before the first event and after a rotation
	last       position        // the end of what has been written; not flushed before Sync has returned
	saved      json.RawMessage // what to return while nothing has been written
	newEntries bool            // files were created since the directory was flushed
	failed     error           // only going back to the checkpoint helps; see fail
	closed     bool
}

// An output is a file being written.
type output struct {
	file
	name  string
	size  int64 // up to the end of the last whole line
	dirty bool  // something has not been flushed
	sure  int64 // so many bytes have been flushed
	since time.Time
}

var (
	_ rigatoni.Syncer = (*stream)(nil)
	_ io.Closer       = (*stream)(nil)
)

// Deliver writes a line for each event. After an error, whole lines are there
// for the events that [rigatoni.Partial] counts, and nothing of the others.
func (s *stream) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	if s.closed {
		return rigatoni.Permanent(errClosed)
	}
	if s.cur != nil && s.tooOld() {
		s.rotate()
	}
	l := lines{mode: s.d.o.mode(), buf: s.buf[:0], limit: s.room}
	l.write = func(p []byte) (int, error) { return 0, s.write(ctx, p) }
	err := l.deliver(b.Events)
	s.buf = l.rest()
	return err
}

var errClosed = fmt.Errorf("ndjson: the stream's destination is closed: %w", os.ErrClosed)

// room is how much may be written at once: what is left in the file, or what
// fits into a new one if the lines held back already don't fit into this one.
func (s *stream) room(held int) int {
	room := s.d.o.MaxFileBytes
	if room < 0 {
		return chunkBytes
	}
	if s.cur != nil && s.cur.size+int64(held) <= room {
		room -= s.cur.size
	}
	return int(min(room, chunkBytes))
}

// write appends whole lines to the file, or to a new one if they don't fit. If
// the error is not nil, nothing of them is left.
func (s *stream) write(ctx context.Context, p []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if limit := s.d.o.MaxFileBytes; s.cur != nil && limit > 0 && s.cur.size > 0 && s.cur.size+int64(len(p)) > limit {
		s.rotate()
	}
	if s.failed != nil {
		return nil // see fail
	}
	if s.cur == nil {
		if err := s.create(); err != nil {
			return fmt.Errorf("ndjson: %w", err)
		}
	}
	n, err := s.cur.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.takeBack(int64(len(p)))
		return fmt.Errorf("ndjson: %w", err)
	}
	s.cur.size += int64(n)
	s.cur.dirty = true
	s.last = position{File: s.cur.name, Size: s.cur.size}
	return nil
}

// create begins a file. A number that is taken already (without a lease,
// somebody else may write too) is passed over.
func (s *stream) create() error {
	for {
		name := s.next.String()
		f, err := s.d.fs.create(filepath.Join(s.d.dir, name))
		s.next.number++
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			s.next.number--
			return err
		}
		s.cur = &output{file: f, name: name, since: time.Now()}
		s.newEntries = true
		return nil
	}
}

// takeBack removes what a failed write of at most n bytes has left. If it can't,
// the file is not written to again, so that the torn line stays its last, and
// the next Attach cuts it off.
func (s *stream) takeBack(n int64) {
	info, err := s.cur.Stat()
	switch {
	case err != nil:
	case info.Size() == s.cur.size:
		return
	case info.Size() < s.cur.size || info.Size() > s.cur.size+n:
		err = fmt.Errorf("it has %d bytes where %d were written", info.Size(), s.cur.size)
	default:
		if err = s.cur.Truncate(s.cur.size); err == nil {
			s.cur.dirty = true
			return
		}
	}
	s.fail(fmt.Errorf("ndjson: the end of %s is torn, and could not be cut off: %w", s.cur.name, err))
}

// fail gives the file up: what was written since the last Sync may be lost, and
// only going back to the checkpoint mends that. The pipeline learns it from
// Sync. Until then Deliver writes nothing more, since all of it comes again;
// and if it wrote into another file, a power cut could leave later events
// there without the earlier ones here.
func (s *stream) fail(err error) {
	s.failed = err
	s.log.Error("ndjson: what was written since the last checkpoint may be lost, and is written again", "err", err)
	if s.cur != nil {
		s.d.doubt(s.cur.name, s.cur.file, s.cur.sure)
		_ = s.cur.Close() // s.failed says it already
		s.cur = nil
	}
}

func (s *stream) tooOld() bool {
	return s.d.o.MaxFileAge > 0 && time.Since(s.cur.since) >= s.d.o.MaxFileAge
}

// rotate ends the file. It is flushed first, and so is its entry in the
// directory: what a power cut leaves of the next file then never lacks what
// came before it, and Sync has but one file to flush.
func (s *stream) rotate() {
	s.flush()
	if s.failed != nil {
		return
	}
	err := s.cur.Close()
	s.cur = nil
	if err != nil {
		s.fail(fmt.Errorf("ndjson: closing %s: %w", s.last.File, err))
	}
}

// flush flushes the file, and the directory if it has new files.
func (s *stream) flush() {
	if s.cur != nil && s.cur.dirty {
		if err := s.cur.Sync(); err != nil {
			s.fail(fmt.Errorf("ndjson: flushing %s: %w", s.cur.name, err))
			return
		}
		s.cur.dirty, s.cur.sure = false, s.cur.size
	}
	if s.newEntries {
		if err := s.d.fs.syncDir(s.d.dir); err != nil {
			s.fail(fmt.Errorf("ndjson: flushing %s: %w", s.d.dir, err))
			return
		}
		s.newEntries = false
	}
}

// Sync flushes what was delivered, and the directory if it has new files, and
// returns the place of its end. Once it has failed it fails for good, because a
// second flush may report success without it being true.
func (s *stream) Sync(ctx context.Context) (json.RawMessage, error) {
	if s.closed {
		return nil, errClosed
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.failed == nil {
		s.flush()
	}
	if s.failed == nil && s.cur != nil && s.tooOld() {
		s.rotate()
	}
	if s.failed != nil {
		return nil, s.failed
	}
	if s.last.File == "" {
		return s.saved, nil
	}
	return json.Marshal(s.last)
}

// Close closes the file. It does not flush: that is Sync's, and what was not
// flushed comes again. A second Close is nil.
func (s *stream) Close() error {
	s.closed = true
	if s.cur == nil {
		return nil
	}
	err := s.cur.Close()
	s.cur = nil
	if err != nil {
		return fmt.Errorf("ndjson: %w", err)
	}
	return nil
}
