package rigatoni

import (
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// A due is when a checkpoint is to be saved next. It is safe for concurrent use.
type due struct {
	mu        sync.Mutex
	events    uint64    // of the mark that was saved last
	lastTry   time.Time // to save
	failures  int       // in a row
	nextRetry time.Time // after a failure
}

func (d *due) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events, d.lastTry, d.failures = 0, time.Now(), 0
}

// hasEvents reports whether events up to m are not saved.
func (d *due) hasEvents(m mark) bool { return d.unsaved(m) > 0 }

func (d *due) unsaved(m mark) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return m.events - d.events
}

// in is how long until the next save is due, if one is every so often.
func (d *due) in(every time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.lastTry.Add(every)
	if d.failures > 0 {
		at = d.nextRetry
	}
	return max(0, time.Until(at))
}

func (d *due) tried(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastTry = now
}

func (d *due) saved(m mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events, d.failures, d.lastTry = m.events, 0, time.Now()
}

// failed notes a save that failed, and returns how many have in a row, and when to
// try again. The pauses are bounded more closely than those between deliveries: a
// store that fails over is back within seconds, and what is delivered until that is
// noticed would be redelivered; once a second harms nobody.
func (d *due) failed(cfg *Config) (failures int, pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pause = backoff.Duration(cfg.RetryMin, saveRetryMax(cfg), d.failures)
	d.failures++
	d.nextRetry = time.Now().Add(pause)
	return d.failures, pause
}

func saveRetryMax(c *Config) time.Duration { return max(c.RetryMin, min(c.RetryMax, time.Second)) }
