package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

const opInvalidate = "invalidate"

// An event is one of those that an entry makes for a stream.
type event struct {
	kind  string
	entry *entry
	token bson.Raw
	// found: it is the one that the stream was opened after, or one before it.
	found bool
}

// events are what a stream is told of an entry: the change itself, and the
// invalidate that follows it where what the stream watches is gone.
func (s *stream) events(_ *store, e *entry) []*event {
	if !s.sees(e) {
		return nil
	}
	events := []*event{{kind: e.kind, entry: e}}
	collection := s.scope.coll != ""
	database := s.scope.db != "" && !collection
	if collection && (e.kind == opDrop || e.kind == opRename) || database && e.kind == opDropDatabase {
		events = append(events, &event{kind: opInvalidate, entry: e})
	}
	return events
}

var eventKinds = []string{opInsert, opUpdate, opReplace, opDelete, opDrop, opRename, opDropDatabase}

func (s *stream) sees(e *entry) bool {
	if !slices.Contains(eventKinds, e.kind) || e.ts.Before(s.start) {
		return false
	}
	internal := e.ns.db == "admin" || e.ns.db == "config" || e.ns.db == "local" || strings.HasPrefix(e.ns.coll, "system.")
	switch {
	case s.scope.coll != "":
		watched := namespace(s.scope)
		return e.ns == watched || e.kind == opRename && e.to == watched
	case s.scope.db != "":
		return e.ns.db == s.scope.db && !internal
	}
	return !internal
}

// tokenOf is what the event's token says.
func (s *stream) tokenOf(ev *event) resumetoken.Decoded {
	e := ev.entry
	d := resumetoken.Decoded{
		Format: s.format, ClusterTime: e.ts, TxnOpIndex: e.txnIndex, FromInvalidate: ev.kind == opInvalidate,
		UUID: e.uuid, DocumentKey: e.key,
	}
	if s.format == resumetoken.FormatV2 {
		d.OperationType = e.kind
		if e.kind == opRename {
			d.OperationDescription = e.describeRename()
		}
	}
	return d
}

func (e *entry) describeRename() bson.Raw {
	d := newBuilder()
	e.to.field("to", d)
	if e.toUUID != [16]byte{} {
		d.binary("dropTarget", bson.TypeBinaryUUID, e.toUUID[:])
	}
	return d.done()
}

// build makes the event's document, with its fields in the order that a 6.0
// server has them.
func (s *stream) build(st *store, ev *event) (doc bson.Raw, key []byte, err error) {
	e := ev.entry
	if ev.token, key, err = encode(s.tokenOf(ev)); err != nil {
		return nil, nil, err
	}
	if s.after == nil && e.oversize && ev.kind != opInvalidate {
		return nil, nil, tooLarge(2*maxDocumentSize, ev.token)
	}
	d := &builder{b: make([]byte, 4, 400+len(e.doc))}
	if ev.kind == opRename {
		e.to.field("to", d)
	}
	if e.lsid != nil {
		d.int64("txnNumber", e.txnNumber).doc("lsid", e.lsid)
	}
	d.doc("_id", ev.token).str("operationType", ev.kind).timestamp("clusterTime", e.ts).date("wallTime", e.wall)
	switch {
	case ev.kind == opInvalidate:
		return d.done(), key, nil
	case ev.kind == opInsert || ev.kind == opReplace:
		d.doc("fullDocument", e.doc)
	case ev.kind == opUpdate && s.lookup:
		st.lookup(d, e)
	}
	e.ns.field("ns", d)
	if e.key != nil {
		d.doc("documentKey", e.key)
	}
	if ev.kind == opUpdate {
		d.doc("updateDescription", e.change.description())
	}
	if doc = d.done(); len(doc) > maxInternalSize && s.after == nil {
		return nil, nil, tooLarge(len(doc), ev.token)
	}
	return doc, key, nil
}

func tooLarge(size int, token bson.Raw) *commandError {
	return failf(codeBSONObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB) First element: _id: %s",
		size, size, maxInternalSize, shellDoc(token))
}

// lookup adds the document as it is now, which may be null.
func (st *store) lookup(d *builder, e *entry) {
	for _, c := range st.colls {
		if c.uuid == e.uuid {
			if rec := c.byID[canonical(e.key.Lookup("_id"))]; rec != nil {
				d.doc("fullDocument", rec.doc)
				return
			}
		}
	}
	d.null("fullDocument")
}

func (ch *change) description() bson.Raw {
	d := newBuilder()
	at := d.open(bson.TypeEmbeddedDocument, "updatedFields")
	for _, f := range ch.updated {
		d.value(f.path, f.value)
	}
	d.close(at).strings("removedFields", ch.removed)
	var cut []bson.Raw
	for _, t := range ch.truncated {
		cut = append(cut, newBuilder().str("field", t.path).int32("newSize", t.size).done())
	}
	return d.docs("truncatedArrays", cut).done()
}
