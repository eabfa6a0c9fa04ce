package rigatonitest

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// Insert returns the event of an insert into the collection ns ("shop.orders"). A
// document without an _id gets one, as from a driver.
//
// Each event that this package creates is one second later than the previous one in the
// process; the first one's time is the beginning of 2026. Insert panics if ns is not a
// namespace or BSON can't represent the document; so do the other functions.
func Insert(ns string, doc any) rigatoni.Event {
	full := document(doc)
	if _, err := full.LookupErr("_id"); err != nil {
		full = document(slices.Concat(bson.D{{Key: "_id", Value: bson.NewObjectID()}}, fields(full)))
	}
	return ofDocument("insert", ns, full.Lookup("_id"), bson.D{{Key: "fullDocument", Value: full}}, nil)
}

// Replace returns the event of a replacement by doc, which has the _id of the document
// that it replaces.
func Replace(ns string, doc any) rigatoni.Event {
	full := document(doc)
	id, err := full.LookupErr("_id")
	if err != nil {
		panic("rigatonitest: Replace needs a document with the _id of the one that it replaces")
	}
	return ofDocument("replace", ns, id, bson.D{{Key: "fullDocument", Value: full}}, nil)
}

// Update returns the event of an update that set the fields of updated (a document; nil
// for none) in the document with this _id, and removed others. Names may be paths, as
// in "address.city". The event has no fullDocument, as with a source that doesn't ask
// for it; see [With].
func Update(ns string, id, updated any, removed ...string) rigatoni.Event {
	if updated == nil {
		updated = bson.D{}
	}
	if removed == nil {
		removed = []string{}
	}
	return ofDocument("update", ns, id, nil, bson.D{{Key: "updateDescription", Value: bson.D{
		{Key: "updatedFields", Value: document(updated)},
		{Key: "removedFields", Value: removed},
		{Key: "truncatedArrays", Value: bson.A{}},
	}}})
}

// Delete returns the event of a delete of the document with this _id.
func Delete(ns string, id any) rigatoni.Event {
	return ofDocument("delete", ns, id, nil, nil)
}

// Drop returns the event of a drop of the collection ns. In a stream of that collection
// alone an [Invalidate] event follows.
func Drop(ns string) rigatoni.Event {
	m := next("drop", ns)
	return m.event(nil, m.token(nil), nil, bson.D{{Key: "ns", Value: m.namespace()}})
}

// Rename returns the event of a rename of the collection ns.
func Rename(ns, to string) rigatoni.Event {
	m := next("rename", ns)
	target := moment{ns: parse(to)}
	// The server writes this field first.
	return m.event(bson.D{{Key: "to", Value: target.namespace()}}, m.token(nil), nil, bson.D{{Key: "ns", Value: m.namespace()}})
}

// DropDatabase returns the event of a drop of a database.
func DropDatabase(db string) rigatoni.Event {
	m := next("dropDatabase", db+".x")
	m.ns.Coll = ""
	return m.event(nil, m.token(nil), nil, bson.D{{Key: "ns", Value: bson.D{{Key: "db", Value: db}}}})
}

// Invalidate returns the event by which the server closes a stream after cause, an event
// of [Drop], [Rename] or [DropDatabase]. A pipeline resumes after it.
func Invalidate(cause rigatoni.Event) rigatoni.Event {
	switch op := cause.OperationType(); op {
	case "drop", "rename", "dropDatabase":
		m := moment{op: "invalidate", ns: cause.Namespace(), at: cause.ClusterTime()}
		return m.event(nil, m.token(nil), nil, nil)
	default:
		panic(fmt.Sprintf("rigatonitest: the event %q does not invalidate a stream; Invalidate needs one of Drop, Rename or DropDatabase", op))
	}
}

// With returns ev with one of its top-level fields set, such as fullDocument,
// fullDocumentBeforeChange, or a field that only a newer server writes. The other
// fields, the resume token included, stay as they are.
func With(ev rigatoni.Event, field string, value any) rigatoni.Event {
	d := fields(ev.Raw)
	at := slices.IndexFunc(d, func(e bson.E) bool { return e.Key == field })
	if at >= 0 {
		d[at].Value = value
		return rigatoni.Event{Raw: document(d)}
	}
	at = len(d)
	if rank := slices.Index(order, field); rank >= 0 {
		if i := slices.IndexFunc(d, func(e bson.E) bool { return slices.Index(order, e.Key) > rank }); i >= 0 {
			at = i
		}
	}
	return rigatoni.Event{Raw: document(slices.Insert(d, at, bson.E{Key: field, Value: value}))}
}

// order is the order of the server's fields.
var order = []string{
	"_id", "operationType", "clusterTime", "collectionUUID", "wallTime", "fullDocument", "ns", "documentKey",
	"updateDescription", "fullDocumentBeforeChange",
}

// A moment is the time, the namespace and the type of an event.
type moment struct {
	op string
	ns rigatoni.Namespace
	at bson.Timestamp
}

const firstSecond = 1767225600 // 2026-01-01T00:00:00Z

var made atomic.Uint32 // events, in the whole program

func next(op, ns string) moment {
	return moment{op: op, ns: parse(ns), at: bson.Timestamp{T: firstSecond + made.Add(1), I: 1}}
}

func parse(ns string) rigatoni.Namespace {
	db, coll, _ := strings.Cut(ns, ".")
	if db == "" || coll == "" {
		panic(fmt.Sprintf("rigatonitest: %q is not a namespace; write the database and the collection, as shop.orders", ns))
	}
	return rigatoni.Namespace{DB: db, Coll: coll}
}

func (m moment) namespace() bson.D {
	return bson.D{{Key: "db", Value: m.ns.DB}, {Key: "coll", Value: m.ns.Coll}}
}

// ofDocument is an event about one document, with fields before and after those
// that all such events have.
func ofDocument(op, ns string, id any, before, after bson.D) rigatoni.Event {
	m := next(op, ns)
	key := document(bson.D{{Key: "_id", Value: id}})
	common := bson.D{{Key: "ns", Value: m.namespace()}, {Key: "documentKey", Value: key}}
	return m.event(nil, m.token(key), before, append(common, after...))
}

func (m moment) event(first bson.D, token bson.Raw, parts ...bson.D) rigatoni.Event {
	d := append(first, bson.D{
		{Key: "_id", Value: token},
		{Key: "operationType", Value: m.op},
		{Key: "clusterTime", Value: m.at},
		{Key: "wallTime", Value: bson.DateTime(int64(m.at.T) * 1000)},
	}...)
	for _, part := range parts {
		d = append(d, part...)
	}
	return rigatoni.Event{Raw: document(d)}
}

func document(v any) bson.Raw {
	raw, err := bson.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("rigatonitest: a document can't be made of a %T: %v", v, err))
	}
	return raw
}

// fields are those of a document, in order, their values undecoded.
func fields(doc bson.Raw) bson.D {
	elements, err := doc.Elements()
	if err != nil {
		panic(fmt.Sprintf("rigatonitest: the event is not BSON: %v", err))
	}
	d := make(bson.D, len(elements))
	for i, e := range elements {
		d[i] = bson.E{Key: e.Key(), Value: e.Value()}
	}
	return d
}
