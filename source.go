package rigatoni

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Source is where events come from. Package changestream has the real one,
// package rigatonitest one for tests.
//
// Open may be called for several streams at once; a Stream is used by one
// goroutine at a time.
type Source interface {
	// Streams returns the names of the source's streams, each with a checkpoint
	// of its own. A source of one stream may call it "".
	Streams() []string

	// Open opens the stream of that name at the given start, and returns once
	// the server has accepted it. It fails if the server can't be reached within
	// the time that the source's own settings allow.
	Open(ctx context.Context, stream string, at Start) (Stream, error)
}

// A Start is where to open a stream. The zero Start is "now".
type Start struct {
	// Checkpoint, if it is not nil, is the checkpoint after which to resume. The
	// source refuses, with [ErrChangedStream], one whose Fingerprint is not
	// empty and not its own.
	Checkpoint *state.Checkpoint
	// Time, if there is no Checkpoint and it is not zero, is the cluster time
	// of the first events to read.
	Time bson.Timestamp
	// Snapshot, if there is no Checkpoint, has the stream copy all that exists in its
	// scope, beginning at the position where it opens; Position().Snapshot is then the
	// state of that copy, with nothing copied yet. The source is a [Snapshotter]. A
	// copy that is in a Checkpoint goes on whether Snapshot is set or not.
	Snapshot bool
	// SnapshotAgain, with Snapshot: the destination may have documents already, as
	// after a lost history. Events of documents that are not copied yet must be
	// delivered then: a delete among them concerns a document that the copy no longer
	// finds.
	SnapshotAgain bool
	// AcceptChanged, if it is not empty, is the Accept code of a
	// [ChangedStreamError]: a checkpoint of another stream is accepted if that,
	// and nothing else, is what changed. The stream then resumes from the
	// checkpoint's cluster time, not from its token, and repeats the events of
	// that moment.
	AcceptChanged string
}

// A Stream is an open stream of events. It reopens itself as often as necessary,
// at its own position.
type Stream interface {
	// Position is where the stream stands: after Open and before the first Next,
	// where it begins.
	Position() Position

	// Fingerprint identifies the stream (see state.Checkpoint.Fingerprint).
	Fingerprint() string

	// Next waits for events, for about a second at most, and returns them with
	// the position after the last. It may return none; the position may then
	// have advanced all the same. Events before an error are returned before
	// it, by an earlier call. An error means that the stream can't continue:
	// [ErrHistoryLost], or one that says what else. When ctx ends, Next returns
	// its error soon.
	Next(ctx context.Context) ([]Event, Position, error)

	// Close frees what the stream holds on the server. The server frees it by
	// itself after a while too, so callers may ignore the error.
	Close(ctx context.Context) error
}

// A Scoper is a [Source] that can say what its streams have. Destinations that depend
// on it find it in [Opening].Scope.
type Scoper interface {
	Scope(stream string) Scope
}

// A Scope is what a stream has.
type Scope struct {
	// Database and Collections are what the stream watches, by names and by patterns
	// in which "*" stands for any characters. Without a Database it is all databases,
	// and without Collections all collections.
	Database    string
	Collections []string
	// Operations are the types of its events; empty for all.
	Operations []string
	// FullDocument is where an update has its document from: "default" (it has
	// none), "updateLookup", "whenAvailable" or "required", as MongoDB calls them.
	FullDocument string
}

// An Overlapper is a [Source] that compares its streams with those that checkpoints
// belong to. The pipeline asks at a first start, to find a checkpoint of the same
// events under another name.
type Overlapper interface {
	// Overlaps returns a function that compares a stream of the source with the
	// stream of a fingerprint (see state.Checkpoint.Fingerprint), or of a token that
	// another program has left (its name, see state.Legacy).
	Overlaps(ctx context.Context, stream string) (func(fingerprint string) Overlap, error)
}

// An Overlap is what two streams have in common.
type Overlap int

