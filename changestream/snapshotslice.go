package changestream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A slicer reads chunks while the stream stands still, of several ranges at once. Each
// read runs in a goroutine of its own, and none begins unless somebody takes what was
// read: what is in memory is one chunk for each, and the one that was taken. All but the
// reads is done by the goroutine of the stream.
type slicer struct {
	ctx      context.Context
	src      *Source
	scope    scope
	log      *slog.Logger
	lists    *lister
	progress *copyProgress

	at     bson.Timestamp    // the safe point
	token  resumetoken.Token // of the stream's position there
	active bool
	until  time.Time

	results  chan *sliceResult
	inFlight int
	busy     map[sliceJob]bool
	failed   map[sliceJob]bool // in this slice
	paces    map[sliceJob]*readPace
	missing  map[rigatoni.Namespace]bson.Timestamp // times at which there was no such collection
	wg       sync.WaitGroup
}

// A sliceJob is a range to read, or a collection whose copy is to begin.
type sliceJob struct {
	ns           rigatoni.Namespace
	begin        bool
	lower, upper *sortKey
}

func jobOf(ns rigatoni.Namespace, r *keyRange) sliceJob {
	return sliceJob{ns: ns, lower: r.Lower, upper: r.Upper}
}

// A sliceResult is what came of a job; nothing at all, if it is to be done again.
type sliceResult struct {
	job   sliceJob
	ns    rigatoni.Namespace
	rng   *keyRange
	chunk *snapshotChunk
	begun *collectionCopy
	gone  bool // the collection doesn't exist

	err    error
	absent bson.Timestamp // a time at which the collection didn't exist; zero: it does
}

func newSlicer(ctx context.Context, src *Source, sc scope, log *slog.Logger, lists *lister) *slicer {
	return &slicer{
		ctx: ctx, src: src, scope: sc, log: log, lists: lists, progress: newCopyProgress(),
		results: make(chan *sliceResult, src.opts.SnapshotParallelism),
		busy:    map[sliceJob]bool{}, failed: map[sliceJob]bool{}, paces: map[sliceJob]*readPace{}, missing: map[rigatoni.Namespace]bson.Timestamp{},
	}
}

func (s *slicer) running() bool { return s.active }

func (s *slicer) wait() { s.wg.Wait() }

// begin begins a slice, and returns false if there is nothing to read now.
func (s *slicer) begin(at bson.Timestamp, token resumetoken.Token, state *copyState) bool {
	s.at, s.token, s.active, s.until = at, token, true, time.Now().Add(s.src.limits.slice)
	clear(s.failed)
	s.fill(state)
	s.active = s.inFlight > 0
	return s.active
}

// fill begins reads while the slice lasts.
func (s *slicer) fill(state *copyState) {
	for s.inFlight < cap(s.results) && time.Now().Before(s.until) {
		job, rng, ok := s.pick(state)
		if !ok {
			return
		}
		s.busy[job] = true
		s.inFlight++
		s.wg.Add(1)
		go func(at bson.Timestamp, token resumetoken.Token, pace readPace) {
			defer s.wg.Done()
			s.results <- s.do(job, rng, at, token, pace)
		}(s.at, s.token, *s.pace(job))
	}
}

// pick chooses a range that nobody reads, of a collection that has begun if there is
// one.
func (s *slicer) pick(state *copyState) (job sliceJob, rng *keyRange, ok bool) {
	if state == nil {
		return job, nil, false
	}
	for _, run := range state.runs {
		for _, c := range run.active {
			for _, r := range c.ranges {
				if job = jobOf(c.ns, r); s.free(job) {
					return job, r, true
				}
			}
		}
	}
	for _, run := range state.runs {
		for ns := range run.pending.all {
			if job = (sliceJob{ns: ns, begin: true}); s.free(job) {
				return job, nil, true
			}
		}
	}
	return job, nil, false
}

func (s *slicer) free(job sliceJob) bool {
	p := s.paces[job]
	return !s.busy[job] && !s.failed[job] && (p == nil || !time.Now().Before(p.pause))
}

// isRead reports whether a range of the collection is being read.
func (s *slicer) isRead(ns rigatoni.Namespace) bool {
	for job := range s.busy {
		if job.ns == ns && !job.begin {
			return true
		}
	}
	return false
}

// do does a job, in a goroutine of its own.
func (s *slicer) do(job sliceJob, rng *keyRange, at bson.Timestamp, token resumetoken.Token, pace readPace) *sliceResult {
	res := &sliceResult{job: job, ns: job.ns, rng: rng}
	ctx, cancel := limited(s.ctx, pace.within+s.src.limits.margin)
	defer cancel()
	if job.begin {
		res.begun, res.absent, res.err = s.lists.begin(ctx, job.ns)
	} else {
		r := &chunkReader{client: s.src.client, timed: &s.src.timed, ns: job.ns, rng: rng, at: at, token: token, limit: pace.limit, within: pace.within, stages: s.scope.copyStages()}
		res.chunk, res.err = r.read(ctx)
	}
	if errors.Is(res.err, errNotThere) && res.absent.IsZero() {
		var err error
		if res.absent, err = s.lists.look(ctx, job.ns); err != nil {
			res.err = err
		}
	}
	return res
}

// next waits for a result. It is nil if the slice is over, and empty if there is nothing
// yet, or if what was tried failed and is to be tried again.
func (s *slicer) next(ctx context.Context, state *copyState) (*sliceResult, error) {
	s.fill(state)
	if s.inFlight == 0 {
		s.active = false
		return nil, nil
	}
	timer := time.NewTimer(nextTime)
	defer timer.Stop()
	select {
	case res := <-s.results:
		s.inFlight--
		delete(s.busy, res.job)
		return s.judged(res)
	case <-timer.C:
		return &sliceResult{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// judged is a result, unless it failed.
func (s *slicer) judged(res *sliceResult) (*sliceResult, error) {
	pace := s.pace(res.job)
	if res.err == nil {
		pace.succeeded(s, res)
		if res.chunk != nil && res.chunk.ended || res.begun != nil {
			delete(s.paces, res.job)
		}
		return res, nil
	}
	s.failed[res.job] = true
	if errors.Is(res.err, errNotThere) && s.isGone(res) {
		s.log.Warn("a collection of the snapshot does not exist, and is left out", "collection", res.ns.String())
		return &sliceResult{ns: res.ns, gone: true}, nil
	}
	if err := pace.failedBy(s, res); err != nil {
		return nil, err
	}
	return &sliceResult{}, nil
}

// renamed forgets what was missing: from now on its name may be another collection's.
func (s *slicer) renamed() { clear(s.missing) }

// isGone reports whether the collection had been found missing at a time that the stream
// has reached since, so that its drop would have been seen.
func (s *slicer) isGone(res *sliceResult) bool {
	before, known := s.missing[res.ns]
	switch {
	case res.absent.IsZero():
		delete(s.missing, res.ns)
	case !known:
		s.missing[res.ns] = res.absent
	case !s.at.Before(before):
		delete(s.missing, res.ns)
		return true
	}
	return false
}
