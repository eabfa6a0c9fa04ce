package rigatoni

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Position is how far a stream has been read. It becomes a checkpoint only by
// delivery, which is why it is a type of its own.
type Position struct {
	// Token is the resume token of the last event read, or a later one that the
	// server gave with an empty batch.
	Token resumetoken.Token
	// StartAfter: Token is that of an invalidate event, with which only
	// startAfter can open the stream.
	StartAfter bool
	// ClusterTime is the time of the last event or, where the server gave a later
	// token with an empty batch, of that token; zero if it is not known.
	ClusterTime bson.Timestamp
}

// delivered makes the position a checkpoint. The pipeline calls it once all up
// to the position has been delivered, and nothing else may.
func (p Position) delivered() state.Checkpoint {
	return state.Checkpoint{Token: p.Token, StartAfter: p.StartAfter, ClusterTime: p.ClusterTime}
}

// A Source is where events come from. Package changestream has the real one,
// package rigatonitest one for tests.
//
// Open may be called for several streams at once; a Stream is used by one
// goroutine at a time.
type Source interface {
	// Streams names the streams that the source has, each with a place of its
	// own. A source of one stream may call it "".
	Streams() []string

	// Open opens the stream of that name at the given place, and returns once
	// the server has accepted it. It fails if the server can't be reached within
	// the time that the source's own settings allow.
	Open(ctx context.Context, stream string, at Start) (Stream, error)
}

// A Start is the place to open a stream at. The zero Start is "now".
type Start struct {
	// Checkpoint, if it is not nil, is the place after which to go on. The
	// source refuses, with [ErrChangedStream], one whose Fingerprint is not
	// empty and not its own.
	Checkpoint *state.Checkpoint
	// Time, if there is no Checkpoint and it is not zero, is the cluster time
	// of the first events to read.
	Time bson.Timestamp
	// AcceptChanged, if it is not empty, is the name of a change, as a
	// [ChangedStreamError] gives it: a checkpoint of another stream is accepted if
	// what changed is that, and no other change. The stream then goes on from the
	// checkpoint's cluster time, not from its token, and repeats the events of
	// that moment.
	AcceptChanged string
}

// A Stream is an open stream of events. It reopens itself as often as it takes,
// at its own place, with whatever the server needs for that.
type Stream interface {
	// Position is where the stream stands: after Open and before the first Next,
	// the place that it begins at.
	Position() Position

	// Fingerprint says what stream this is (see state.Checkpoint.Fingerprint).
	Fingerprint() string

	// Next waits for events, for at most about a second, and returns those that
	// came, with the position after the last. None may have come; the position
	// may then have moved all the same. The events before an error are returned
	// before it, by an earlier call. An error means that the stream can't go on:
	// [ErrHistoryLost], or one that says what else. When ctx ends, Next returns
	// its error soon.
	Next(ctx context.Context) ([]Event, Position, error)

	// Close frees what the stream holds on the server. The server frees it by
	// itself after a while too, so callers may ignore the error.
	Close(ctx context.Context) error
}

// ErrHistoryLost: the server no longer has the events after the checkpoint (its
// oplog has moved on), or can't find the place in them.
var ErrHistoryLost = errors.New("the server can't go on from the checkpoint")

// ErrChangedStream: the checkpoint belongs to another stream than the one that
// is configured. See [ChangedStreamError].
var ErrChangedStream = errors.New("the checkpoint belongs to another stream")

// A ChangedStreamError says what differs between the stream that a checkpoint
// belongs to and the one that is configured. It is an [ErrChangedStream].
type ChangedStreamError struct {
	// Changes says it, a line for each difference: "collections: orders,users → orders".
	Changes []string
	// Accept is what Start.AcceptChanged must be to go on all the same.
	Accept string
}
