package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Batch is a run of events of one stream, in the server's order, never empty.
type Batch struct {
	// Stream is the name of the stream, as its source calls it.
	Stream string
	// Events are the events. A destination may keep them (see [Event]), but not
	// change the slice.
	Events []Event
	// Bytes is the size of all events, as BSON.
	Bytes int
}

// A Destination takes events.
//
// Deliver returns nil once every event of b is delivered in the destination's
// own terms; the pipeline saves the checkpoint after that and never before. On
// an error the same batch comes again, after a pause, until it is delivered, the
// pipeline stops, or the error is [Permanent]. What may have been delivered
// before the error comes again, so delivering twice should be harmless; a
// destination that knows how far it got returns [Partial].
//
// Calls for one stream come one at a time, in order; those for different
// streams come concurrently. ctx ends with the lease, and at the end of the
// grace time of a shutdown; not when a shutdown begins.
type Destination interface {
	Deliver(ctx context.Context, b *Batch) error
}

// Func is a [Destination] made of a function that is called for each event in
// turn. An error stops at its event: when the batch is tried again, it begins
// with that one.
type Func func(ctx context.Context, ev Event) error

// Deliver calls f for each event of the batch.
func (f Func) Deliver(ctx context.Context, b *Batch) error {
	for i, ev := range b.Events {
		if err := f(ctx, ev); err != nil {
			return Partial(i, err)
		}
	}
	return nil
}

// An Attacher is a destination that must know what it delivers for. For each
// stream, and again each time that the stream goes back to its checkpoint, the
// pipeline calls Attach before the stream is opened, and delivers to the
// destination that it returns; when done with it, it calls its Close, if it has
// one (io.Closer).
type Attacher interface {
	Attach(ctx context.Context, a Attachment) (Destination, error)
}

// An Attachment says what a destination is about to be used for.
type Attachment struct {
	// Key is the key of the checkpoint, and Stream the name of the stream.
	Key, Stream string
	// Epoch is the epoch of the lease; 0 if there is none. No two owners of a
	// key have the same.
	Epoch uint64
	// First: this is a first start, without a checkpoint. A destination that
	// has output of Key all the same should refuse, with [ErrOutputExists]: it
	// looks as if the checkpoint had been lost.
	First bool
	// Saved is what Sync returned before the last checkpoint was saved, nil if
	// nothing was.
	Saved json.RawMessage
}

// ErrOutputExists: there is output already, and no checkpoint that belongs to it.
var ErrOutputExists = errors.New("there is output already, but no checkpoint")

// A Syncer is a destination whose Deliver is not yet durable.
//
// Sync makes durable what has been delivered, and is called before each
// checkpoint is saved. What it returns, if anything, is saved in the same write
// as the checkpoint, and comes back in [Attachment.Saved]. After an error the
// pipeline saves nothing and goes back to the last checkpoint: it attaches and
// opens anew, and delivers again what was delivered since.
type Syncer interface {
	Sync(ctx context.Context) (json.RawMessage, error)
}

// Permanent marks an error of Deliver as one that no repetition will mend. The
// pipeline stops at it, with everything before it delivered and saved if
// the error is also [Partial], and the event in question named in its error.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Partial is the error of a Deliver that delivered the first n events of the
// batch and failed at the next. The pipeline goes on from there.
func Partial(n int, err error) error {
	if err == nil {
		return nil
	}
	return &PartialError{Delivered: n, Err: err}
}

// A PartialError is what [Partial] makes.
type PartialError struct {
	Delivered int
	Err       error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("after %d events of the batch: %v", e.Delivered, e.Err)
}

func (e *PartialError) Unwrap() error { return e.Err }

// extraName is the name in state.Checkpoint.Extra of what Sync returned.
const extraName = "destination"

func savedBySync(cp *state.Checkpoint) json.RawMessage { return cp.Extra[extraName] }
