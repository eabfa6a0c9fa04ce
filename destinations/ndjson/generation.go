package ndjson

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

// An ownership is what a process knows of a stream's output under one fence, whatever
// becomes of the directory meanwhile.
//
// Its generation is the first number in the names of its files. It is the epoch of the
// fence, as long as that is beyond all that the directory knows of. But an epoch can go
// back: the store was restored from a backup, or lost, or the checkpoint was moved to
// another one. Names must not, since readers sort by them, so the generation is then the
// next after the highest. That is remembered by files, markers and claims: consumers take
// the finished files away, and nothing else.
//
// A claim is an empty file that is created for a generation, exclusively. No two owners
// have the same one, not even where an owner of the time before the restored backup is
// still there, frozen.
type ownership struct {
	fence      state.Fence
	generation uint64
	marker     *marker // the last one that was read or written
	lost       *output // was removed or replaced while it was written; see sink.lose
}

const claimSuffix = ".owner"

func claimName(stem string, generation uint64) string {
	return fmt.Sprintf(".%s-%010d%s", stem, generation, claimSuffix)
}

// parseHidden returns the generation in the name of a hidden file of the stem, which
// name returns.
func parseHidden(base, stem, suffix string, name func(stem string, generation uint64) string) (generation uint64, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(base, suffix), "."+stem+"-")
	if !ok {
		return 0, false
	}
	generation, err := strconv.ParseUint(rest, 10, 64)
	return generation, err == nil && name(stem, generation) == base
}

// claim creates the claim of a generation, from n on, that nobody has or had. The claims
// below that of a new owner are removed, so the directory is read again: where there is
// something higher, this one may have been another's.
func (d *Files) claim(stem string, n uint64) (generation uint64, err error) {
	for {
		f, err := d.fs.create(filepath.Join(d.dir, claimName(stem, n)))
		if errors.Is(err, fs.ErrExist) {
			n++
			continue
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return 0, err
		}
		l, err := list(d.dir, stem)
		if err != nil || l.top() == n {
			return n, err
		}
		if err := d.unclaim(stem, n); err != nil {
			return 0, err
		}
		n = l.top() + 1
	}
}

func (d *Files) unclaim(stem string, n uint64) error {
	err := d.fs.remove(filepath.Join(d.dir, claimName(stem, n)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// own sees to it that the recovery has a generation. Nothing is changed in the
// directory before that.
func (r *recovery) own() error {
	if r.owned != nil {
		return nil
	}
	owned := &ownership{fence: r.o.Fence, marker: r.marker}
	top := r.top()
	if r.o.Fence.IsZero() {
		owned.generation = top // names go on by their numbers: nothing keeps owners apart
	} else {
		next := r.o.Fence.Epoch
		if next <= top {
			next = top + 1
			r.log.Info("the epoch of the lease has been used in this directory before; names of files continue after the last one",
				"epoch", r.o.Fence.Epoch, "last", top, "dir", r.d.dir)
		}
		var err error
		if owned.generation, err = r.d.claim(r.stem, next); err != nil {
			return fmt.Errorf("the output directory %s can't be written: %w", r.d.dir, err)
		}
	}
	r.owned = owned
	r.d.setOwnership(r.stem, owned)
	for _, n := range r.listing.claims {
		if n >= owned.generation {
			continue
		}
		if err := r.d.unclaim(r.stem, n); err != nil {
			return err
		}
	}
	return nil
}

// top is the highest generation that is known.
func (r *recovery) top() uint64 {
	top := max(r.listing.top(), endOf(r.covered).name.generation)
	if r.marker != nil {
		top = max(top, r.marker.extent().name.generation)
	}
	return top
}

// isLater reports whether a generation may be that of a newer owner than this one,
// which may itself have been frozen and replaced. Generations up to the checkpoint's
// are not, and where the epoch did not go back, the order of epochs says it. Elsewhere
// it can't be known.
func (r *recovery) isLater(generation uint64) bool {
	settled := endOf(r.covered).name.generation
	if mine := r.owned.generation; mine == r.o.Fence.Epoch || r.o.Fence.IsZero() {
		settled = max(settled, mine)
	}
	return generation > settled && generation != r.owned.generation
}

// ownership returns what is known from earlier sessions under the same fence, or nil.
func (d *Files) ownership(stem string, f state.Fence) *ownership {
	d.mu.Lock()
	defer d.mu.Unlock()
	if owned := d.owned[stem]; owned != nil && owned.fence == f {
		return owned
	}
	return nil
}

func (d *Files) setOwnership(stem string, owned *ownership) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.owned[stem]; before != nil && before.lost != nil {
		_ = before.lost.file.Close() // nobody asks for it any more
	}
	if d.owned == nil {
		d.owned = map[string]*ownership{}
	}
	d.owned[stem] = owned
}

// top is the highest generation of the files, and of the hidden ones.
func (l *listing) top() (top uint64) {
	for n := range l.finished {
		top = max(top, n.generation)
	}
	for _, f := range l.open {
		top = max(top, f.name.generation, f.claim())
	}
	for _, n := range slices.Concat(l.markers, l.claims) {
		top = max(top, n)
	}
	return top
}
