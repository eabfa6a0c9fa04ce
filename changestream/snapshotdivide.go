package changestream

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
)

// A large collection is read in several ranges at once. Its copy begins with one, which is
// divided as soon as a reader has nothing else to do, and again when one has nothing to
// do any more. Where its keys are numbers, ObjectIDs, UUIDs or dates, the bounds are
// computed: parts that turn out to be empty cost a read, and the others are divided
// again. The bounds of other keys are drawn from the collection, once. For that the server
// reads documents at random places, which from a disk can take longer than the stream may
// stand still, and goes on beside it.
//
// There are about as many ranges as readers, so that the checkpoint stays small.

// chunksForRange is how many chunks a range has at least.
const chunksForRange = 4

// parts is how many ranges a collection of a size is divided into; 0: none.
func (l *lister) parts(size collectionSize) int {
	o := l.src.opts
	n := min(int64(o.SnapshotParallelism), size.bytes/(chunksForRange*int64(o.SnapshotChunkBytes)))
	if n < 2 {
		return 0
	}
	return int(n)
}

// maxBound is the most bytes of a key that may be a bound: a state in a checkpoint has two
// for each range.
const maxBound = 1024

// bounds reports whether the key may be a bound of ranges.
func (k *sortKey) bounds() bool {
	return k.value.Type != bson.TypeMinKey && !k.isMax() && len(k.value.Value) <= maxBound
}

// highest is the last key of a collection, nil if it is empty, or too large to divide by.
func (l *lister) highest(ctx context.Context, ns rigatoni.Namespace) (*sortKey, error) {
	o := options.FindOne().SetSort(bson.D{{Key: "_id", Value: -1}}).SetProjection(bson.D{{Key: "_id", Value: 1}})
	doc, err := l.src.client.Database(ns.DB).Collection(ns.Coll).FindOne(ctx, bson.D{}, o).Raw()
	if err != nil {
		if errors.Is(err, mongo.ErrNoDocuments) {
			err = nil
		}
		return nil, err
	}
	key, err := newSortKey(doc.Lookup("_id"))
	if err != nil || len(key.value.Value) > maxBound {
		return nil, err
	}
	return key, nil
}

// divide is the state with the range that was read in several, if there are readers that
// would have nothing to read.
func (s *slicer) divide(state *copyState, res *sliceResult) *copyState {
	n := s.wants(state)
	if n == 0 || res.chunk.ended {
		return state
	}
	next := state.divide(res.ns, res.rng, n+1, int64(s.src.opts.SnapshotChunkBytes))
	if next != state {
		s.divided(next, res.job)
	}
	return next
}

// divided has the parts of a range read as the range was, which is no more: the server
// may be slow.
func (s *slicer) divided(state *copyState, job sliceJob) {
	was := s.paces[job]
	at, ok := state.find(job.ns)
	if was == nil || !ok {
		return
	}
	delete(s.paces, job)
	for _, r := range state.runs[at.run].active[at.active].ranges {
		if part := jobOf(job.ns, r); s.paces[part] == nil {
			pace := *was
			s.paces[part] = &pace
		}
	}
}

// wants is how many more ranges there could be, for readers that have nothing to read.
// Those that can't be read now count too: later they need a reader.
func (s *slicer) wants(state *copyState) int {
	if state == nil {
		return 0
	}
	n := cap(s.results)
	for _, run := range state.runs {
		n -= run.pending.len()
		for _, c := range run.active {
			n -= len(c.ranges)
		}
	}
	return max(0, n)
}

// divide is the state with a range in up to n, whose bounds are computed. r is a range of
// a collection as it was some time ago.
func (s *copyState) divide(ns rigatoni.Namespace, r *keyRange, n int, chunk int64) *copyState {
	at, c, i := s.rangeOf(ns, r)
	if i < 0 || c.unordered {
		return s
	}
	// As far as anybody knows the ranges are of about the same size.
	n = int(min(int64(n), (c.bytesEstimated-c.bytes)/int64(len(c.ranges))/(2*chunk)))
	parts := c.ranges[i].divide(c.ranges[i].between(c.highest, n), n)
	if len(parts) < 2 {
		return s
	}
	c.ranges = slices.Concat(c.ranges[:i], parts, c.ranges[i+1:])
	return s.replace(at, &c)
}

// divide makes up to n ranges of one, whose bounds are some of the keys.
func (r *keyRange) divide(keys []*sortKey, n int) []*keyRange {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k *sortKey) bool { return !r.has(k.index) || r.copied(k.index) })
	slices.SortFunc(keys, func(a, b *sortKey) int { return strings.Compare(a.index, b.index) })
	keys = slices.CompactFunc(keys, func(a, b *sortKey) bool { return a.index == b.index })
	last := *r
	ranges := []*keyRange{&last}
	for i := 1; i < n; i++ {
		bound := len(keys) * i / n
		last := ranges[len(ranges)-1]
		if bound >= len(keys) || last.Lower != nil && last.Lower.index >= keys[bound].index {
			continue
		}
		upper := last.Upper
		last.Upper = keys[bound]
		ranges = append(ranges, &keyRange{Lower: keys[bound], Upper: upper})
	}
	return ranges
}

// divisible reports whether the keys are of a kind for which bounds can be computed.
func (r *keyRange) divisible(highest *sortKey) bool {
	_, ok := interpolate(r.from().value, highest.value, 1, 2)
	return ok
}

// between computes bounds that divide what is left of the range into n parts. highest is
// about the last key of its collection.
func (r *keyRange) between(highest *sortKey, n int) (keys []*sortKey) {
	from, to := r.from(), r.Upper
	if to == nil {
		to = highest
	}
	if from == nil || to == nil {
		return nil
	}
	for i := 1; i < n; i++ {
		v, ok := interpolate(from.value, to.value, i, n)
		if !ok {
			return nil
		}
		key, err := newSortKey(v)
		if err == nil && from.index < key.index && key.index < to.index {
			keys = append(keys, key)
		}
	}
	return keys
}
