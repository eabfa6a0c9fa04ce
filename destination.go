package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Destination is where events go. [Func] is one made of a function.
//
// Open prepares it for one session of a stream and returns what to deliver to. A
// session lasts from there until the pipeline stops, loses its lease, or has to
// go back to its last checkpoint: then Open is called again. Sessions of one
// stream follow one another; those of different streams run concurrently.
type Destination interface {
	Open(ctx context.Context, o Opening) (Sink, error)
}

// A Sink takes the events of one session.
//
// Deliver returns nil once every event of b is delivered in the destination's
// own terms; the checkpoint is saved after that and never before. After an error
// the events that were not delivered are delivered again, after a pause, until
// that succeeds, the pipeline stops, or the event is refused: the error is
// [Permanent], or Config.MaxAttempts is reached. What may have been delivered
// before the error is delivered again, so delivering twice should be harmless. A
// sink that knows how far it got returns [Partial].
//
// Deliver is called by one goroutine at a time, in the order of the stream,
// unless the sink is [Concurrent]. ctx ends with the lease, with
// Config.DeliverTimeout, and at the end of the grace time of a stop; not when
// the stop begins. A Deliver that has not returned a second after that is
// abandoned. A panic, or runtime.Goexit, in Deliver counts as an error.
//
// What else a sink can do is a small interface, found with [As]: [Syncer],
// [Committer], [Concurrent], [Transactional] and io.Closer. Close is called at
// the end of the session, and never while another call runs. It may take as long
// as Config.GraceTime.
type Sink interface {
	Deliver(ctx context.Context, b *Batch) error
}

// An Opening is what a session of a stream begins with.
type Opening struct {
	// Key is the key of the checkpoint, and Stream the name of the stream.
	Key, Stream string
	// Scope is what the stream has; nil if its source is no [Scoper].
	Scope *Scope
	// Overlaps compares the stream with that of a fingerprint, as [Overlapper] has it: a
	// destination that is a deployment of MongoDB finds out whether the stream reads what
	// it writes. It asks the source's server; nil if the source is no Overlapper.
	Overlaps func(ctx context.Context, fingerprint string) (Overlap, error)
	// Fence is that of the lease; zero if there is none. No two owners of a key
	// have the same. The epoch grows with each owner, except that it can go back
	// where the store was restored from a backup, lost, or exchanged for another.
	Fence state.Fence

	// FirstStart: there is no checkpoint. A destination that has output of Key
	// all the same refuses, with an [OutputError] of [ErrOutputExists], unless
	// AcceptAnyOutput is set: it looks as if the checkpoint had been lost.
	FirstStart      bool
	AcceptAnyOutput bool
	// AcceptOutput is Config.AcceptOutput: the Accept code of an [OutputError];
	// empty at a first start, where FirstStart.Accept decides.
	AcceptOutput string

	// Saved is what Sync returned before the last checkpoint was saved, nil if
	// nothing was. SavedAt and ClusterTime are those of that checkpoint, for
	// messages.
	Saved       json.RawMessage
	SavedAt     time.Time
	ClusterTime bson.Timestamp
}

// A Syncer is a [Sink] whose Deliver is not yet durable.
//
// Sync makes durable what has been delivered, and is called before each
// checkpoint is saved. What it returns, if anything, is saved in the same write
// as the checkpoint, and is [Opening].Saved in the next session. After an error
// the pipeline saves nothing and goes back to the last checkpoint: it opens
// destination and stream again, and redelivers what was delivered since.
//
// Sync and Deliver are called one at a time. A Syncer is never [Concurrent].
type Syncer interface {
	Sink
	Sync(ctx context.Context) (json.RawMessage, error)
}

// A Committer is a [Syncer] that acts on what a checkpoint covers: it renames a
// finished file, say.
//
// Committed is called after each checkpoint that was saved, with what Sync
// returned for it. Events may have been delivered since. It is called one at a
// time with Sync and Deliver. After an error the pipeline goes back to that
// checkpoint, as after one of Sync. A crash may come between the save and the
// call: the next Open has the same in [Opening].Saved, and does what is left.
type Committer interface {
	Syncer
	Committed(ctx context.Context, saved json.RawMessage) error
}

