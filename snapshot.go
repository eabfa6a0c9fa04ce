package rigatoni

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A Snapshotter is a [Source] that can copy what exists: see Start.Snapshot. The
// documents come as events of the type "read" ([Event.IsSnapshot]), between the
// changes, so that each document's versions are in order. Such an event has the
// fields _id (the token of the stream's position where the document was read),
// operationType, clusterTime (of that position), ns, documentKey (of the _id alone)
// and fullDocument, the first five as events of changes have them.
type Snapshotter interface {
	Source

	// CanSnapshot returns why the source, as it is configured, can't copy; nil if it
	// can. The pipeline asks before anything is opened.
	CanSnapshot() error
}

// A SnapshotEnd is the end of the copy of a collection: all documents that exist in
// it have been delivered, those as new as Began and newer ones.
type SnapshotEnd struct {
	Namespace Namespace
	// Began is the token of the position where the copy began. What the destination
	// has of the collection with an earlier token was neither found by the copy nor
	// touched by a later event: it no longer exists.
	Began resumetoken.Token
}

// operationSnapshotEnd is the type of the events of [SnapshotEnd.Event], for messages.
const operationSnapshotEnd = "snapshotEnd"

// Event makes an event of the end of a copy, for a source to return after the last
// document of the collection. The pipeline passes it on to nobody: when everything
// before it is delivered, it has the sink sweep, if it is a [Sweeper], and then counts
// the event as delivered. The position after it, for which p is asked, no longer
// has the collection.
func (e SnapshotEnd) Event(p Positioner) Event {
	raw, err := bson.Marshal(bson.D{
		{Key: "operationType", Value: operationSnapshotEnd},
		{Key: "ns", Value: bson.D{{Key: "db", Value: e.Namespace.DB}, {Key: "coll", Value: e.Namespace.Coll}}},
	})
	if err != nil {
		panic(err) // of strings
	}
	return Event{Raw: raw}.WithPositioner(endPositioner{p, e})
}

// An endPositioner marks an event as the end of a copy.
type endPositioner struct {
	Positioner
	end SnapshotEnd
}

// snapshotEnd is the end of a copy that an event stands for, if it does.
func (e Event) snapshotEnd() (SnapshotEnd, bool) {
	p, ok := e.positioner().(endPositioner)
	return p.end, ok
}

// A Sweeper is a [Sink] that removes what no longer exists when the copy of a
// collection has ended: documents that were deleted while nobody read the stream.
//
// Sweep deletes, or marks as deleted, what the destination has of end.Namespace with a
// version before end.Began, and nothing else: what has that version or a later one was
// found by the copy, or touched by an event since. It is called when all events before
// the end are delivered, and never beside Deliver, DeliverAt or Sync. It may be called
// again after it returned nil, after a crash. It is not part of a transaction with a
// checkpoint: where the sink is [Transactional], Sweep checks in its own transactions
// that the fence it was opened with ([Opening].Fence) is still that of the record, and
// otherwise changes nothing and returns state.ErrFenced.
//
// An error is retried as one of Deliver is, for ever unless it is [Permanent] or
// Config.MaxAttempts is reached; the pipeline then stops, also with Config.DeadLetters,
// since there is no event to go on without. Config.DeliverTimeout cuts a Sweep off: one
// that may take long works in steps that last, so that the next attempt has less to do.
type Sweeper interface {
	Sink
	Sweep(ctx context.Context, end SnapshotEnd) error
}

// A SnapshotReporter is a [Stream] that reports how far its copy has got. Where none is
// under way it returns false, with the figures of the last one that has ended in this
// stream, if there was one. Its method is safe to call while Next runs.
type SnapshotReporter interface {
	Snapshot() (SnapshotStatus, bool)
}

// A SnapshotStatus is how far a copy has got. Counts are since the copy began, also
// where it was interrupted; estimates are of the server's counts when it began, and 0
// if unknown.
type SnapshotStatus struct {
	// Collections are those of the copy, 100 at most: those in progress first, then
	// those that wait, then those that are done.
	Collections      []CollectionSnapshot
	CollectionsTotal int
	CollectionsDone  int

	Documents, DocumentsEstimated int64 // read
	Bytes, BytesEstimated         int64 // their size, as BSON

	// Rate is documents a second, lately. ETA is how long the rest takes at that
	// rate; 0 if unknown.
	Rate float64
	ETA  time.Duration

	// Began is when the copy began.
	Began time.Time
}

// A CollectionSnapshot is how far the copy of one collection has got.
type CollectionSnapshot struct {
	Namespace Namespace
	Done      bool

	Documents, DocumentsEstimated int64
	Bytes, BytesEstimated         int64
}
