package changestream

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A copyState is how far a copy has got: what a checkpoint has of it. It is immutable,
// and each change makes another one, because the positions of events that are under way
// refer to it. A collection that is not in it counts as copied. nil is no copy.
type copyState struct {
	runs    []copyRun
	figures copyFigures

	once sync.Once
	text string
	err  error
}

// A copyRun is a copy of some collections that began at one position. Most often there
// is one.
type copyRun struct {
	began resumetoken.Token
	// listed is the time of which the list of the collections is: what an event up to it
	// did to them, the list has.
	listed bson.Timestamp
	// again: the destination may have documents of these collections, so that all
	// events are delivered.
	again bool
	// estimated: the figures have the sizes of those that wait.
	estimated bool
	pending   pendingNames
	active    []*collectionCopy
}

// A collectionCopy is a collection whose copy has begun. It is immutable.
type collectionCopy struct {
	ns rigatoni.Namespace
	// unordered: the index sorts by a collation, so that nobody knows which keys are
	// past the cursor: all events are delivered.
	unordered bool
	ranges    []*keyRange // those that are not finished
	highest   *sortKey    // about the last key of all when the copy began; nil: it is not known
	parts     int         // for bounds that have to be drawn; 0: they are, or it is not worth it

	docs, bytes, docsEstimated, bytesEstimated int64
}

// copyFigures are for people.
type copyFigures struct {
	Began          int64 `json:"began"` // in milliseconds
	Collections    int   `json:"collections"`
	Done           int   `json:"done"`
	Docs           int64 `json:"docs"`
	Bytes          int64 `json:"bytes"`
	DocsEstimated  int64 `json:"docsEstimated"`
	BytesEstimated int64 `json:"bytesEstimated"`
}

// maxCopyState bounds the state in a checkpoint, which stores keep in one record:
// MongoDB's documents have 16 MB at most, and each save writes all of it. The names of
// 100,000 collections fit.
const maxCopyState = 4 << 20

// newCopyState is that of a copy in which nothing is copied yet.
func newCopyState(began resumetoken.Token, listed bson.Timestamp, again bool, names []rigatoni.Namespace, now time.Time) *copyState {
	if len(names) == 0 {
		return nil
	}
	return &copyState{
		runs:    []copyRun{{began: began, listed: listed, again: again, pending: newPendingNames(names)}},
		figures: copyFigures{Began: now.UnixMilli(), Collections: len(names)},
	}
}

// edit returns a copy for f to change, nil if nothing is left to copy then. f may change
// the runs, but no slice in them.
func (s *copyState) edit(f func(*copyState)) *copyState {
	next := &copyState{runs: slices.Clone(s.runs), figures: s.figures}
	f(next)
	next.runs = slices.DeleteFunc(next.runs, func(r copyRun) bool { return r.pending.len() == 0 && len(r.active) == 0 })
	if len(next.runs) == 0 {
		return nil
	}
	return next
}

// A copyPlace is where a collection is in a state.
type copyPlace struct {
	run    int
	active int // -1: it is pending
}

func (s *copyState) find(ns rigatoni.Namespace) (at copyPlace, ok bool) {
	if s == nil {
		return at, false
	}
	for i := range s.runs {
		if j := slices.IndexFunc(s.runs[i].active, func(c *collectionCopy) bool { return c.ns == ns }); j >= 0 {
			return copyPlace{i, j}, true
		}
		if s.runs[i].pending.has(ns) {
			return copyPlace{i, -1}, true
		}
	}
	return at, false
}

// forget takes a collection out of the state: it counts as copied.
func (s *copyState) forget(ns rigatoni.Namespace) *copyState {
	at, ok := s.find(ns)
	if !ok {
		return s
	}
	return s.edit(func(s *copyState) {
		s.remove(at, ns)
		s.figures.Done++
	})
}

// remove removes a collection. s is being edited.
func (s *copyState) remove(at copyPlace, ns rigatoni.Namespace) {
	run := &s.runs[at.run]
	if at.active < 0 {
		run.pending = run.pending.without(ns)
		return
	}
	run.active = slices.Delete(slices.Clone(run.active), at.active, at.active+1)
}

// begin moves a collection from those that wait to those whose copy has begun.
func (s *copyState) begin(c *collectionCopy) *copyState {
	at, ok := s.find(c.ns)
	if !ok || at.active >= 0 {
		return s
	}
	return s.edit(func(s *copyState) {
		s.remove(at, c.ns)
		run := &s.runs[at.run]
		run.active = append(slices.Clip(run.active), c)
		if !run.estimated {
			s.figures.DocsEstimated += c.docsEstimated
			s.figures.BytesEstimated += c.bytesEstimated
		}
	})
}

// replace replaces a collection whose copy has begun.
func (s *copyState) replace(at copyPlace, c *collectionCopy) *copyState {
	return s.edit(func(s *copyState) {
		run := &s.runs[at.run]
		run.active = slices.Clone(run.active)
		run.active[at.active] = c
	})
}

// rangeOf is where a range is now, which r is as it was some time ago, and a copy of its
// collection; i is -1 if there is no such range any more.
func (s *copyState) rangeOf(ns rigatoni.Namespace, r *keyRange) (at copyPlace, c collectionCopy, i int) {
	at, ok := s.find(ns)
	if !ok || at.active < 0 {
		return at, c, -1
	}
	c = *s.runs[at.run].active[at.active]
	return at, c, slices.IndexFunc(c.ranges, func(x *keyRange) bool { return x.Lower == r.Lower && x.Upper == r.Upper })
}