// A Concurrent sink is safe for several calls of Deliver at once, if Concurrent
// returns true. Config.Concurrency above 1 needs one. Each call has events of
// different documents; those of one document come in order.
type Concurrent interface {
	Sink
	Concurrent() bool
}

// A Transactional sink takes a batch and the checkpoint after it in one
// transaction, so that every event takes effect exactly once. Its [Destination]
// keeps the checkpoints: it is a [Checkpointer].
//
// DeliverAt is called instead of Deliver. In its transaction it reads and locks
// the record of the checkpoint, admits cp under f as record.Admit does (an error
// of Admit ends the transaction, and is returned), applies the events, and writes
// the record. Where cp is a repetition (record.IsRepetition), an earlier attempt
// was committed although its answer was lost: DeliverAt then applies nothing and
// returns nil. rigatonitest.Database is an example.
//
// The calls come one at a time. After an error the transaction may have been
// committed or not, or may yet be: the pipeline repeats the same call. An error
// that is [Permanent] says that nothing of this attempt took effect. A batch that
// is refused is delivered event by event, under the fence of another lease, to
// find the event to blame; and an event becomes a dead letter only once a new
// fence keeps out what may be left of earlier attempts, and the checkpoint shows
// that none was committed. There are no parts of a transaction: a [Partial] of
// more than 0 events is an error, and [Batch.Done] only restarts DeliverTimeout.
type Transactional interface {
	Sink
	DeliverAt(ctx context.Context, b *Batch, f state.Fence, cp state.Checkpoint) error
}

// A Checkpointer is a [Destination] that keeps the checkpoints of its streams.
// The pipeline uses this store, which must have leases, and Config.Store stays
// nil: there is no second place that could disagree.
type Checkpointer interface {
	Checkpoints() state.Store
}

// As finds the capability T (one of this package's interfaces, or one that only
// some sink or destination has) in v, a [Sink] or [Destination], or in what v
// decorates. A decorator passes on what it wraps with a method Unwrap() Sink or
// Unwrap() Destination. A capability that is found in what is wrapped is called
// there, past the decorator: one that must see every event defines Deliver and
// DeliverAt both, or has no Unwrap.
func As[T any](v any) (T, bool) {
	for v != nil {
		if t, ok := v.(T); ok {
			return t, true
		}
		switch u := v.(type) {
		case interface{ Unwrap() Sink }:
			v = u.Unwrap()
		case interface{ Unwrap() Destination }:
			v = u.Unwrap()
		default:
			v = nil
		}
	}
	var none T
	return none, false
}

// What a destination can find at opening, for errors.Is. See [OutputError].
var (
	// ErrOutputExists: there is output already, and no checkpoint.
	ErrOutputExists = errors.New("there is output already, but no checkpoint")
	// ErrOutputAhead: the output holds events that the checkpoint does not
	// cover, and which can't be taken back, as when an old checkpoint was
	// restored: those events would be delivered a second time.
	ErrOutputAhead = errors.New("the output is ahead of the checkpoint")
)

// An OutputError is how a destination refuses to open because its output and
// the checkpoint disagree.
type OutputError struct {
	// Err is [ErrOutputExists] or [ErrOutputAhead].
	Err error
	// Facts are what the decision needs: what was found where, and of when.
	Facts string
	// Accept is what Config.AcceptOutput must be to continue all the same. It
	// stands for these facts alone, so that it can't accept a later case. At a
	// first start the code is that of the [FirstStartError], which stands for this
	// one as well, or for Facts if it is empty.
	Accept string
	// Since is the cluster time of the output's last event that readers have or
	// will have, if it is known: a stream that begins there skips nothing.
	Since bson.Timestamp
}

func (e *OutputError) Error() string { return e.Err.Error() + ": " + e.Facts }

func (e *OutputError) Unwrap() error { return e.Err }
