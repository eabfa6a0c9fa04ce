package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/rigatoni-etl/rigatoni"
)

// A plan is what a transaction writes: for each collection, the writes of its events in the
// order of the stream. The order between collections doesn't matter, since all of it becomes
// visible at once.
type plan struct {
	sink    *sink
	copying bool // what is written is marked as touched (see sweep)

	writes []*writes
	of     map[*target]*writes
}

// writes are those to one collection.
type writes struct {
	to     *target
	models []mongo.WriteModel
	events []rigatoni.Event // of the models
	marks  []mongo.WriteModel
}

func (p *plan) clear() { p.writes, p.of = nil, nil }

// ignored are the operations that change no document. (The documents of a dropped database
// have been dropped with its collections, each by an event of its own.)
var ignored = map[string]bool{
	"dropDatabase": true, "invalidate": true, "create": true, "createIndexes": true, "dropIndexes": true, "modify": true,
	"shardCollection": true, "refineCollectionShardKey": true, "reshardCollection": true, "startIndexBuild": true, "abortIndexBuild": true,
}

// add adds an event, or returns the change of a whole collection that it is.
func (p *plan) add(ctx context.Context, ev rigatoni.Event) (*change, error) {
	switch op := ev.OperationType(); {
	case op == "insert" || op == "update" || op == "replace" || op == "read":
		return nil, p.upsert(ctx, ev)
	case op == "delete":
		return nil, p.delete(ctx, ev)
	case op == "drop" || op == "rename":
		return p.sink.changeOf(ctx, ev)
	case ignored[op]:
		p.sink.sayIgnored(ev)
		return nil, nil
	default:
		return nil, rigatoni.Permanent(fmt.Errorf("mongodb: the operation %q is not known", op))
	}
}

// sayIgnored logs the first event of an operation that does nothing here.
func (s *sink) sayIgnored(ev rigatoni.Event) {
	op := ev.OperationType()
	if op == "invalidate" || op == "dropDatabase" || s.said[op] {
		return
	}
	s.said[op] = true
	s.d.opts.Logger.Info("not mirrored: the mirror has documents only, no indexes and options", "key", s.key, "operation", op, "namespace", ev.Namespace().String())
}

func (p *plan) upsert(ctx context.Context, ev rigatoni.Event) error {
	doc := ev.FullDocument()
	if doc == nil {
		if v, err := ev.Raw.LookupErr("fullDocument"); err == nil && v.Type == bson.TypeNull && ev.OperationType() == "update" {
			return nil // deleted since; that event follows
		}
		return rigatoni.Permanent(fmt.Errorf("mongodb: the %s event has no document; have the source add it: full-document: updateLookup (changestream.Options.FullDocument)", ev.OperationType()))
	}
	w, id, err := p.document(ctx, ev)
	if err != nil {
		return err
	}
	for _, m := range replacement(id, doc) {
		w.models, w.events = append(w.models, m), append(w.events, ev)
	}
	if p.copying && w.to.marked {
		mark, err := w.to.mark(ev, id)
		if err != nil {
			return err
		}
		w.marks = append(w.marks, mark)
	}
	return nil
}

func (p *plan) delete(ctx context.Context, ev rigatoni.Event) error {
	w, id, err := p.document(ctx, ev)
	if err != nil {
		return err
	}
	w.models, w.events = append(w.models, mongo.NewDeleteOneModel().SetFilter(equal(id))), append(w.events, ev)
	return nil
}

// document is where an event's document is, and its _id. A documentKey has the shard key,
// too, which the mirror need not have.
func (p *plan) document(ctx context.Context, ev rigatoni.Event) (*writes, bson.RawValue, error) {
	id, err := ev.DocumentKey().LookupErr("_id")
	if err != nil {
		return nil, id, rigatoni.Permanent(fmt.Errorf("mongodb: the %s event has no _id in its documentKey", ev.OperationType()))
	}
	t, err := p.sink.target(ctx, ev, p.copying)
	if err != nil {
		return nil, id, err
	}
	w := p.of[t]
	if w == nil {
		if w = (&writes{to: t}); p.of == nil {
			p.of = map[*target]*writes{}
		}
		p.of[t], p.writes = w, append(p.writes, w)
	}
	return w, id, nil
}

