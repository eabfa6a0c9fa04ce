package rigatoni

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An Event is one change event, as the server sent it. Nothing of it is decoded
// until a method asks for it.
//
// The pipeline never reuses its memory, so an event may be kept. It lies in the
// server's reply of up to 16 MB, though, all of which is then kept with it: copy
// Raw to keep an event for long. Events are safe for concurrent use.
type Event struct {
	// Raw is the whole event, its fields in the server's order:
	// https://www.mongodb.com/docs/manual/reference/change-events/
	Raw bson.Raw

	origin *eventOrigin // nil: it is as the source returned it, and says its own position
}

// An eventOrigin is where an event comes from, where that is more than its contents. It
// is apart so that events are small.
type eventOrigin struct {
	raw        bson.Raw   // as the server sent it; nil if that is Event.Raw
	positioner Positioner // asked for the position after it; nil: the event says
}

// Namespace is a database and a collection; Coll is empty for events of a whole
// database.
type Namespace struct {
	DB, Coll string
}

// String is the namespace as MongoDB writes it, "shop.orders".
func (n Namespace) String() string {
	if n.Coll == "" {
		return n.DB
	}
	return n.DB + "." + n.Coll
}

// With returns the event with other contents, for transforms. Its position in
// the stream (and its Token) stays that of the event as the server sent it,
// whatever raw holds.
func (e Event) With(raw bson.Raw) Event {
	if e.origin == nil || e.origin.raw == nil {
		return Event{Raw: raw, origin: &eventOrigin{e.Raw, e.positioner()}}
	}
	return Event{Raw: raw, origin: e.origin}
}

// WithPositioner returns the event with p to be asked for the position after it, in
// [PositionAfter]. It is for sources: during a snapshot a position has more to it than
// the event says.
func (e Event) WithPositioner(p Positioner) Event {
	o := eventOrigin{positioner: p}
	if e.origin != nil {
		o.raw = e.origin.raw
	}
	return Event{Raw: e.Raw, origin: &o}
}

func (e Event) positioner() Positioner {
	if e.origin == nil {
		return nil
	}
	return e.origin.positioner
}

// A Positioner computes the position after an event that the event itself does not
// have in full: see [Event.WithPositioner]. It is asked for few of the events, those
// that end a transaction or are the last before a save, and by several goroutines at
// once: it is to be cheap to make and may be slow to ask. The event is as the source
// returned it, without its positioner, so that PositionAfter of it is what the event
// says.
//
// The position after an event covers the event, all that came before it, and nothing
// that comes after.
type Positioner interface {
	PositionAfter(e Event) (Position, error)
}

// sent is the event as the server sent it.
func (e Event) sent() bson.Raw {
	if e.origin != nil && e.origin.raw != nil {
		return e.origin.raw
	}
	return e.Raw
}

// OperationType is "insert", "update", "replace", "delete", "drop", "rename",
// "dropDatabase", "invalidate", or one that a newer server sends; "read" for a
// document copied by a snapshot.
func (e Event) OperationType() string { return operationType(e.Raw) }

// IsSnapshot reports whether the event is a document copied by a snapshot, and not
// a change: it has the document as it was at ClusterTime, as FullDocument, and the
// token of the stream's position there. See Config.Snapshot.
func (e Event) IsSnapshot() bool { return e.OperationType() == "read" }

// Namespace is where the change happened; zero for an event without one
// (invalidate).
func (e Event) Namespace() Namespace {
	ns := document(e.Raw, "ns")
	db, _ := ns.Lookup("db").StringValueOK()
	coll, _ := ns.Lookup("coll").StringValueOK()
	return Namespace{DB: db, Coll: coll}
}

// DocumentKey is the _id of the document that changed, with its shard key where
// there is one; nil for events about no single document.
func (e Event) DocumentKey() bson.Raw { return document(e.Raw, "documentKey") }

// FullDocument is the document after the change: always present for insert and
// replace, for update only if the source was asked for it (and the document was
// not deleted since). Otherwise nil.
func (e Event) FullDocument() bson.Raw { return document(e.Raw, "fullDocument") }

// FullDocumentBeforeChange is the document before the change, if the source was
// asked for it and the server had it. Otherwise nil.
func (e Event) FullDocumentBeforeChange() bson.Raw {
	return document(e.Raw, "fullDocumentBeforeChange")
}

// UpdateDescription is what an update changed; nil for other events.
func (e Event) UpdateDescription() bson.Raw { return document(e.Raw, "updateDescription") }

// ClusterTime is when the change happened, by the cluster's clock. All events of
// one transaction have the same.
func (e Event) ClusterTime() bson.Timestamp { return clusterTime(e.Raw) }

// Decode decodes FullDocument into v, as bson.Unmarshal does. It returns an error
// if the event has none.
func (e Event) Decode(v any) error {
	doc := e.FullDocument()
	if doc == nil {
		return fmt.Errorf("rigatoni: the %s event has no fullDocument", e.OperationType())
	}
	return bson.Unmarshal(doc, v)
}

// Token is a copy of the event's resume token, as the server sent it.
func (e Event) Token() (resumetoken.Token, error) {
	return resumetoken.New(document(e.sent(), "_id"))
}

// PositionAfter is the position of a stream after one of its events. It is for
// sources: a position becomes a checkpoint only by delivery.
func PositionAfter(e Event) (Position, error) {
	if p := e.positioner(); p != nil {
		return p.PositionAfter(Event{Raw: e.sent()})
	}
	return e.ownPosition()
}

// ownPosition is the position after an event as far as the event itself says.
func (e Event) ownPosition() (Position, error) {
	sent := e.sent()
	t, err := e.Token()
	if err != nil {
		return Position{}, fmt.Errorf("rigatoni: a %s event has no usable _id: %w", operationType(sent), err)
	}
	return Position{Token: t, StartAfter: operationType(sent) == "invalidate", ClusterTime: clusterTime(sent)}, nil
}

func operationType(raw bson.Raw) string {
	s, _ := raw.Lookup("operationType").StringValueOK()
	return s
}

func clusterTime(raw bson.Raw) bson.Timestamp {
	t, i, _ := raw.Lookup("clusterTime").TimestampOK()
	return bson.Timestamp{T: t, I: i}
}

func document(raw bson.Raw, field string) bson.Raw {
	doc, _ := raw.Lookup(field).DocumentOK()
	return doc
}
