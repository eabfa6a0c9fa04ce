package changestream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// An outage is the time in which a stream can't be read. It is logged once at its
// beginning and once at its end, whatever goes wrong in between. It is safe for
// concurrent use.
type outage struct {
	log      *slog.Logger
	min, max time.Duration

	mu       sync.Mutex
	since    time.Time // zero: there is none
	attempts int
}

// begin notes that something went wrong, again.
func (o *outage) begin(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.note("the change stream broke off; reopening it at its place until that succeeds", "err", wordsOf(err)) {
		o.attempts = 0
		return
	}
	o.attempts++
}

// silence notes that the server does not answer. That counts as no attempt.
func (o *outage) silence(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.note("the server does not answer; the change stream goes on when it does", "for", d.Round(time.Second))
}

func (o *outage) note(msg string, args ...any) (first bool) {
	if !o.since.IsZero() {
		return false
	}
	o.since = time.Now()
	o.log.Warn(msg, args...)
	return true
}

// over notes that something was read.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return
	}
	o.log.Info("the change stream is read again", "after", time.Since(o.since).Round(time.Millisecond))
	o.since, o.attempts = time.Time{}, 0
}

func (o *outage) lasts() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return 0
	}
	return time.Since(o.since)
}

// pause waits as long as is due before the next attempt: not at all before the
// first.
func (o *outage) pause(ctx context.Context) error {
	o.mu.Lock()
	var d time.Duration
	if o.attempts > 0 {
		d = backoff.Duration(o.min, o.max, o.attempts-1)
	}
	o.mu.Unlock()
	return backoff.Wait(ctx, d)
}
