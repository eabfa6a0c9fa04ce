package ndjson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"
)

// room is how much may be written at once: what is left in the file, or what
// fits into a new one if the lines held back already don't fit into this one.
func (s *sink) room(held int) int {
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
func (s *sink) write(ctx context.Context, p []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if limit := s.d.o.MaxFileBytes; s.cur != nil && limit > 0 && s.cur.size > 0 && s.cur.size+int64(len(p)) > limit {
		s.endFile()
	}
	if s.failed != nil {
		return nil // see fail
	}
	if s.cur == nil {
		if err := s.create(); isGone(err) {
			s.fail(fmt.Errorf("ndjson: the output directory was removed or moved: %w", err))
			return nil
		} else if err != nil {
			return fmt.Errorf("ndjson: %w", err)
		}
	}
	if err := s.cur.checkSize(); err != nil {
		s.fail(err) // behind what somebody else has cut or written, nothing is in its place
		return nil
	}
	n, err := s.cur.file.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.takeBack(int64(len(p)))
		return fmt.Errorf("ndjson: %w", err)
	}
	s.cur.size += int64(n)
	s.cur.dirty = true
	if n := s.cur.size - s.cur.begun; n >= flushBytes {
		s.cur.file.startFlush(s.cur.begun, n)
		s.cur.begun = s.cur.size
	}
	if s.end.name != s.cur.name {
		s.end = extent{name: s.cur.name, ordinal: s.end.ordinal + 1}
	}
	s.end.size = s.cur.size
	return nil
}

func (s *sink) path(n fileName) string { return filepath.Join(s.d.dir, n.open()) }

// create begins a file. A number that is taken already (without a lease,
// somebody else may write too) is skipped.
func (s *sink) create() error {
	for {
		if s.number > maxNumber {
			n, err := s.d.claim(s.stem, s.owned.generation+1)
			if err != nil {
				return err
			}
			s.owned.generation, s.number = n, 1
		}
		name := fileName{s.stem, s.owned.generation, s.number}
		f, err := s.d.fs.create(s.path(name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		s.number++
		if err != nil {
			continue
		}
		s.cur = &output{file: f, name: name, since: time.Now()}
		s.newEntries = true
		s.startTimer()
		return nil
	}
}

func (s *sink) startTimer() {
	switch age := s.d.o.MaxFileAge; {
	case age < 0:
	case s.timer == nil:
		s.timer = time.AfterFunc(age, s.aged)
	default:
		s.timer.Reset(age)
	}
}

// inherit begins the session with a file whose first bytes are a copy. end is the
// extent that they stood for, and old the file that they come from.
func (s *sink) inherit(ctx context.Context, r io.Reader, end extent, old string) error {
	if err := s.create(); err != nil {
		return err
	}
	buf := make([]byte, chunkBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if err == io.EOF || ctx.Err() != nil {
			break
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if _, err := s.cur.file.Write(buf[:n]); err != nil {
			return err
		}
		s.cur.size += int64(n)
	}
	s.cur.dirty = true
	s.end = extent{s.cur.name, s.cur.size, end.ordinal}
	s.inherited, s.copy = old, s.cur.name
	return context.Cause(ctx)
}

// takeBack removes what a failed write of at most n bytes has left. If it can't,
// the file is not written to again, so that the torn line stays its last, and
// the next session cuts it off.
func (s *sink) takeBack(n int64) {
	info, err := s.cur.file.Stat()
	switch {
	case err != nil:
	case info.Size() == s.cur.size:
		return
	case info.Size() < s.cur.size || info.Size() > s.cur.size+n:
		err = fmt.Errorf("it has %d bytes where %d were written", info.Size(), s.cur.size)
	default:
		if err = s.cur.file.Truncate(s.cur.size); err == nil {
			s.cur.dirty = true
			return
		}
	}
	s.fail(fmt.Errorf("ndjson: the end of %s is torn, and could not be cut off: %w", s.cur.name.open(), err))
}

// fail gives the session up: what was written since the last Sync may be lost, and
// only going back to the checkpoint mends that. The pipeline learns it from Sync or
// Committed. Until then Deliver writes nothing more, since all of it is redelivered.
func (s *sink) fail(err error) {
	s.failed = err
	s.log.Error("output since the last checkpoint may be lost; going back to the checkpoint", "err", err)
	if s.cur != nil {
		_ = s.cur.file.Close() // s.failed says it already
		s.cur = nil
	}
}

func (s *sink) isOld() bool {
	return s.d.o.MaxFileAge > 0 && time.Since(s.cur.since) >= s.d.o.MaxFileAge
}

// isCovered reports whether a checkpoint that was saved covers all that was written.
func (s *sink) isCovered() bool {
	return s.cur.size > 0 && !s.cur.dirty && s.end == s.sure
}

// endFile ends the file. It is flushed first, and so is its entry in the directory:
// what a power cut leaves of the next file then never lacks what came before it,
// and Sync has only one file to flush.
func (s *sink) endFile() {
	s.flush()
	if s.failed != nil || s.cur.size == 0 {
		return
	}
	if s.verifyCurrent(); s.failed != nil { // once it is closed, nothing could be restored
		return
	}
	cur := s.cur
	info, err := cur.file.Stat()
	s.cur = nil
	if err = errors.Join(err, cur.file.Close()); err != nil {
		s.fail(fmt.Errorf("ndjson: closing %s: %w", cur.name.open(), err))
		return
	}
	s.ended = append(s.ended, endedFile{s.end, s.at, info})
}

// flush flushes the file, and the directory if it has new files.
func (s *sink) flush() {
	if s.cur != nil && s.cur.dirty {
		if err := s.cur.file.Sync(); err != nil {
			s.fail(fmt.Errorf("ndjson: flushing %s: %w", s.cur.name.open(), err))
			return
		}
		s.cur.dirty = false
	}
	if s.newEntries {
		if err := s.d.fs.syncDir(s.d.dir); err != nil {
			s.fail(fmt.Errorf("ndjson: flushing %s: %w", s.d.dir, err))
			return
		}
		s.newEntries = false
	}
}

// finish gives the files their final names that have ended and are covered. The
// marker is written before, and the directory flushed after that: until then the
// next checkpoint still names them.
func (s *sink) finish() {
	n := 0
	for n < len(s.ended) && s.ended[n].compare(s.sure) <= 0 {
		n++
	}
	if err := s.finishFiles(s.ended[:n]); err != nil {
		s.fail(fmt.Errorf("ndjson: finishing files: %w", err))
		return
	}
	s.ended = s.ended[n:]
	if s.inherited == "" || s.sure.name.compare(s.copy) < 0 {
		return
	}
	if err := s.d.fs.remove(s.inherited); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.fail(fmt.Errorf("ndjson: %w", err))
		return
	}
	s.inherited = ""
}

func (s *sink) finishFiles(files []endedFile) error {
	if len(files) == 0 {
		return nil
	}
	for _, e := range files {
		if err := s.checkEnded(e); err != nil {
			return err
		}
	}
	last := files[len(files)-1]
	m := marker{File: last.name.String(), Size: last.size, Ordinal: last.ordinal, ClusterTime: last.at}
	if err := s.d.writeMarker(s.stem, s.owned, m); err != nil {
		return err
	}
	if err := s.d.removeMarkers(s.stem, s.obsolete); err != nil {
		return err
	}
	s.obsolete = nil
	for _, e := range files {
		if err := s.d.finish(e.name.open(), e.name); err != nil {
			return err
		}
	}
	return s.d.fs.syncDir(s.d.dir)
}
