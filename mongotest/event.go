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
}

// oversize tells whether it counts as larger than a document may be.
func (ev *event) oversize() bool { return ev.entry.oversize && ev.kind != opInvalidate }

// events are what a stream is told of an entry: the change itself, and the
// invalidate that follows it where what the stream watches is gone.
func (s *stream) events(e *entry) []*event {
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

var (
	eventKinds    = []string{opInsert, opUpdate, opReplace, opDelete, opDrop, opRename, opDropDatabase}
	expandedKinds = []string{opCreate, opCreateIndexes, opDropIndexes, opModify}
)

func (s *stream) sees(e *entry) bool {
	known := slices.Contains(eventKinds, e.kind) || s.expanded && slices.Contains(expandedKinds, e.kind)
	if !known || e.ts.Before(s.start) {
		return false
	}
	if e.view && (!s.expanded || s.scope.coll != "") {
		return false
	}
	internal := isInternal(e.ns.db) || strings.HasPrefix(e.ns.coll, "system.")
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
func (s *stream) tokenOf(ev *event, format resumetoken.Format) resumetoken.Decoded {
	e := ev.entry
	d := resumetoken.Decoded{
		Format: format, ClusterTime: e.ts, TxnOpIndex: e.txnIndex, FromInvalidate: ev.kind == opInvalidate,
		UUID: e.uuid, DocumentKey: e.key,
	}
	if format == resumetoken.FormatV2 || slices.Contains(expandedKinds, e.kind) {
		d.OperationType, d.OperationDescription = e.kind, e.description
	}
	return d
}

// build makes the event's document, with its fields in the order that a 6.0
// server has them.
func (s *stream) build(st *store, ev *event, token bson.Raw) bson.Raw {
	e := ev.entry
	d := newBuilderSize(400 + len(e.doc))
	if ev.kind == opRename {
		e.to.field("to", d)
	}
	if e.lsid != nil {
		d.int64("txnNumber", e.txnNumber).doc("lsid", e.lsid)
	}
	d.doc("_id", token).str("operationType", ev.kind).timestamp("clusterTime", e.ts)
	if ev.kind == opInvalidate {
		return d.date("wallTime", e.wall).done()
	}
	if s.expanded && !e.view && e.uuid != [16]byte{} {
		d.binary("collectionUUID", bson.TypeBinaryUUID, e.uuid[:])
	}
	d.date("wallTime", e.wall)
	switch {
	case ev.kind == opInsert || ev.kind == opReplace:
		d.doc("fullDocument", e.doc)
	case ev.kind == opUpdate && s.full == "updateLookup":
		d.image("fullDocument", st.lookup(e))
	case ev.kind == opUpdate && s.full != "default":
		d.image("fullDocument", e.postImage())
	}
	e.ns.field("ns", d)
	if e.key != nil {
		d.doc("documentKey", e.key)
	}
	if ev.kind == opUpdate {
		d.doc("updateDescription", e.change.description())
	}
	if s.expanded && e.description != nil {
		d.doc("operationDescription", e.description)
	}
	if e.state != nil {
		d.doc("stateBeforeChange", e.state)
	}
	if s.before != "off" && ev.hasBefore() {
		d.image("fullDocumentBeforeChange", e.before)
	}
	return d.done()
}

// lookup is the document as it is now; nil if it is gone.
func (st *store) lookup(e *entry) bson.Raw {
	for _, c := range st.colls {
		if c.uuid == e.uuid {
			if rec := c.byID[canonical(e.key.Lookup("_id"))]; rec != nil {
				return rec.doc
			}
		}
	}
	return nil
}
