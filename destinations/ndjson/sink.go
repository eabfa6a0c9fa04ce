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
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A sink writes the files of one session of a stream.
//
// A file has the suffix .partial while it is written, and after it has ended until
// Committed is called for a checkpoint that covers all of it: only then it gets its
// final name. Nothing else that a process believes does that, since it may have been
// frozen and replaced; a checkpoint is saved under its fence.
type sink struct {
	d     *Files
	dir   fs.FileInfo // the directory, as it was opened
	stem  string
	owned *ownership
	log   *slog.Logger

	mu     sync.Mutex // the calls come one at a time, but for the timer's
	buf    []byte
	number uint64 // of the next file

	cur        *output        // the file being written; nil before the first event and after a file has ended
	ended      []endedFile    // the files that have ended and have no final name, in order
	end        extent         // of what has been written; not flushed before Sync has returned
	sure       extent         // covered by the last checkpoint that is known to be saved
	at         bson.Timestamp // the cluster time at end
	obsolete   []uint64       // generations whose markers this session's first one replaces
	inherited  string         // a file whose covered part was copied into copy: removed once a checkpoint covers that
	copy       fileName
	newEntries bool  // files were created since the directory was flushed
	failed     error // only going back to the checkpoint helps; see fail
	closed     bool
	timer      *time.Timer // for MaxFileAge
}

// An output is a file being written.
type output struct {
	file  file
	name  fileName
	size  int64 // up to the end of the last whole line
	dirty bool  // something has not been flushed
	begun int64 // the kernel was asked to write this much
	since time.Time
}

// An endedFile is closed, and waits for a checkpoint that covers it.
type endedFile struct {
	extent
	at   bson.Timestamp // the cluster time at its end, or before
	info fs.FileInfo
}

var (
	_ rigatoni.Committer = (*sink)(nil)
	_ io.Closer          = (*sink)(nil)
)

func newSink(d *Files, r *recovery) *sink {
	s := &sink{d: d, stem: r.stem, owned: r.owned, log: r.log, number: 1, at: r.o.ClusterTime}
	s.end = endOf(r.covered)
	s.sure = s.end
	s.obsolete = slices.DeleteFunc(slices.Clone(r.listing.markers), func(n uint64) bool { return n == s.owned.generation })
	for n := range r.listing.finished {
		s.skipNumber(n)
	}
	for _, f := range r.listing.open {
		s.skipNumber(f.name)
	}
	s.skipNumber(s.end.name)
	if r.marker != nil {
		s.skipNumber(r.marker.extent().name)
	}
	return s
}

// skipNumber sees to it that the next file's number is after that of n.
func (s *sink) skipNumber(n fileName) {
	if n.generation == s.owned.generation && n.number >= s.number {
		s.number = n.number + 1
	}
}

// Deliver writes a line for each event. After an error, whole lines are there
// for the events that [rigatoni.Partial] counts, and nothing of the others.
func (s *sink) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return rigatoni.Permanent(errClosed)
	}
	returned := false
	defer func() {
		if !returned { // it panicked, and what was written is not counted
			s.fail(errors.New("ndjson: a delivery was interrupted"))
		}
	}()
	if s.cur != nil && s.isOld() {
		s.endFile()
	}
	l := lines{mode: s.d.o.Format, buf: s.buf[:0], limit: s.room}
	l.write = func(p []byte) (int, error) { return 0, s.write(ctx, p) }
	err := l.deliver(b.Events)
	s.buf = l.rest()
	if t := b.End.ClusterTime; err == nil && t.T > 0 {
		s.at = t
	}
	returned = true
	return err
}

var errClosed = fmt.Errorf("ndjson: the sink is closed: %w", os.ErrClosed)

// Sync flushes what was delivered, and the directory if it has new files, and
// returns its end. It fails if the files are not there any more. Once it has failed it fails for good, because a second flush
// may report success without it being true.
func (s *sink) Sync(ctx context.Context) (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.failed == nil {
		s.flush()
	}
	if s.failed == nil && s.cur != nil && s.isOld() {
		s.endFile()
	}
	if s.failed == nil {
		s.verify()
	}
	if s.failed != nil {
		return nil, s.failed
	}
	if s.end.ordinal == 0 {
		return nil, nil
	}
	return json.Marshal(savedOf(s.ended, s.end))
}

// Committed gives the files their final names that the checkpoint covers and that
// have ended.
func (s *sink) Committed(ctx context.Context, doc json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.failed != nil {
		return s.failed
	}
	covered, err := parseSaved(doc, s.stem)
	if err != nil {
		return fmt.Errorf("ndjson: what was saved is not what Sync returned: %w", err)
	}
	s.sure = endOf(covered)
	if s.cur != nil && s.isOld() && s.isCovered() {
		s.endFile()
	}
	s.finish()
	return s.failed
}

// aged ends a file that is old while no events come. If no checkpoint covers all
// of it, the next call of Sync and Committed does that.
func (s *sink) aged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.failed != nil || s.cur == nil || !s.isOld() || !s.isCovered() {
		return
	}
	s.endFile()
	s.finish()
}

// Close closes the file, and gives it its final name if a checkpoint covers it, as
// after a clean stop. It does not flush: that is Sync's, and what was not flushed is
// redelivered. A second Close is nil.
func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.failed != nil || s.cur == nil {
		return nil
	}
	if s.isCovered() {
		s.endFile()
		s.finish()
		return s.failed
	}
	if s.isRemoved() {
		s.keep()
		return nil
	}
	cur := s.cur
	s.cur = nil
	if err := cur.file.Close(); err != nil {
		return fmt.Errorf("ndjson: %w", err)
	}
	if cur.size == 0 {
		return s.d.fs.remove(s.path(cur.name))
	}
	return nil
}
