package rigatoni

import (
	"cmp"
	"errors"
	"maps"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A monitor collects what the parts of a stream report. It is safe for concurrent
// use.
type monitor struct {
	hooks *Hooks

	mu      sync.Mutex
	s       StreamStatus
	tracker *tracker         // of the current session, or the last one
	outage  OutageReporter   // of the stream of the current session; nil without
	copying SnapshotReporter // as well

	patience time.Duration // with a store that is asked to renew a lease; 0: no lease
	answered time.Time     // when the store last answered
}

// storePatience is how long nothing may be heard from a store that renews a lease: it
// is asked every third of the TTL.
func storePatience(cfg *Config) time.Duration {
	if cfg.LeaseTTL < 0 {
		return 0
	}
	return cmp.Or(cfg.LeaseTTL, state.DefaultLeaseTTL)/3 + 2*time.Second
}

var errStoreSilent = errors.New("the store doesn't answer")

func (st *monitor) snapshot() StreamStatus {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.s
	s.Interruptions = maps.Clone(s.Interruptions)
	if st.tracker != nil {
		s.InFlight = st.tracker.inFlight()
		s.Position = wallTime(st.tracker.mark().time())
	}
	if st.outage != nil {
		s.Outage, s.OutageErr = st.outage.Outage()
		s.addInterruptions(st.outage)
	}
	if st.copying != nil {
		if progress, ok := st.copying.Snapshot(); ok {
			s.Snapshot = &progress
		}
	}
	if quiet := time.Since(st.answered); s.Owner != "" && s.StoreFailed.IsZero() && st.patience > 0 && quiet > st.patience {
		s.StoreFailed, s.StoreErr = st.answered, errStoreSilent
	}
	if s.Position.Before(s.Checkpoint) { // before the stream is open
		s.Position = s.Checkpoint
	}
	return s
}

func (s *StreamStatus) addInterruptions(of OutageReporter) {
	for cause, n := range of.Interruptions() {
		if s.Interruptions == nil {
			s.Interruptions = map[string]uint64{}
		}
		s.Interruptions[cause] += n
	}
}

// follow has Position and InFlight come from the tracker of a session, and Outage and
// Snapshot from its stream, until the session has ended.
func (st *monitor) follow(t *tracker, stream Stream) (ended func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tracker = t
	st.outage, _ = stream.(OutageReporter)
	st.copying, _ = stream.(SnapshotReporter)
	return func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.outage != nil {
			st.s.addInterruptions(st.outage)
		}
		st.outage, st.copying = nil, nil
	}
}

func (st *monitor) update(do func(s *StreamStatus)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	do(&st.s)
}

func (st *monitor) phase(p Phase) {
	changed := false
	st.update(func(s *StreamStatus) { changed, s.Phase = s.Phase != p, p })
	if changed && st.hooks.PhaseChanged != nil {
		st.hooks.PhaseChanged(st.snapshot().Key, p)
	}
}

func (st *monitor) failed(err error) {
	st.update(func(s *StreamStatus) { s.LastError, s.LastErrorAt = err, time.Now() })
}

func (st *monitor) retried(err error) {
	st.update(func(s *StreamStatus) {
		s.Retries++
		s.LastError, s.LastErrorAt = err, time.Now()
	})
}

func (st *monitor) attempted(d Delivery, last bson.Timestamp) {
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

// loaded notes the checkpoint that the store has.
func (st *monitor) loaded(cp state.Checkpoint) {
	st.update(func(s *StreamStatus) { s.Checkpoint, s.LastSave = wallTime(cp.ClusterTime), cp.SavedAt })
}

// covered notes that the checkpoint covers all that was read.
func (st *monitor) covered() {
	st.update(func(s *StreamStatus) { s.LastSave = time.Now() })
}

func (st *monitor) saved(sv Save, checkpoint bson.Timestamp) {
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

func (st *monitor) deadLetter(l DeadLetter) {
	st.update(func(s *StreamStatus) { s.DeadLetters++ })
	if st.hooks.Refused != nil {
		st.hooks.Refused(l)
	}
}

// refused notes an event that is refused.
func (st *monitor) refused() { st.update(func(s *StreamStatus) { s.Refused++ }) }

// leasing notes an attempt to acquire or to renew the lease.
func (st *monitor) leasing(err error) {
	held := new(state.HeldError)
	errors.As(err, &held) // or nobody
	st.update(func(s *StreamStatus) { s.Holder, s.HeldUntil = held.Owner, held.Until })
	st.asked(err)
}

// asked notes whether the store did what it was asked to. To refuse by its rules is to
// work.
func (st *monitor) asked(err error) {
	st.update(func(s *StreamStatus) {
		if err == nil || saveIsFinal(err) {
			s.StoreFailed, s.StoreErr, st.answered = time.Time{}, nil, time.Now()
			return
		}
		now := time.Now()
		s.LastError, s.LastErrorAt, s.StoreErr = err, now, err
		if s.StoreFailed.IsZero() {
			s.StoreFailed = now
		}
	})
}

// wallTime is a cluster time as a time; zero if it is unknown.
func wallTime(t bson.Timestamp) time.Time {
	if t.T == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0)
}
