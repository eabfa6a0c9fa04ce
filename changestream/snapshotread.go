package changestream

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A chunkReader reads one chunk of a range, as it was at the safe point. What it read is
// good only as a whole: after any error the chunk is read again, at a later safe point.
type chunkReader struct {
	client *mongo.Client
	// timed: the client limits its calls itself (timeoutMS), so that its commands have a
	// maxTimeMS already, which the server refuses twice. Nothing says so beforehand.
	timed  *atomic.Bool
	ns     rigatoni.Namespace
	rng    *keyRange
	at     bson.Timestamp    // the safe point
	token  resumetoken.Token // of the stream's position there
	limit  int               // documents
	within time.Duration     // for the server
	stages []bson.D          // the user's pipeline; nil: none
}

// A snapshotChunk is what a reader read: no documents, if the range has no more.
type snapshotChunk struct {
	found       []bson.Raw // documents; or
	wrapped     []bson.Raw // those that the server has made events
	docs, bytes int64
	last        *sortKey // the cursor afterwards
	ended       bool     // the range has no documents after last
}

// errNotThere: the collection can't be read at the safe point under its name, because it
// was dropped, renamed or recreated since. The stream will say so.
var errNotThere = errors.New("the collection was dropped or renamed meanwhile")

var errReply = errors.New("changestream: the reply to a find has no documents")

// codeSnapshotUnavailable is what the server says about a collection that was recreated
// after the time of the read, or renamed onto.
const codeSnapshotUnavailable = 246

// codeDuplicateField is what the server says about a field that a command has twice.
const codeDuplicateField = 40413

// A chunkReply is what matters of the reply to a find.
type chunkReply struct {
	docs  []bson.Raw
	asked int
	open  int64 // the id of a cursor that has more; 0: none
}

func (r *chunkReader) read(ctx context.Context) (*snapshotChunk, error) {
	fields := bson.D(nil)
	if r.stages != nil {
		fields = bson.D{{Key: "_id", Value: 1}}
	}
	if lower := r.rng.from(); lower.isMax() {
		return r.readLast(ctx, fields)
	}
	reply, err := r.find(ctx, r.limit+1, 0, fields)
	if err != nil {
		return nil, err
	}
	docs := r.withoutCursor(reply.docs)
	if len(docs) == 0 && reply.open != 0 {
		// The document at the cursor fills the reply. At the same time it is the first one.
		if reply, err = r.find(ctx, r.limit, 1, fields); err != nil {
			return nil, err
		}
		docs = reply.docs
	}
	c := &snapshotChunk{last: r.rng.Cursor}
	c.ended = reply.open == 0 && len(reply.docs) < reply.asked
	if n := len(docs); n > 0 {
		if c.last, err = newSortKey(idOf(docs[n-1])); err != nil {
			return nil, err
		}
	}
	if c.ended && r.rng.Upper == nil && !c.last.isMax() {
		max, err := r.findMaxKey(ctx, fields)
		if err != nil {
			return nil, err
		}
		docs = append(docs, max...)
	}
	return c, r.fill(ctx, c, docs)
}

// readLast reads the rest of a range from MaxKey on, which the server refuses as min: the
// document with that _id, unless it is the one at the cursor.
func (r *chunkReader) readLast(ctx context.Context, fields bson.D) (*snapshotChunk, error) {
	c := &snapshotChunk{last: r.rng.from(), ended: true}
	if r.rng.Cursor != nil {
		return c, nil
	}
	docs, err := r.findMaxKey(ctx, fields)
	if err != nil {
		return nil, err
	}
	return c, r.fill(ctx, c, docs)
}

// fill makes documents those of a chunk.
func (r *chunkReader) fill(ctx context.Context, c *snapshotChunk, docs []bson.Raw) error {
	if r.stages != nil {
		return r.transformed(ctx, c, docs)
	}
	c.found, c.docs = docs, int64(len(docs))
	for _, d := range docs {
		c.bytes += int64(len(d))
	}
	return nil
}

// withoutCursor leaves out the document that the cursor stands on.
func (r *chunkReader) withoutCursor(docs []bson.Raw) []bson.Raw {
	if len(docs) == 0 || r.rng.Cursor == nil {
		return docs
	}
	index, err := resumetoken.KeyString(idOf(docs[0]))
	if err == nil && string(index) == r.rng.Cursor.index {
		return docs[1:]
	}
	return docs
}

// find reads documents from the cursor on. Bounds by min and max go by the index, whose
// order has all types, unlike that of $gt.
func (r *chunkReader) find(ctx context.Context, limit, skip int, fields bson.D) (chunkReply, error) {
	lower := bson.RawValue{Type: bson.TypeMinKey}
	if from := r.rng.from(); from != nil {
		lower = from.value
	}
	cmd := bson.D{{Key: "find", Value: r.ns.Coll}, {Key: "hint", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "min", Value: bson.D{{Key: "_id", Value: lower}}}}
	if r.rng.Upper != nil {
		cmd = append(cmd, bson.E{Key: "max", Value: bson.D{{Key: "_id", Value: r.rng.Upper.value}}})
	}
	if skip > 0 {
		cmd = append(cmd, bson.E{Key: "skip", Value: skip})
	}
	cmd = append(cmd, bson.E{Key: "limit", Value: limit}, bson.E{Key: "batchSize", Value: limit})
	reply, err := r.run(ctx, cmd, fields, limit)
	reply.asked = limit
	return reply, err
}

