package rigatoni

import (
	"errors"

	"github.com/rigatoni-etl/rigatoni/state"
)

// ErrCheckpointLost: the store had a checkpoint of this stream, and now reports
// that there is none, although this pipeline did not clear it.
var ErrCheckpointLost = errors.New("the checkpoint was there before and is gone")

// ErrUndelivered: the pipeline stopped with events that had been read and could
// not be delivered. Nothing is lost: they are redelivered after the next start.
var ErrUndelivered = errors.New("stopped with events in hand that were not delivered")

// ErrUnsaved: events were delivered that the last checkpoint does not cover, and
// the checkpoint could not be saved. Nothing is lost: they are redelivered after
// the next start.
var ErrUnsaved = errors.New("the last checkpoint is not saved")

// ErrDeliveryHung: a call of the destination, usually Deliver, or of the transform,
// the dead letters or the store, did not return after its context had ended. It may
// still run, so the pipeline stops.
var ErrDeliveryHung = errors.New("a call did not return after its context had ended")

// ErrDestinationClosed: the destination takes nothing more, whatever the event: a pipe
// that nobody reads any more, say, or a table that somebody has dropped. A Deliver that
// returns it ends the pipeline; no event is refused for it, also if it is [Permanent].
var ErrDestinationClosed = errors.New("the destination is closed")

// errRewind: the destination may have lost what was delivered since the last
// checkpoint, so the stream has to go back there.
var errRewind = errors.New("going back to the last checkpoint")

// errLeaseLost: the lease ended while the pipeline ran.
var errLeaseLost = errors.New("the lease was lost")

// transactionIsFinal reports whether an error of a transaction is about the checkpoint in
// it, and not about its events: another attempt would have the same.
func transactionIsFinal(err error) bool {
	if isPermanent(err) {
		return false
	}
	for _, final := range []error{state.ErrFenced, state.ErrStale, state.ErrInvalid, state.ErrClosed, state.ErrCorrupt, state.ErrNewer} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// saveIsFinal reports whether an error of a save will be the same next time. A
// custom store may return errors that this package does not know: those
// are retried, since the old checkpoint is safe meanwhile.
func saveIsFinal(err error) bool {
	for _, final := range []error{
		state.ErrFenced, state.ErrLeaseHeld, state.ErrStale, state.ErrInvalid, state.ErrClosed,
		state.ErrCorrupt, state.ErrNewer, errors.ErrUnsupported,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