const (
	// NoOverlap: no event belongs to both.
	NoOverlap Overlap = iota
	// SomeOverlap: there may be events that belong to both.
	SomeOverlap
	// SameButCollections: there may be events that belong to both, and nothing but
	// the collections may differ. Where one of them was delivered up to a cluster
	// time, the other may begin at that time.
	SameButCollections
)

// An UnreadableError is the error of Next for an event that the source can't return: it
// is larger than the server can send, or something that is required is missing from
// it. All events before it were returned. Whether the stream can go on without it is
// for the policy of refused events (Config.DeadLetters).
type UnreadableError struct {
	// Event is what is known of the event: at least its _id and, usually, its
	// operationType, clusterTime, ns and documentKey.
	Event Event
	Err   error
}

func (e *UnreadableError) Error() string { return e.Err.Error() }

func (e *UnreadableError) Unwrap() error { return e.Err }

// A Skipper is a [Stream] that can continue after an [UnreadableError]. Skip is called
// in the place of Next, after Next returned that error; the next call of Next returns
// what comes after the event.
type Skipper interface {
	Skip(e *UnreadableError) error
}

// An OutageReporter is a [Stream] that reports since when its server can't be read,
// and why; zero and nil while all is well. Its methods are safe to call while Next
// runs.
type OutageReporter interface {
	Outage() (since time.Time, err error)

	// Interruptions is how often the stream has been interrupted, by cause. The
	// words of package changestream are network, timeout, no-reply, failover,
	// cursor, driver (which reopened the stream by itself) and other.
	Interruptions() map[string]uint64
}

// A HistoryReporter is a [Source] that reports how far back its server's history
// of events reaches. An error means that it is unknown now, or to this user.
type HistoryReporter interface {
	History(ctx context.Context) (History, error)
}

// A History is how far back a server's history of events reaches.
type History struct {
	// Oldest and Newest are the cluster times of its first and last entry.
	Oldest, Newest bson.Timestamp
	// Reach is how long the server keeps an event: the time from Oldest to Newest,
	// or longer, at the rate so far, where the server has room left. It is 0 if
	// that is unknown, as where nothing has been discarded yet.
	Reach time.Duration
}

// Runway is how long it takes, at the rate so far, until the server discards the
// events after a checkpoint of that time: how long a pipeline may be down without
// losing its position. It is 0 where the server has discarded them.
func (h History) Runway(checkpoint bson.Timestamp) (runway time.Duration, known bool) {
	if h.Reach <= 0 || checkpoint.T == 0 {
		return 0, false
	}
	if checkpoint.Before(h.Oldest) {
		return 0, true
	}
	age := time.Duration(int64(h.Newest.T)-int64(checkpoint.T)) * time.Second
	return max(0, h.Reach-max(0, age)), true
}

// ErrHistoryLost: the server no longer has the events after the checkpoint (its
// oplog has moved on), or can't find the checkpoint in them.
var ErrHistoryLost = errors.New("the server can't resume from the checkpoint")

// ErrChangedStream: the checkpoint belongs to another stream than the one that
// is configured. See [ChangedStreamError].
var ErrChangedStream = errors.New("the checkpoint belongs to another stream")

// A ChangedStreamError lists what differs between the stream that a checkpoint
// belongs to and the one that is configured. It is an [ErrChangedStream].
type ChangedStreamError struct {
	// Changes has a line for each difference: "collections: orders,users → orders".
	Changes []string
	// Accept is what Config.AcceptChangedStream must be to continue all the same.
	Accept string
}

func (e *ChangedStreamError) Error() string {
	return ErrChangedStream.Error() + " (" + quote.Text(strings.Join(e.Changes, "; ")) +
		"); to resume from the checkpoint's time with the stream as it is now, accept " + e.Accept
}

// Is makes a ChangedStreamError an ErrChangedStream.
func (e *ChangedStreamError) Is(target error) bool { return target == ErrChangedStream }