// findMaxKey reads the document whose _id is MaxKey, which no range by min has.
func (r *chunkReader) findMaxKey(ctx context.Context, fields bson.D) ([]bson.Raw, error) {
	reply, err := r.run(ctx, bson.D{{Key: "find", Value: r.ns.Coll}, {Key: "filter", Value: bson.D{{Key: "_id", Value: bson.MaxKey{}}}}, {Key: "limit", Value: 1}}, fields, 1)
	return reply.docs, err
}

// run runs a command at the safe point, which returns up to a number of documents, and
// frees its cursor.
func (r *chunkReader) run(ctx context.Context, cmd bson.D, fields bson.D, most int) (chunkReply, error) {
	if fields != nil {
		cmd = append(cmd, bson.E{Key: "projection", Value: fields})
	}
	concern := bson.D{{Key: "level", Value: "snapshot"}, {Key: "atClusterTime", Value: r.at}}
	cmd = append(cmd, bson.E{Key: "readConcern", Value: concern})
	raw, err := r.command(ctx, cmd)
	if code(err) == codeDuplicateField {
		r.timed.Store(true)
		raw, err = r.command(ctx, cmd)
	}
	if err != nil {
		if code(err) == codeSnapshotUnavailable {
			return chunkReply{}, errNotThere
		}
		return chunkReply{}, err
	}
	cursor, ok := raw.Lookup("cursor").DocumentOK()
	if !ok {
		return chunkReply{}, errors.New("changestream: the reply to a find has no cursor")
	}
	open, _ := cursor.Lookup("id").AsInt64OK()
	if open != 0 {
		// A reply is one chunk: what is left is read by the next one.
		r.kill(ctx, open)
	}
	if _, err := cursor.LookupErr("atClusterTime"); err != nil {
		return chunkReply{}, errNotThere // a collection that doesn't exist looks like an empty one
	}
	batch, ok := cursor.Lookup("firstBatch").ArrayOK()
	if !ok {
		return chunkReply{}, errReply
	}
	docs, err := documentsOf(batch, most)
	return chunkReply{docs: docs, open: open}, err
}

// documentsOf are the documents of a reply, which has room for as many as were asked for
// or is shorter.
func documentsOf(batch bson.RawArray, most int) ([]bson.Raw, error) {
	const smallest = 12 // bytes of an element
	docs := make([]bson.Raw, 0, min(most, len(batch)/smallest))
	for rest := []byte(batch[4 : len(batch)-1]); len(rest) > 0; {
		e, after, ok := bsoncore.ReadElement(rest)
		if !ok {
			return nil, errReply
		}
		d, ok := e.Value().DocumentOK()
		if !ok {
			return nil, errReply
		}
		docs, rest = append(docs, bson.Raw(d)), after
	}
	return docs, nil
}

func (r *chunkReader) command(ctx context.Context, cmd bson.D) (bson.Raw, error) {
	if !r.timed.Load() {
		cmd = append(slices.Clip(cmd), bson.E{Key: "maxTimeMS", Value: r.within.Milliseconds()})
	}
	return r.client.Database(r.ns.DB).RunCommand(ctx, cmd).Raw()
}

func (r *chunkReader) kill(ctx context.Context, cursor int64) {
	ctx, cancel := limited(ctx, dropTime)
	defer cancel()
	_ = r.client.Database(r.ns.DB).RunCommand(ctx, bson.D{{Key: "killCursors", Value: r.ns.Coll}, {Key: "cursors", Value: bson.A{cursor}}}).Err() // the server frees it by itself
}

// transformed has the server apply the user's pipeline to the documents, each as the
// insert event of it.
func (r *chunkReader) transformed(ctx context.Context, c *snapshotChunk, docs []bson.Raw) error {
	if len(docs) == 0 {
		return nil
	}
	ids := make(bson.A, len(docs))
	for i, d := range docs {
		ids[i] = idOf(d)
	}
	literal := func(v any) bson.D { return bson.D{{Key: "$literal", Value: v}} }
	stages := []bson.D{
		{{Key: "$match", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}}},
		{{Key: "$sort", Value: bson.D{{Key: "_id", Value: 1}}}},
		{{Key: "$replaceWith", Value: bson.D{
			{Key: "_id", Value: literal(r.token.Raw())},
			{Key: "operationType", Value: "insert"},
			{Key: "clusterTime", Value: literal(r.at)},
			{Key: "fullDocument", Value: "$$ROOT"},
			{Key: "ns", Value: literal(bson.D{{Key: "db", Value: r.ns.DB}, {Key: "coll", Value: r.ns.Coll}})},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: "$_id"}}},
		}}},
	}
	stages = append(append(stages, r.stages...), bson.D{{Key: "$set", Value: bson.D{{Key: "operationType", Value: "read"}}}})
	reply, err := r.run(ctx, bson.D{{Key: "aggregate", Value: r.ns.Coll}, {Key: "pipeline", Value: stages}, {Key: "cursor", Value: bson.D{{Key: "batchSize", Value: len(docs) + 1}}}}, nil, len(docs))
	if err != nil {
		return err
	}
	for _, d := range reply.docs {
		c.bytes += int64(len(d))
	}
	c.wrapped = reply.docs
	c.docs = int64(len(docs))
	if n := len(c.wrapped); reply.open != 0 && n > 0 {
		// The rest did not fit into the reply.
		c.ended = false
		c.docs = int64(n)
		c.last, err = newSortKey(c.wrapped[n-1].Lookup("documentKey", "_id"))
	}
	return err
}
