package ndjson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A recovery brings the output to exactly what the checkpoint covers, before a
// session writes anything. Each step can be interrupted, and repeated by the next
// owner.
//
// The process that wrote the open files may still be there, frozen, and go on
// writing into the files that it has open, or give a covered file its final name
// (it knew the same checkpoint). Two rules make that harmless:
//
//   - An open file becomes another by one rename, and whoever comes second finds
//     that the file is gone, and looks again. So no file gets its final name twice.
//   - A file that a living process may have open never gets its final name: the
//     part that is covered is copied into a new file. See claim.
type recovery struct {
	d    *Files
	o    rigatoni.Opening
	stem string
	log  *slog.Logger

	listing  *listing
	marker   *marker
	covered  []extent // by the checkpoint, that may not have their final names; the last is the end
	accepted error    // what the operator has accepted, if anything

	owned *ownership // nil in the first session under a fence, until nothing is refused
}

// errMoved: a covered file has another name since the directory was listed. Its
// writer has finished it, or another owner, frozen since, has claimed it.
var errMoved = errors.New("an open file was renamed meanwhile")

func moved(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errMoved, err)
	}
	return err
}

// run does it. s is the sink of the session, which takes over what is copied.
func (r *recovery) run(ctx context.Context, s *sink) error {
	if errors.Is(r.accepted, rigatoni.ErrOutputExists) {
		return r.adopt(ctx)
	}
	ready, copied, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if err := r.finish(ready, copied.name.stem != ""); err != nil {
		return err
	}
	if err := r.removeUncovered(ctx); err != nil {
		return err
	}
	if copied.name.stem != "" {
		if err := r.inherit(ctx, s, copied); err != nil {
			return err
		}
	}
	return r.d.fs.syncDir(r.d.dir)
}

// prepare cuts the covered files back, and returns those that may be finished,
// and the one that has to be copied, if any.
func (r *recovery) prepare(ctx context.Context) (ready []openFile, copied openFile, err error) {
	for i, e := range r.covered {
		if ctx.Err() != nil {
			return nil, copied, context.Cause(ctx)
		}
		f, ok := r.listing.find(e.name)
		if !ok {
			continue // it has its final name
		}
		last := i == len(r.covered)-1
		if !last && f.size == e.size && f.claim() == 0 {
			ready = append(ready, f) // its writer has closed it, and flushed it
			continue
		}
		f.size = min(e.size, f.size) // it is smaller only if the operator accepts that
		switch sound, err := r.cut(&f); {
		case err != nil:
			return nil, copied, moved(err)
		case sound:
			ready = append(ready, f)
		case last:
			copied = f
		default:
			return nil, copied, fmt.Errorf("%s has more than the checkpoint covers, and another process may write to it", f.base)
		}
	}
	return ready, copied, nil
}

// cut cuts a file back to the size that is covered, durably. It reports false if
// the file can't be finished, because a living process may have it open, or a newer
// owner than this one have copied it.
func (r *recovery) cut(f *openFile) (sound bool, err error) {
	path := filepath.Join(r.d.dir, f.base)
	h, used, err := r.d.fs.open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if used == taken && r.o.Fence.IsZero() {
		return false, fmt.Errorf("another process writes to %s; without a lease, two pipelines of one name can't be kept apart", path)
	}
	if errors.Is(r.accepted, ErrOutputMissing) {
		if f.size, err = wholeLines(io.NewSectionReader(h, 0, f.size)); err != nil {
			return false, err
		}
	}
	if used != free || r.isLater(f.claim()) {
		return false, nil
	}
	info, err := h.Stat()
	if err != nil {
		return false, err
	}
	if cut := info.Size() - f.size; cut > 0 {
		if err := h.Truncate(f.size); err != nil {
			return false, fmt.Errorf("cutting %s: %w", f.base, err)
		}
		r.log.Info("output cut back to the checkpoint", "file", f.name.String(), "size", f.size, "bytes_removed", cut)
	}
	if err := h.Sync(); err != nil {
		return false, fmt.Errorf("flushing %s: %w", f.base, err)
	}
	return true, nil
}

