package rigatoni

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An Event is one change event, as the server sent it. Nothing of it is decoded
// until it is asked for.
//
// Its memory is never used again by the pipeline, so an event may be kept; but
// it lies in the server's reply of up to 16 MB, all of which is then kept with
// it. Copy Raw to keep an event for long. Events are safe for concurrent use.
type Event struct {
	// Raw is the whole event, its fields in the server's order:
	// https://www.mongodb.com/docs/manual/reference/change-events/
	Raw bson.Raw
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

// OperationType is what happened: "insert", "update", "replace", "delete",
// "drop", "rename", "dropDatabase", "invalidate", or one that a newer server
// knows.
func (e Event) OperationType() string {
	s, _ := e.Raw.Lookup("operationType").StringValueOK()
	return s
}

// Namespace is where it happened; zero for an event without one (invalidate).
func (e Event) Namespace() Namespace {
	ns := e.document("ns")
	db, _ := ns.Lookup("db").StringValueOK()
	coll, _ := ns.Lookup("coll").StringValueOK()
	return Namespace{DB: db, Coll: coll}
}

// DocumentKey is the _id, and where there is one the shard key, of the document
// that changed; nil for events about no single document.
func (e Event) DocumentKey() bson.Raw { return e.document("documentKey") }

// FullDocument is the document after the change: always there for insert and
// replace, for update only if the source was asked for it (and the document was
// not deleted since). Otherwise nil.
func (e Event) FullDocument() bson.Raw { return e.document("fullDocument") }

// FullDocumentBeforeChange is the document before the change, if the source was
// asked for it and the server had it. Otherwise nil.
func (e Event) FullDocumentBeforeChange() bson.Raw { return e.document("fullDocumentBeforeChange") }

// UpdateDescription says what an update changed; nil for other events.
func (e Event) UpdateDescription() bson.Raw { return e.document("updateDescription") }

// ClusterTime is when it happened, by the cluster's clock. All events of one
// transaction have the same.
func (e Event) ClusterTime() bson.Timestamp {
	t, i, _ := e.Raw.Lookup("clusterTime").TimestampOK()
	return bson.Timestamp{T: t, I: i}
}

// Decode decodes FullDocument into v, as bson.Unmarshal does. It is an error if
// the event has none.
func (e Event) Decode(v any) error {
	doc := e.FullDocument()
	if doc == nil {
		return fmt.Errorf("rigatoni: the %s event has no fullDocument", e.OperationType())
	}
	return bson.Unmarshal(doc, v)
}

// Token is the event's resume token, a copy.
func (e Event) Token() (resumetoken.Token, error) { return resumetoken.New(e.document("_id")) }

// Position is where the stream stands after this event.
func (e Event) Position() (Position, error) {
	t, err := e.Token()
	if err != nil {
		return Position{}, fmt.Errorf("rigatoni: a %s event has no usable _id: %w", e.OperationType(), err)
	}
	return Position{Token: t, StartAfter: e.OperationType() == "invalidate", ClusterTime: e.ClusterTime()}, nil
}

func (e Event) document(field string) bson.Raw {
	doc, _ := e.Raw.Lookup(field).DocumentOK()
	return doc
}