// advance moves the cursor of a range, which r is as it was, and counts what was read.
// A range that has ended is left out.
func (s *copyState) advance(ns rigatoni.Namespace, r *keyRange, cursor *sortKey, ended bool, docs, bytes int64) *copyState {
	at, c, i := s.rangeOf(ns, r)
	if i < 0 {
		return s
	}
	c.ranges = slices.Clone(c.ranges)
	c.ranges[i] = &keyRange{Lower: r.Lower, Upper: r.Upper, Cursor: cursor}
	if ended {
		c.ranges = slices.Delete(c.ranges, i, i+1)
	}
	c.docs, c.bytes = c.docs+docs, c.bytes+bytes
	next := s.replace(at, &c)
	next.figures.Docs += docs
	next.figures.Bytes += bytes
	return next
}

// finished are the collections that have no ranges left.
func (s *copyState) finished() (names []rigatoni.Namespace) {
	if s == nil {
		return nil
	}
	for _, run := range s.runs {
		for _, c := range run.active {
			if len(c.ranges) == 0 {
				names = append(names, c.ns)
			}
		}
	}
	return names
}

// The state as JSON. Names that wait are grouped by database; what is finished costs
// nothing.
type copyStateJSON struct {
	Version int           `json:"version"`
	Runs    []copyRunJSON `json:"runs"`
	Figures copyFigures   `json:"figures"`
}

type copyRunJSON struct {
	Began   json.RawMessage      `json:"began"`
	Listed  [2]uint32            `json:"listed"`
	Again   bool                 `json:"again,omitempty"`
	Sized   bool                 `json:"sized,omitempty"`
	Pending []copyPendingJSON    `json:"pending,omitempty"`
	Active  []collectionCopyJSON `json:"active,omitempty"`
}

type copyPendingJSON struct {
	DB    string   `json:"db"`
	Colls []string `json:"colls"`
}

type collectionCopyJSON struct {
	DB             string      `json:"db"`
	Coll           string      `json:"coll"`
	Unordered      bool        `json:"unordered,omitempty"`
	Ranges         []*keyRange `json:"ranges"`
	Highest        *sortKey    `json:"highest,omitempty"`
	Parts          int         `json:"parts,omitempty"`
	Docs           int64       `json:"docs"`
	Bytes          int64       `json:"bytes"`
	DocsEstimated  int64       `json:"docsEstimated,omitempty"`
	BytesEstimated int64       `json:"bytesEstimated,omitempty"`
}

const copyStateVersion = 1

// encoded is the state as a position has it, "" for none.
func (s *copyState) encoded() (string, error) {
	if s == nil {
		return "", nil
	}
	s.once.Do(func() { s.text, s.err = s.encode() })
	return s.text, s.err
}

func (s *copyState) encode() (string, error) {
	out := copyStateJSON{Version: copyStateVersion, Figures: s.figures}
	for _, run := range s.runs {
		began, err := run.began.ExtJSON()
		if err != nil {
			return "", err
		}
		r := copyRunJSON{Began: began, Listed: [2]uint32{run.listed.T, run.listed.I}, Again: run.again, Sized: run.estimated, Pending: run.pending.grouped()}
		for _, c := range run.active {
			r.Active = append(r.Active, collectionCopyJSON{
				DB: c.ns.DB, Coll: c.ns.Coll, Unordered: c.unordered, Ranges: c.ranges, Highest: c.highest, Parts: c.parts,
				Docs: c.docs, Bytes: c.bytes, DocsEstimated: c.docsEstimated, BytesEstimated: c.bytesEstimated,
			})
		}
		out.Runs = append(out.Runs, r)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return "", err
	}
	if len(text) > maxCopyState {
		return "", fmt.Errorf("changestream: the state of the snapshot, of %d collections, has %d bytes, and a checkpoint has room for %d; copy fewer collections at once, with several pipelines (Options.Collections)",
			s.figures.Collections, len(text), maxCopyState)
	}
	return string(text), nil
}

// parseCopyState is the inverse of encoded.
func parseCopyState(text []byte) (*copyState, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	var in copyStateJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("changestream: the checkpoint's state of the snapshot can't be read: %w", err)
	}
	if in.Version != copyStateVersion {
		return nil, fmt.Errorf("changestream: the checkpoint's state of the snapshot has version %d, and this program reads version %d; a newer one has written it", in.Version, copyStateVersion)
	}
	s := &copyState{figures: in.Figures}
	for _, r := range in.Runs {
		run, err := r.run()
		if err != nil {
			return nil, fmt.Errorf("changestream: the checkpoint's state of the snapshot can't be read: %w", err)
		}
		s.runs = append(s.runs, run)
	}
	return s.edit(func(*copyState) {}), nil
}

func (r copyRunJSON) run() (copyRun, error) {
	began, err := resumetoken.Parse(r.Began)
	if err != nil {
		return copyRun{}, err
	}
	var names []rigatoni.Namespace
	for _, p := range r.Pending {
		for _, c := range p.Colls {
			names = append(names, rigatoni.Namespace{DB: p.DB, Coll: c})
		}
	}
	run := copyRun{began: began, listed: bson.Timestamp{T: r.Listed[0], I: r.Listed[1]}, again: r.Again, estimated: r.Sized, pending: newPendingNames(names)}
	for _, c := range r.Active {
		if slices.Contains(c.Ranges, nil) {
			return copyRun{}, fmt.Errorf("a range of %s.%s is null", c.DB, c.Coll)
		}
		run.active = append(run.active, &collectionCopy{
			ns: rigatoni.Namespace{DB: c.DB, Coll: c.Coll}, unordered: c.Unordered, ranges: c.Ranges, highest: c.Highest, parts: c.Parts,
			docs: c.Docs, bytes: c.Bytes, docsEstimated: c.DocsEstimated, bytesEstimated: c.BytesEstimated,
		})
	}
	return run, nil
}
