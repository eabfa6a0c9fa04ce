package changestream

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A collectionSize is about how large a collection is, as far as the server and the
// user's rights say.
type collectionSize struct{ docs, bytes int64 }

// begin begins the copy of a collection.
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
	if !c.unordered {
		c.parts = l.parts(size)
	}
	if c.parts > 0 {
		c.highest, err = l.highest(ctx, ns)
	}
	return c, absent, err
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
