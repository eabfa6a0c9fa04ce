package changestream

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A collectionSize is about how large a collection is, as far as the server and the
// user's rights say.
type collectionSize struct{ docs, bytes int64 }

// begin begins the copy of a collection: it divides it into ranges.
func (l *lister) begin(ctx context.Context, ns rigatoni.Namespace) (c *collectionCopy, absent bson.Timestamp, err error) {
	info, absent, err := l.info(ctx, ns)
	switch {
	case err != nil:
		return nil, absent, err
	case !absent.IsZero():
		return nil, absent, errNotThere
	}
	if err := info.copyable(ns); err != nil {
		return nil, absent, err
	}
	size, err := l.size(ctx, ns)
	if err != nil {
		return nil, absent, err
	}
	c = &collectionCopy{ns: ns, unordered: info.unordered(), docsEstimated: size.docs, bytesEstimated: size.bytes, ranges: []*keyRange{{}}}
	if n := l.parts(size); n > 1 && !c.unordered {
		c.ranges, err = l.divide(ctx, ns, n)
	}
	return c, absent, err
}

// chunksForRange is how many chunks a range has at least.
const chunksForRange = 4

// parts is how many ranges a collection of a size is divided into.
func (l *lister) parts(size collectionSize) int {
	o := l.src.opts
	return int(min(int64(o.SnapshotParallelism), size.bytes/(chunksForRange*int64(o.SnapshotChunkBytes))))
}

// samplesForRange make ranges of about the same size.
const samplesForRange = 20

// divide draws bounds for n ranges from the collection's own keys. Any bounds do: they
// only have to differ.
func (l *lister) divide(ctx context.Context, ns rigatoni.Namespace, n int) ([]*keyRange, error) {
	cursor, err := l.src.client.Database(ns.DB).Collection(ns.Coll).Aggregate(ctx, bson.A{
		bson.D{{Key: "$sample", Value: bson.D{{Key: "size", Value: n * samplesForRange}}}},
		bson.D{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}},
	})
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, err
	}
	var keys []*sortKey
	for _, d := range docs {
		key, err := newSortKey(d.Lookup("_id"))
		if err != nil {
			return nil, err
		}
		if key.value.Type != bson.TypeMinKey && !key.isMax() { // which bound nothing
			keys = append(keys, key)
		}
	}
	return rangesOf(keys, n), nil
}

// rangesOf makes up to n ranges whose bounds are keys of a sample.
func rangesOf(keys []*sortKey, n int) []*keyRange {
	slices.SortFunc(keys, func(a, b *sortKey) int { return strings.Compare(a.index, b.index) })
	keys = slices.CompactFunc(keys, func(a, b *sortKey) bool { return a.index == b.index })
	ranges := []*keyRange{{}}
	for i := 1; i < n; i++ {
		bound := len(keys) * i / n
		last := ranges[len(ranges)-1]
		if bound >= len(keys) || last.Lower != nil && last.Lower.index >= keys[bound].index {
			continue
		}
		last.Upper = keys[bound]
		ranges = append(ranges, &keyRange{Lower: keys[bound]})
	}
	return ranges
}

// size estimates the size of a collection, once.
func (l *lister) size(ctx context.Context, ns rigatoni.Namespace) (collectionSize, error) {
	l.mu.Lock()
	size, ok := l.sizes[ns]
	l.mu.Unlock()
	if ok {
		return size, nil
	}
	coll := l.src.client.Database(ns.DB).Collection(ns.Coll)
	cursor, err := coll.Aggregate(ctx, bson.A{bson.D{{Key: "$collStats", Value: bson.D{{Key: "count", Value: bson.D{}}, {Key: "storageStats", Value: bson.D{}}}}}})
	var stats []struct {
		Count   int64 `bson:"count"`
		Storage struct {
			Size float64 `bson:"size"`
		} `bson:"storageStats"`
	}
	if err == nil {
		err = cursor.All(ctx, &stats)
	}
	switch {
	case err == nil && len(stats) > 0:
		size = collectionSize{docs: stats[0].Count, bytes: int64(stats[0].Storage.Size)}
	case code(err) == codeUnauthorized:
		if size.docs, err = coll.EstimatedDocumentCount(ctx); err != nil {
			return size, err
		}
	case err != nil && code(err) == 0, code(err) != 0 && judge(err, atAggregate) == retry:
		return size, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sizes[ns] = size
	return size, nil
}

// average is the mean size of a collection's documents, 0 if it is unknown.
func (l *lister) average(ns rigatoni.Namespace) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sizes[ns]; s.docs > 0 {
		return s.bytes / s.docs
	}
	return 0
}
