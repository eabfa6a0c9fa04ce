package changestream

import (
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// A readPace is how a range is read: how many documents at once, and after what pause
// where reading failed.
type readPace struct {
	limit  int
	within time.Duration // for the server

	failures     int
	pause        time.Time
	unknownSince time.Time
	logged       bool
}

const (
	firstLimit  = 100     // documents, where their size is not known
	mostLimit   = 100_000 // documents
	firstWithin = 5 * time.Second
	mostWithin  = time.Minute
	retryMost   = 5 * time.Second
	retryLogged = 5 // failures in a row: a drop or an election takes fewer
)

const (
	codeMaxTimeExpired  = 50
	codeSnapshotTooOld  = 239
	codeQueryKilled     = 175
	eventEnvelopeBytes  = 300 // that a read event has beside its document
	mostPipelineIDs     = 10_000
	codeNotPrimaryOrSec = 13436
)

func (s *slicer) pace(job sliceJob) *readPace {
	p := s.paces[job]
	if p == nil {
		p = &readPace{limit: firstLimit, within: firstWithin}
		if docs := s.lists.average(job.ns); docs > 0 {
			p.limit = s.limitOf(docs)
		}
		s.paces[job] = p
	}
	return p
}

// limitOf is how many documents of a size make a chunk.
func (s *slicer) limitOf(size int64) int {
	most := int64(mostLimit)
	if s.scope.pipeline.id != "" {
		most = mostPipelineIDs
	}
	return int(min(most, max(1, int64(s.src.opts.SnapshotChunkBytes)/(size+eventEnvelopeBytes))))
}

// succeeded adapts the number of documents to the size of those that were read.
func (p *readPace) succeeded(s *slicer, res *sliceResult) {
	if p.logged {
		s.log.Info("snapshot reads again", "collection", res.ns.String(), "failures", p.failures)
	}
	p.failures, p.pause, p.unknownSince, p.logged = 0, time.Time{}, time.Time{}, false
	if c := res.chunk; c != nil && c.docs > 0 {
		p.limit = min(4*p.limit, s.limitOf(c.bytes/c.docs))
	}
}

// failedBy notes a failure. It returns an error if another attempt won't help.
func (p *readPace) failedBy(s *slicer, res *sliceResult) error {
	p.failures++
	p.pause = time.Now().Add(min(retryMost, 50*time.Millisecond<<min(p.failures, 10)))
	if code(res.err) == codeMaxTimeExpired {
		p.limit, p.within = max(1, p.limit/2), min(mostWithin, 2*p.within)
	}
	if err := p.hopeless(s, res); err != nil {
		return err
	}
	if p.failures == retryLogged {
		p.logged = true
		s.log.Warn("snapshot can't read a collection, trying on", "collection", res.ns.String(), "err", causeOf(res.err))
	}
	return nil
}

// hopeless is the error for what an attempt at a later time doesn't mend.
func (p *readPace) hopeless(s *slicer, res *sliceResult) error {
	if e := (*notCopyableError)(nil); errors.As(res.err, &e) {
		return e
	}
	v := judge(res.err, atAggregate)
	if code(res.err) == codeInvalidOptions {
		v = unknown // a time that this server hasn't reached: it will, within a minute or never
	}
	switch {
	case s.scope.pipeline.id != "" && failsOnEvent(res.err):
		return &streamError{
			text:   fmt.Sprintf("Options.Pipeline fails on a document of %s that the snapshot copies: %s; mend the expression, which must work for every document, or give it a default ($ifNull, $convert with onError)", quote.Name(res.ns.String()), codeOf(res.err)),
			causes: []error{ErrUnreadable, res.err},
		}
	case errors.Is(res.err, errNotThere), retriedCodes[code(res.err)], v == retry:
		p.unknownSince = time.Time{}
		return nil
	case v == unknown && p.unknownSince.IsZero():
		p.unknownSince = time.Now()
		return nil
	case v == unknown && time.Since(p.unknownSince) < s.src.limits.unknown:
		return nil
	}
	return s.scope.refused("copy "+quote.Name(res.ns.String()), res.err)
}

// retriedCodes are those of a read that may succeed at a later time: a snapshot that is
// too old or not there yet, a query that was killed, or a member that can't be read.
var retriedCodes = map[int32]bool{codeSnapshotTooOld: true, codeSnapshotUnavailable: true, codeQueryKilled: true, 43: true, codeMaxTimeExpired: true, 13435: true, codeNotPrimaryOrSec: true}