// finish gives the files that are ready their final names. copied reports whether
// the last covered file is not among the finished ones.
func (r *recovery) finish(ready []openFile, copied bool) error {
	at := r.o.ClusterTime
	if copied {
		at = r.clusterTime() // the checkpoint's is of more than what is finished
	}
	if err := r.mark(r.finishedExtent(copied), at); err != nil {
		return err
	}
	for _, f := range ready {
		if err := r.finishFile(f); err != nil {
			return moved(err)
		}
	}
	return nil
}

// finishFile gives a file its final name, unless nothing is left of it: consumers
// get no empty file.
func (r *recovery) finishFile(f openFile) error {
	if f.size == 0 {
		return r.d.fs.remove(filepath.Join(r.d.dir, f.base))
	}
	return r.d.finish(f.base, f.name)
}

// clusterTime is that of the finished output, zero if it is not known.
func (r *recovery) clusterTime() (at bson.Timestamp) {
	if r.marker != nil {
		at = r.marker.ClusterTime
	}
	return at
}

// mark sees to it that the marker says that files are finished up to m, which is
// at the cluster time at or later, before they are.
func (r *recovery) mark(m extent, at bson.Timestamp) error {
	if r.marker != nil && r.marker.extent().compare(m) >= 0 {
		return nil
	}
	r.marker = &marker{Size: m.size, Ordinal: m.ordinal, ClusterTime: at}
	if m.name.stem != "" {
		r.marker.File = m.name.String()
	}
	return r.d.writeMarker(r.stem, r.owned, *r.marker)
}

// finishedExtent is how far the output is finished by this recovery.
func (r *recovery) finishedExtent(copied bool) extent {
	n := len(r.covered)
	switch {
	case !copied:
		return endOf(r.covered)
	case n > 1:
		return r.covered[n-2]
	}
	return extent{ordinal: r.covered[0].ordinal - 1}
}

