package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

const opInvalidate = "invalidate"

// An event is one of those that an oplog entry makes in a stream.
type event struct {
	kind  string
	entry *entry
}

// oversize reports whether it counts as larger than a document may be.
func (ev *event) oversize() bool { return ev.entry.oversize && ev.kind != opInvalidate }

// events returns the events of an entry in this stream: the change itself, and
// the invalidate after it if the stream's collection or database no longer
// exists.
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

// tokenOf returns the contents of the event's token.
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

// build returns the event's document, with its fields in the order of a 6.0
// server.
func (s *stream) build(st *store, ev *event, token bson.Raw) bson.Raw {
	e := ev.entry
	d := bsondoc.NewSize(400 + len(e.doc))
	if ev.kind == opRename {
		e.to.field("to", d)
	}
	if e.lsid != nil {
		d.Int64("txnNumber", e.txnNumber).Doc("lsid", e.lsid)
	}
	d.Doc("_id", token).Str("operationType", ev.kind).Timestamp("clusterTime", e.ts)
	if ev.kind == opInvalidate {
		return d.Date("wallTime", e.wall).Done()
	}
	if s.expanded && !e.view && e.uuid != [16]byte{} {
		d.Binary("collectionUUID", bson.TypeBinaryUUID, e.uuid[:])
	}
	d.Date("wallTime", e.wall)
	switch {
	case ev.kind == opInsert || ev.kind == opReplace:
		d.Doc("fullDocument", e.doc)
	case ev.kind == opUpdate && s.full == "updateLookup":
		d.DocOrNull("fullDocument", st.lookup(e))
	case ev.kind == opUpdate && s.full != "default":
		d.DocOrNull("fullDocument", e.postImage())
	}
	e.ns.field("ns", d)
	if e.key != nil {
		d.Doc("documentKey", e.key)
	}
	if ev.kind == opUpdate {
		d.Doc("updateDescription", e.change.Description())
	}
	if s.expanded && e.description != nil {
		d.Doc("operationDescription", e.description)
	}
	if e.state != nil {
		d.Doc("stateBeforeChange", e.state)
	}
	if s.before != "off" && ev.hasBefore() {
		d.DocOrNull("fullDocumentBeforeChange", e.before)
	}
	return d.Done()
}

// lookup returns the current document; nil if it was deleted.
func (st *store) lookup(e *entry) bson.Raw {
	for _, c := range st.colls {
		if c.uuid == e.uuid {
			if rec := c.byID[bsondoc.Canonical(e.key.Lookup("_id"))]; rec != nil {
				return rec.doc
			}
		}
	}
	return nil
}
