package rigatoni

import "time"

// A Phase is what a stream of a pipeline is doing.
type Phase string

const (
	PhaseStarting  Phase = "starting"  // not begun
	PhaseLeasing   Phase = "leasing"   // acquiring the lease, perhaps waiting for another owner
	PhaseOpening   Phase = "opening"   // opening destination and stream
	PhaseStreaming Phase = "streaming" // delivering
	PhaseRewinding Phase = "rewinding" // pausing before it goes back to the last checkpoint
	PhaseStopping  Phase = "stopping"  // delivering what is in hand, and saving
	PhaseStopped   Phase = "stopped"   // ended
	PhaseFailed    Phase = "failed"    // ended with an error
)

// A StreamStatus is the state of one stream of a pipeline. Counts are since the
// pipeline was started.
type StreamStatus struct {
	Stream, Key string
	Phase       Phase
	// Owner is the label under which this pipeline holds the lease, and Epoch the
	// lease's epoch; empty and 0 without one.
	Owner string
	Epoch uint64

	Events      uint64 // events delivered
	Bytes       uint64 // their size, as BSON
	Batches     uint64 // batches delivered
	Retries     uint64 // deliveries that failed and were tried again
	Dropped     uint64 // events that the transform did not keep
	DeadLetters uint64 // events refused and written to the dead letters
	InFlight    int    // events read and not yet covered by Position

	Saves      uint64 // checkpoints saved
	SaveErrors uint64 // saves that failed
	Rewinds    uint64 // how often the stream went back to its checkpoint

	// LastEvent is the cluster time of the last event delivered, to the second;
	// zero if there was none.
	LastEvent time.Time
	// Position is the cluster time up to which everything is read and delivered,
	// to the second: unlike LastEvent it advances while nothing happens.
	Position time.Time
	// Checkpoint is the cluster time of the last checkpoint saved, and LastSave
	// when it was saved, by the local clock; zero if none was yet.
	Checkpoint time.Time
	LastSave   time.Time
	// Gaps is how many gaps the checkpoint has on record (see [Gaps]): 100 at most.
	Gaps int

	// Outage is since when the source's server can't be read, and OutageErr why; zero
	// and nil while it answers, and if the source can't say.
	Outage    time.Time
	OutageErr error

	// Holder is the owner that this stream waits for, in PhaseLeasing, and HeldUntil
	// when its lease ends if it isn't renewed; zero if it ends with its process.
	Holder    string
	HeldUntil time.Time

	// LastError is the last error of a delivery, a save, or the stream, and
	// LastErrorAt when it happened. It stays after the error has passed.
	LastError   error
	LastErrorAt time.Time
}

// Lag is how far Position is behind now, by the local clock: a clock that is ahead
// of the cluster's adds to it. It is 0 while the position is unknown.
func (s StreamStatus) Lag(now time.Time) time.Duration {
	if s.Position.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.Position))
}