// removeUncovered removes the open files that the checkpoint does not cover:
// their events are redelivered. Those that may be a newer owner's are left: the first
// start with a later checkpoint removes them.
func (r *recovery) removeUncovered(ctx context.Context) error {
	for _, f := range r.listing.open {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.covers(f.name) {
			continue
		}
		if r.isLater(f.name.generation) || r.isLater(f.claim()) {
			r.log.Info("an unfinished file that may be a newer owner's is left as it is", "file", f.base)
			continue
		}
		if err := r.removeFile(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *recovery) removeFile(f openFile) error {
	path := filepath.Join(r.d.dir, f.base)
	if r.o.Fence.IsZero() { // nothing else keeps two owners apart
		h, used, err := r.d.fs.open(path)
		if err != nil {
			return err
		}
		defer h.Close()
		if used == taken {
			return fmt.Errorf("another process writes to %s; without a lease, two pipelines of one name can't be kept apart", path)
		}
	}
	r.log.Info("removed output that the checkpoint does not cover", "file", f.base, "bytes_removed", f.size)
	return r.d.fs.remove(path)
}

func (r *recovery) covers(n fileName) bool {
	for _, e := range r.covered {
		if e.name == n {
			return true
		}
	}
	return false
}

// inherit copies the covered part of a file, whose writer may be alive, into the
// first file of the session. The file is renamed before that: from then on its
// writer can't give it its final name. It is removed once a checkpoint covers the
// copy.
func (r *recovery) inherit(ctx context.Context, s *sink, f openFile) error {
	old, claimed := filepath.Join(r.d.dir, f.base), filepath.Join(r.d.dir, f.name.claimed(r.owned.generation))
	if err := r.d.fs.rename(old, claimed); err != nil {
		return moved(err)
	}
	r.log.Warn("the process that wrote a file may still have it open; the part that the checkpoint covers is copied", "file", f.name.String(), "bytes", f.size)
	h, _, err := r.d.fs.open(claimed)
	if err != nil {
		return moved(err)
	}
	defer h.Close()
	end := endOf(r.covered)
	if errors.Is(r.accepted, ErrOutputMissing) {
		end.ordinal++ // the marker says that the file is done with, at its whole size
	}
	return s.inherit(ctx, io.NewSectionReader(h, 0, f.size), end, claimed)
}

// adopt finishes what another pipeline's life has left, where the operator
// accepts output without a checkpoint: whole lines, as many as there are. No
// checkpoint knows of them, and removing them could lose events.
func (r *recovery) adopt(ctx context.Context) error {
	for _, f := range r.listing.open {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.adoptFile(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.d.fs.syncDir(r.d.dir)
}

func (r *recovery) adoptFile(f openFile) error {
	path := filepath.Join(r.d.dir, f.base)
	size, used, err := r.cutToLines(path, f)
	switch {
	case err != nil:
		return err
	case used == taken:
		r.log.Warn("a file that another process may write to is left as it is", "file", f.base)
		return nil
	case size == 0:
		return r.d.fs.remove(path)
	}
	return r.d.finish(f.base, f.name)
}

// cutToLines cuts a file back to its whole lines, durably, if nobody writes to it.
func (r *recovery) cutToLines(path string, f openFile) (size int64, used use, err error) {
	h, used, err := r.d.fs.open(path)
	if err != nil {
		return 0, used, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if used == taken {
		return 0, used, nil
	}
	if size, err = wholeLines(io.NewSectionReader(h, 0, f.size)); err != nil {
		return 0, used, fmt.Errorf("reading %s: %w", f.base, err)
	}
	if err := h.Truncate(size); err != nil {
		return 0, used, fmt.Errorf("cutting %s: %w", f.base, err)
	}
	if err := h.Sync(); err != nil {
		return 0, used, fmt.Errorf("flushing %s: %w", f.base, err)
	}
	return size, used, nil
}

// restore writes a file again that was removed or replaced while this process wrote
// it, as far as the checkpoint covers it: the process still has it open.
func (r *recovery) restore() error {
	if r.owned == nil || r.owned.lost == nil {
		return nil
	}
	lost, end := r.owned.lost, endOf(r.covered)
	if lost.name == end.name && lost.size >= end.size && !r.isFinished(end) && r.isAway(lost) {
		if err := r.copyBack(lost, end.size); err != nil {
			return err
		}
		r.log.Warn("output was removed or replaced while it was written; the part that the checkpoint covers is written again", "file", lost.name.open(), "bytes", end.size)
		i := slices.IndexFunc(r.listing.open, func(f openFile) bool { return f.name == lost.name })
		if i < 0 {
			i = len(r.listing.open)
			r.listing.open = append(r.listing.open, openFile{})
		}
		r.listing.open[i] = openFile{lost.name, lost.name.open(), end.size}
	}
	r.owned.lost = nil
	return lost.file.Close()
}

// isAway reports whether a file is in the directory under none of its names. Another
// file in its place doesn't count.
func (r *recovery) isAway(lost *output) bool {
	if _, finished := r.listing.finished[lost.name]; finished {
		return false
	}
	f, open := r.listing.find(lost.name)
	if !open {
		return true
	}
	mine, err := lost.file.Stat()
	if err != nil || f.claim() > 0 {
		return false
	}
	_, err = same(filepath.Join(r.d.dir, f.base), mine)
	return err != nil
}

func (r *recovery) copyBack(lost *output, size int64) error {
	path := filepath.Join(r.d.dir, lost.name.open())
	return r.d.replace(path, io.NewSectionReader(lost.file, 0, size))
}

// isFinished reports whether the marker says that a file was finished.
func (r *recovery) isFinished(e extent) bool {
	return r.marker != nil && r.marker.extent().compare(e) >= 0
}

// finish gives a file its final name.
func (d *Files) finish(base string, n fileName) error {
	return d.fs.rename(filepath.Join(d.dir, base), filepath.Join(d.dir, n.String()))
}
