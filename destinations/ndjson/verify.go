package ndjson

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// What is written into a file that was removed goes nowhere, and what is written behind
// a part that somebody has cut off stands in the wrong place. No write reports that. So
// before a checkpoint may cover the files, and before they get their final names, they
// are looked at.

// verify gives the session up if the directory or a file that has no final name yet is
// not what it was.
func (s *sink) verify() {
	if s.verifyCurrent(); s.failed != nil {
		return
	}
	for _, e := range s.ended {
		if err := s.checkEnded(e); err != nil {
			s.fail(fmt.Errorf("ndjson: %w", err))
			return
		}
	}
	info, err := os.Stat(s.d.dir)
	if err == nil && !os.SameFile(info, s.dir) {
		err = errors.New("it is another directory now")
	}
	if err != nil {
		s.fail(fmt.Errorf("ndjson: the output directory %s was removed or replaced: %w", s.d.dir, err))
	}
}

// verifyCurrent looks at the file being written.
func (s *sink) verifyCurrent() {
	if s.cur == nil {
		return
	}
	if err := s.cur.checkSize(); err != nil {
		s.fail(err)
		return
	}
	mine, err := s.cur.file.Stat()
	if err != nil {
		s.fail(fmt.Errorf("ndjson: %w", err))
		return
	}
	if _, err := same(s.path(s.cur.name), mine); err != nil {
		s.lose(err)
	}
}

// checkSize finds that somebody else has written to the file, or cut it.
func (o *output) checkSize() error {
	info, err := o.file.Stat()
	if err == nil && info.Size() != o.size {
		err = fmt.Errorf("it has %d bytes where %d were written; something else changes it", info.Size(), o.size)
	}
	if err != nil {
		return fmt.Errorf("ndjson: %s: %w", o.name.open(), err)
	}
	return nil
}

func (s *sink) checkEnded(e endedFile) error {
	info, err := same(s.path(e.name), e.info)
	if err == nil && info.Size() != e.size {
		err = fmt.Errorf("%s has %d bytes where %d were written; something else changes it", e.name.open(), info.Size(), e.size)
	}
	return err
}

// same returns what path is now, and an error unless it is still that of the file.
func same(path string, mine fs.FileInfo) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("output was removed or moved while the pipeline ran: %w", err)
	}
	if !os.SameFile(info, mine) {
		return nil, fmt.Errorf("output was replaced while the pipeline ran: %s is another file now", path)
	}
	return info, nil
}

// lose gives the session up because the file being written has no name any more.
func (s *sink) lose(err error) {
	s.keep()
	s.fail(fmt.Errorf("ndjson: %w", err))
}

// keep leaves the file open that was removed: what it has can still be read, and the
// next session restores what the checkpoint covers.
func (s *sink) keep() {
	if s.owned.lost != nil {
		_ = s.owned.lost.file.Close()
	}
	s.owned.lost, s.cur = s.cur, nil
}

func (s *sink) isRemoved() bool {
	mine, err := s.cur.file.Stat()
	if err != nil {
		return false
	}
	_, err = same(s.path(s.cur.name), mine)
	return err != nil
}

// isGone reports whether an error of creating a file says that there is no directory.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
