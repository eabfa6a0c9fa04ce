package rigatoni

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

// ErrUnclaimed: this would be a first start, but the store has checkpoints under
// the pipeline's name that belong to none of its streams. It looks as if a
// stream had been renamed, and its place would be lost.
var ErrUnclaimed = errors.New("the store has checkpoints of this pipeline that none of its streams claims")

// ErrCheckpointLost: the store had a checkpoint of this stream, and now says that
// there is none, although this pipeline did not take it away.
var ErrCheckpointLost = errors.New("the checkpoint was there before and is gone")

func (e *ChangedStreamError) Error() string {
	return ErrChangedStream.Error() + " (" + strings.Join(e.Changes, "; ") + "); to go on from its time with the stream as it is now, accept " + e.Accept
}

// Is makes a ChangedStreamError an ErrChangedStream.
func (e *ChangedStreamError) Is(target error) bool { return target == ErrChangedStream }

// errRewind: the destination may have lost what was delivered since the last
// checkpoint, so the stream has to go back there.
var errRewind = errors.New("going back to the last checkpoint")

func isRewind(err error) bool { return errors.Is(err, errRewind) }

// errLeaseLost: the lease ended while the pipeline ran.
var errLeaseLost = errors.New("the lease was lost")

// saveIsFinal tells whether an error of a save will be the same next time. A
// store of the user's own may return errors that this package knows nothing of:
// those are tried again, since the place is safe meanwhile.
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

// permanent returns the error with which a run stops because the destination
// will never take ev.
func permanent(ev Event, err error) error {
	return fmt.Errorf("the destination refused an event for good (%s in %s at cluster time %d.%d): %w",
		ev.OperationType(), ev.Namespace(), ev.ClusterTime().T, ev.ClusterTime().I, err)
}
