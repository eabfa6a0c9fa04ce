package changestream

import (
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A copyProgress measures how fast a copy is. It is safe for concurrent use.
type copyProgress struct {
	mu    sync.Mutex
	docs  int64
	marks []progressMark // the last ones, about a second apart
}

type progressMark struct {
	at   time.Time
	docs int64
}

// rateMarks are the seconds that the rate is the mean of.
const rateMarks = 20

func newCopyProgress() *copyProgress {
	now := time.Now()
	return &copyProgress{marks: []progressMark{{at: now}}}
}

// read counts documents that were read.
func (p *copyProgress) read(docs int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.docs += docs
	now := time.Now()
	if now.Sub(p.marks[len(p.marks)-1].at) < time.Second {
		return
	}
	p.marks = append(p.marks, progressMark{now, p.docs})
	if len(p.marks) > rateMarks {
		p.marks = p.marks[1:]
	}
}

// rate is documents a second, lately.
func (p *copyProgress) rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.marks[0]
	if d := time.Since(first.at).Seconds(); d > 0 {
		return float64(p.docs-first.docs) / d
	}
	return 0
}

// Snapshot implements [rigatoni.SnapshotReporter].
func (c *copyStream) Snapshot() (rigatoni.SnapshotStatus, bool) {
	s := c.shown.Load()
	if s == nil {
		return rigatoni.SnapshotStatus{}, false // nothing was there to copy
	}
	if c.ended.Load() {
		out := s.status()
		out.Collections, out.CollectionsDone = nil, out.CollectionsTotal
		return out, false
	}
	out := s.status()
	out.Rate = c.slices.progress.rate()
	if left := out.DocumentsEstimated - out.Documents; left > 0 && out.Rate > 0 {
		out.ETA = time.Duration(float64(left) / out.Rate * float64(time.Second))
	}
	return out, true
}

// SnapshotProgress is how far the copy of a checkpoint has got, as far as the checkpoint
// says: nothing of its rate. It is false if no copy is under way.
func SnapshotProgress(cp state.Checkpoint) (rigatoni.SnapshotStatus, bool, error) {
	s, err := parseCopyState(cp.Extra[rigatoni.ExtraSnapshot])
	if s == nil || err != nil {
		return rigatoni.SnapshotStatus{}, false, err
	}
	return s.status(), true, nil
}

// listedCollections bounds what a status lists.
const listedCollections = 100

func (s *copyState) status() rigatoni.SnapshotStatus {
	f := s.figures
	out := rigatoni.SnapshotStatus{
		CollectionsTotal: f.Collections, CollectionsDone: f.Done,
		Documents: f.Docs, DocumentsEstimated: f.DocsEstimated, Bytes: f.Bytes, BytesEstimated: f.BytesEstimated,
		Began: time.UnixMilli(f.Began),
	}
	if out.DocumentsEstimated == 0 && f.Done == 0 {
		// Of collections that somebody asked for the sizes come one by one.
		for _, run := range s.runs {
			for _, c := range run.active {
				out.DocumentsEstimated += c.docsEstimated
				out.BytesEstimated += c.bytesEstimated
			}
			if run.pending.len() > 0 {
				out.DocumentsEstimated, out.BytesEstimated = 0, 0 // part of it would be misleading
				break
			}
		}
	}
	for _, run := range s.runs {
		if !run.estimated && run.pending.len() > 0 {
			out.DocumentsEstimated, out.BytesEstimated = 0, 0 // of all, nobody knows
		}
		for _, c := range run.active {
			if len(out.Collections) < listedCollections {
				out.Collections = append(out.Collections, rigatoni.CollectionSnapshot{
					Namespace: c.ns, Documents: c.docs, DocumentsEstimated: c.docsEstimated, Bytes: c.bytes, BytesEstimated: c.bytesEstimated,
				})
			}
		}
	}
	for _, run := range s.runs {
		for ns := range run.pending.all {
			if len(out.Collections) == listedCollections {
				return out
			}
			out.Collections = append(out.Collections, rigatoni.CollectionSnapshot{Namespace: ns})
		}
	}
	return out
}
