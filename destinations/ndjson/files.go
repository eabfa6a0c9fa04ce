package ndjson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/rigatoni-etl/rigatoni"
)

// Files is the destination that writes to files, one after the other for each
// stream. The pipeline attaches it to each stream, and different streams write
// concurrently. Only an attached destination delivers.
type Files struct {
	dir string
	o   Options
	fs  fileSystem

	doubts sync.Map // name of a file → offset (int64); see doubt
}

var _ rigatoni.Destination = (*Files)(nil)

// position is the end of what has been flushed, as a checkpoint keeps it.
type position struct {
	File string `json:"file"`
	Size int64  `json:"size"`
}

// Open prepares the directory for a stream: it creates it if need be, cuts off
// what a crash left torn behind the checkpoint, and returns the stream's
// destination, which is also a [rigatoni.Syncer] and an [io.Closer]. It writes
// to files that it creates itself.
//
// If a.FirstStart is set and a.AcceptAnyOutput is not and there is output of a.Key, the error is
// [rigatoni.ErrOutputExists]. Files of a later epoch than a.Fence.Epoch are never
// touched: they are a newer owner's.
func (d *Files) Open(ctx context.Context, a rigatoni.Opening) (rigatoni.Sink, error) {
	s, err := d.attach(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("ndjson: %w", err)
	}
	return s, nil
}

func (d *Files) attach(ctx context.Context, a rigatoni.Opening) (*stream, error) {
	if a.Key == "" {
		return nil, errors.New("the attachment has no key to name files after")
	}
	if err := mkdir(d.fs, d.dir); err != nil {
		return nil, err
	}
	stem := stemOf(a.Key)
	sizes, err := listFiles(d.dir, stem)
	if err != nil {
		return nil, err
	}
	if len(sizes) == 0 {
		// The directory may be new: a life that was killed before it flushed the
		// entry leaves it looking old.
		if err := d.fs.syncDir(filepath.Dir(d.dir)); err != nil {
			return nil, err
		}
	}
	if err := d.refuseOutput(a, sizes); err != nil {
		return nil, err
	}
	s := &stream{d: d, log: d.o.Logger.With("key", a.Key), saved: a.Saved}
	s.next = fileName{stem: stem, epoch: a.Fence.Epoch, number: 1}
	saved, savedName := s.readSaved(a.Saved)
	if err := s.checkSynced(saved, savedName, sizes); err != nil {
		return nil, err
	}
	for n := range sizes {
		s.skipNumber(n)
	}
	s.skipNumber(savedName)
	if err := s.mend(ctx, tailOf(sizes, savedName, a.Fence.Epoch), saved); err != nil {
		return nil, err
	}
	return s, nil
}

// refuseOutput refuses a first start where there is output already.
func (d *Files) refuseOutput(a rigatoni.Opening, sizes map[fileName]int64) error {
	var found []fileName
	for n, size := range sizes {
		if size > 0 {
			found = append(found, n)
		}
	}
	if !a.FirstStart || a.AcceptAnyOutput || len(found) == 0 {
		return nil
	}
	slices.SortFunc(found, fileName.compare)
	return fmt.Errorf("%w: in %s there are %d files of %q, the last one %s; restore the checkpoint, or write to another directory, or accept the output that is there (FirstStart.AcceptOutput)",
		rigatoni.ErrOutputExists, d.dir, len(found), a.Key, found[len(found)-1])
}

// readSaved reads what Sync returned once. What it can't read, or what is about
// another key, was another destination's: nothing is known then, and all files
// count as not flushed.
func (s *stream) readSaved(doc json.RawMessage) (position, fileName) {
	if doc == nil {
		return position{}, fileName{}
	}
	var p position
	err := json.Unmarshal(doc, &p)
	n, ok := parseName(p.File)
	if err != nil || !ok || n.stem != s.next.stem || p.Size < 0 {
		s.log.Warn("ndjson: the checkpoint's place in the output is not one of this destination; all files are looked through")
		s.saved = nil
		return position{}, fileName{}
	}
	return p, n
}

// checkSynced refuses a file that has lost what was flushed. That a file is no
// longer there is usual: consumers take finished ones.
func (s *stream) checkSynced(saved position, n fileName, sizes map[fileName]int64) error {
	size, ok := sizes[n]
	if ok && size < saved.Size {
		return fmt.Errorf("%s has %d bytes, but %d were flushed before the checkpoint was saved: events are missing from it; restore the file, or set the checkpoint back, or move the file away to go on without them",
			filepath.Join(s.d.dir, saved.File), size, saved.Size)
	}
	return nil
}

// skipNumber sees to it that the next file's number is after that of n.
func (s *stream) skipNumber(n fileName) {
	if n.epoch == s.next.epoch && n.number >= s.next.number {
		s.next.number = n.number + 1
	}
}

// tailOf are the files that may hold lines which were never flushed, in order:
// the one that the checkpoint names, and those after it, but none of a later
// epoch.
//
// A checkpoint that names a later epoch comes from a store that has lost its
// epochs or was replaced. The order of names says little then, and all the files
// of the present epochs are looked at too.
func tailOf(sizes map[fileName]int64, saved fileName, epoch uint64) []fileName {
	restarted := saved.epoch > epoch
	var tail []fileName
	for n := range sizes {
		behind := n.compare(saved) >= 0
		if restarted && (behind || n.epoch <= epoch) || behind && n.epoch <= epoch {
			tail = append(tail, n)
		}
	}
	slices.SortFunc(tail, fileName.compare)
	return tail
}

// mend cuts off what is torn in the files of the tail, and flushes what stays.
func (s *stream) mend(ctx context.Context, tail []fileName, saved position) error {
	for _, n := range tail {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		from := int64(0)
		if n.String() == saved.File {
			from = saved.Size
		}
		size, cut, err := s.d.mendFile(n.String(), from)
		switch {
		case errors.Is(err, errInUse):
			s.log.Warn("ndjson: a file is left as it is, because another process writes to it", "file", n.String())
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // a consumer has just taken it
		case err != nil:
			return err
		case cut > 0:
			s.log.Warn("ndjson: cut off what a crash had left torn", "file", n.String(), "at", size, "bytes", cut)
		}
		s.last = position{File: n.String(), Size: size}
	}
	if len(tail) == 0 {
		return nil
	}
	return s.d.fs.syncDir(s.d.dir)
}
