package rigatoni

import (
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

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

// A status collects what the parts of a stream report. It is safe for concurrent
// use.
type status struct {
	hooks *Hooks

	mu      sync.Mutex
	s       StreamStatus
	tracker *tracker // of the current session, or the last one
}

func (st *status) snapshot() StreamStatus {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.s
	if st.tracker != nil {
		s.InFlight = st.tracker.inFlight()
		if pos, err := st.tracker.mark().position(); err == nil {
			s.Position = wallTime(pos.ClusterTime)
		}
	}
	return s
}

// follow has Position and InFlight come from the tracker of a session.
func (st *status) follow(t *tracker) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tracker = t
}

func (st *status) update(do func(s *StreamStatus)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	do(&st.s)
}

func (st *status) phase(p Phase) {
	changed := false
	st.update(func(s *StreamStatus) { changed, s.Phase = s.Phase != p, p })
	if changed && st.hooks.PhaseChanged != nil {
		st.hooks.PhaseChanged(st.snapshot().Key, p)
	}
}

func (st *status) failed(err error) {
	st.update(func(s *StreamStatus) { s.LastError, s.LastErrorAt = err, time.Now() })
}

func (st *status) retried(err error) {
	st.update(func(s *StreamStatus) {
		s.Retries++
		s.LastError, s.LastErrorAt = err, time.Now()
	})
}

func (st *status) attempted(d Delivered, last bson.Timestamp) {
	st.update(func(s *StreamStatus) {
		s.Events += uint64(d.Events)
		s.Bytes += uint64(d.Bytes)
		if d.Err == nil {
			s.Batches++
		}
		if t := wallTime(last); d.Events > 0 && t.After(s.LastEvent) {
			s.LastEvent = t
		}
		d.Key = s.Key
	})
	if st.hooks.Delivered != nil {
		st.hooks.Delivered(d)
	}
}

func (st *status) saved(sv Saved, checkpoint bson.Timestamp) {
	st.update(func(s *StreamStatus) {
		sv.Key = s.Key
		if sv.Err != nil {
			s.SaveErrors++
			s.LastError, s.LastErrorAt = sv.Err, time.Now()
			return
		}
		s.Saves++
		s.Checkpoint, s.LastSave = wallTime(checkpoint), time.Now()
	})
	if st.hooks.Saved != nil {
		st.hooks.Saved(sv)
	}
}

func (st *status) deadLetter(l DeadLetter) {
	st.update(func(s *StreamStatus) { s.DeadLetters++ })
	if st.hooks.Refused != nil {
		st.hooks.Refused(l)
	}
}

// wallTime is a cluster time as a time; zero if it is unknown.
func wallTime(t bson.Timestamp) time.Time {
	if t.T == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0)
}
