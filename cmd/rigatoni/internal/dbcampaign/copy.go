//go:build unix

package dbcampaign

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// A Copy has the pipeline's first start copy documents that are there already. Two in
// three of the kills and freezes, and of each sequence of disturbances, happen while it
// does.
type Copy struct {
	Before int // changes that are made before the pipeline starts, beside Changes
	After  int // of Changes, those that are held back until the copy has ended
	Size   int // bytes that documents are larger by, so that a copy of few takes its time
	// Progress is how many documents the pipeline's checkpoint says are copied, and
	// whether that is all. Its error may be that of a server in trouble.
	Progress func(context.Context) (documents int, ended bool, err error)
}

func (c *Copy) size() int {
	if c == nil {
		return 0
	}
	return c.Size
}

// A copying is what is known of a copy under way.
type copying struct {
	*Copy
	documents    int // that were there at the start
	copied       atomic.Int64
	ended        atomic.Bool
	trouble      atomic.Pointer[error] // the last of Progress
	kills        int                   // and freezes, while it was under way
	disturbances atomic.Int64
}

// prepare makes the changes that come before the pipeline.
func (r *runner) prepare(ctx context.Context) error {
	w := r.writer
	rate := w.rate
	defer func() { w.rate = rate }()
	w.rate, w.when = 0, Before
	w.give(r.Copy.Before)
	err := w.run(ctx)
	w.when = Meanwhile
	for _, changes := range w.journal {
		if changes[len(changes)-1].Op != "delete" {
			r.copy.documents++
		}
	}
	return err
}

// writeAll makes all changes that come after the pipeline's start.
func (r *runner) writeAll(ctx context.Context) error {
	if r.Copy == nil {
		r.writer.give(r.Changes)
		return r.writer.run(ctx)
	}
	r.writer.give(r.Changes - r.Copy.After)
	if err := r.writer.run(ctx); err != nil {
		return err
	}
	if err := r.await(ctx, r.copy.ended.Load); err != nil {
		if last := r.copy.trouble.Load(); last != nil {
			err = fmt.Errorf("%w; the last progress: %w", err, *last)
		}
		return fmt.Errorf("waiting for the end of the copy, with %d of %d documents copied: %w", r.copy.copied.Load(), r.copy.documents, err)
	}
	r.writer.when = After
	r.writer.give(r.Copy.After)
	return r.writer.run(ctx)
}

// watchCopy notes how far the copy is until it has ended.
func (r *runner) watchCopy(ctx context.Context) error {
	for r.Copy != nil && !r.copy.ended.Load() {
		n, ended, err := r.Copy.Progress(ctx)
		if err != nil {
			r.copy.trouble.Store(&err)
		} else {
			r.copy.copied.Store(int64(n))
			r.copy.ended.Store(ended)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// underWay reports whether the copy is under way.
func (r *runner) underWay() bool { return r.Copy != nil && !r.copy.ended.Load() }

// A moment is when something goes wrong: when that many documents are copied, or when
// that many changes are written.
type moment struct{ copied, written int }

func (m moment) String() string {
	if m.copied > 0 {
		return fmt.Sprintf("%d documents copied", m.copied)
	}
	return fmt.Sprintf("%d changes", m.written)
}

// moments are n moments in their order: one at random in each of equal parts of the
// copy, and of the writing.
func (r *runner) moments(rng *rand.Rand, n int) []moment {
	var all []moment
	if r.Copy != nil {
		copies := (2*n + 2) / 3
		for _, at := range spread(rng, copies, 0.8, r.copy.documents) {
			all = append(all, moment{copied: at + 1})
		}
		n -= copies
	}
	for _, at := range spread(rng, n, 0.95, r.Changes) {
		if r.Copy != nil {
			at += r.Copy.Before
		}
		all = append(all, moment{written: at})
	}
	return all
}

// spread is a number at random in each of n equal parts of most of the total.
func spread(rng *rand.Rand, n int, most float64, total int) []int {
	var at []int
	for i := range n {
		at = append(at, int((float64(i)+rng.Float64())*most/float64(n)*float64(total)))
	}
	slices.Sort(at)
	return at
}

func (r *runner) awaitMoment(ctx context.Context, m moment) error {
	return r.await(ctx, func() bool {
		if m.copied > 0 {
			return int(r.copy.copied.Load()) >= m.copied || r.copy.ended.Load()
		}
		return int(r.writer.written.Load()) >= m.written
	})
}
