package rigatoni

import (
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// A saveSchedule is when a checkpoint is to be saved next. It is safe for concurrent use.
type saveSchedule struct {
	mu        sync.Mutex
	events    uint64    // of the mark that was saved last
	lastTry   time.Time // to save
	failures  int       // in a row
	nextRetry time.Time // after a failure
}

func (s *saveSchedule) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.lastTry, s.failures = 0, time.Now(), 0
}

// hasEvents reports whether events up to m are not saved.
func (s *saveSchedule) hasEvents(m mark) bool { return s.unsaved(m) > 0 }

func (s *saveSchedule) unsaved(m mark) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.events - s.events
}

// in is how long until the next save is due, if one is every so often.
func (s *saveSchedule) in(every time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.lastTry.Add(every)
	if s.failures > 0 {
		at = s.nextRetry
	}
	return max(0, time.Until(at))
}

func (s *saveSchedule) tried(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastTry = now
}

func (s *saveSchedule) saved(m mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.failures, s.lastTry = m.events, 0, time.Now()
}

// failed notes a save that failed, and returns how many have in a row, and when to
// try again. The pauses are bounded more closely than those between deliveries: a
// store that fails over is back within seconds, and what is delivered until that is
// noticed would be redelivered; once a second harms nobody.
func (s *saveSchedule) failed(cfg *Config) (failures int, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause = backoff.Duration(cfg.RetryMin, saveRetryMax(cfg), s.failures)
	s.failures++
	s.nextRetry = time.Now().Add(pause)
	return s.failures, pause
}

func saveRetryMax(c *Config) time.Duration { return max(c.RetryMin, min(c.RetryMax, time.Second)) }