// equal is the filter of the document with this _id. Written so, the server finds the document
// without planning a query; no _id is a regular expression or has operators, which this could be
// taken for.
func equal(id bson.RawValue) bson.Raw {
	return bsoncore.BuildDocument(nil, bsoncore.AppendValueElement(nil, "_id", bsoncore.Value{Type: bsoncore.Type(id.Type), Data: id.Value}))
}

// largeDocument is the size from which a document may be too large for an update, which has
// the filter beside it. A document may have 16 MB by itself.
const largeDocument = 16<<20 - 64<<10

// replacement makes the document what doc is. What a replacement can't express is written by
// a pipeline, and what is too large for that is deleted and inserted, in the same transaction.
func replacement(id bson.RawValue, doc bson.Raw) []mongo.WriteModel {
	switch {
	case len(doc) >= largeDocument:
		return []mongo.WriteModel{mongo.NewDeleteOneModel().SetFilter(equal(id)), mongo.NewInsertOneModel().SetDocument(doc)}
	case isSpecial(doc):
		literally := mongo.Pipeline{{{Key: "$replaceWith", Value: bson.D{{Key: "$literal", Value: doc}}}}}
		return []mongo.WriteModel{mongo.NewUpdateOneModel().SetFilter(equal(id)).SetUpdate(literally).SetUpsert(true)}
	}
	return []mongo.WriteModel{mongo.NewReplaceOneModel().SetFilter(equal(id)).SetReplacement(doc).SetUpsert(true)}
}

// isSpecial reports whether the server would take a replacement for something else: a field
// with a dollar sign for an operator, an empty timestamp for the time that it is.
func isSpecial(doc bson.Raw) bool {
	const start, end = 4, 1 // of a document, around its elements
	emptyTime := make([]byte, 8)
	for rest := bsoncore.Element(doc[start : len(doc)-end]); len(rest) > 0; {
		e, next, ok := bsoncore.ReadElement(rest)
		if !ok {
			return false // the server says what is wrong
		}
		if e[1] == '$' || bson.Type(e[0]) == bson.TypeTimestamp && bytes.HasSuffix(e, emptyTime) && e.Key() != "_id" {
			return true
		}
		rest = next
	}
	return false
}

// write makes the writes. ctx has the transaction.
func (p *plan) write(ctx context.Context) error {
	for _, w := range p.writes {
		if _, err := w.to.coll.BulkWrite(ctx, w.models); err != nil {
			return w.explain(err)
		}
		if len(w.marks) == 0 {
			continue
		}
		if _, err := p.sink.d.marks.BulkWrite(ctx, w.marks, options.BulkWrite().SetOrdered(false)); err != nil {
			return fmt.Errorf("mongodb: marking what a copy has written: %w", explained(err))
		}
	}
	return nil
}

// explain says which document a server refuses, and that it would refuse it again.
func (w *writes) explain(err error) error {
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) || len(bulk.WriteErrors) == 0 {
		return fmt.Errorf("mongodb: writing to %s: %w", w.to.name, explained(err))
	}
	return w.refused(bulk, bulk.WriteErrors[0])
}

func (w *writes) refused(bulk mongo.BulkWriteException, e mongo.BulkWriteError) error {
	err := fmt.Errorf("mongodb: %s refuses a document (code %d): %w", w.to.name, e.Code, explained(bulk))
	if bulk.HasErrorLabel("TransientTransactionError") || !isAboutDocument(e.Code) {
		return err
	}
	return rigatoni.Permanent(err)
}
