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
	Refused     uint64 // events refused
	DeadLetters uint64 // of those, the ones written to the dead letters
	InFlight    int    // events read and not yet covered by Position

	Saves      uint64 // checkpoints saved
	SaveErrors uint64 // saves that failed
	Rewinds    uint64 // how often the stream went back to its checkpoint
	// Interruptions is how often the open stream was interrupted, by cause: see
	// [OutageReporter].
	Interruptions map[string]uint64

	// LastEvent is the cluster time of the last event delivered, to the second;
	// zero if there was none.
	LastEvent time.Time
	// Position is the cluster time up to which everything is read and delivered,
	// to the second: unlike LastEvent it advances while nothing happens.
	Position time.Time
	// Checkpoint is the cluster time of the last checkpoint, and LastSave when it
	// was saved, by the clock of who saved it, or was last seen to cover all that
	// there was to cover. Zero if there is none yet.
	Checkpoint time.Time
	LastSave   time.Time
	// Gaps is how many gaps the checkpoint has on record (see [Gaps]): 100 at most.
	// LastGap is the last of them.
	Gaps    int
	LastGap Gap

	// Runway is how long the server will still have the events after Checkpoint:
	// how long the pipeline may be down. RunwayKnown is false where that can't be
	// read: see [History].
	Runway      time.Duration
	RunwayKnown bool

	// Snapshot is how far the copy has got that is under way; nil if none is.
	Snapshot *SnapshotStatus

	// StoreFailed is since when saves or renewals of the lease fail, and StoreErr why;
	// zero and nil while they don't.
	StoreFailed time.Time
	StoreErr    error

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
