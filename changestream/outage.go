package changestream

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// An outage is a time in which a stream can't be read. It is logged once when it
// begins and once when it ends, whatever happens in between. It is safe for
// concurrent use.
type outage struct {
	log      *slog.Logger
	min, max time.Duration

	mu       sync.Mutex
	since    time.Time // zero: there is none
	err      error     // its first error; nil if the server is silent
	attempts int
	counted  map[string]uint64 // outages, by cause
	asked    time.Time         // when the call that is running began; zero: none is
}

// asks notes that a call begins, and answered that it has ended.
func (o *outage) asks() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = time.Now()
}

func (o *outage) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = time.Time{}
}

// report is since when the server can't be read, and why: an outage, or a call that
// has been running for longer than patience. It is zero while all is well.
func (o *outage) report(patience time.Duration) (since time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.since.IsZero():
		return o.since, o.err
	case !o.asked.IsZero() && time.Since(o.asked) > patience:
		return o.asked, errSilent
	}
	return time.Time{}, nil
}

var errSilent = errors.New("the server doesn't reply")

// interruptions is how many outages there were, by cause.
func (o *outage) interruptions() map[string]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.counted)
}

func (o *outage) count(cause string) {
	if o.counted == nil {
		o.counted = map[string]uint64{}
	}
	o.counted[cause]++
}

// resumed notes that the driver has reopened the stream by itself.
func (o *outage) resumed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count("driver")
}

// begin notes a failure.
func (o *outage) begin(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.note("change stream interrupted, reopening it", "err", messageOf(err)) {
		o.count(cause(err))
		o.attempts, o.err = 0, errors.New(messageOf(err))
		return
	}
	o.attempts++
}

// silence notes that the server doesn't reply. That counts as no attempt.
func (o *outage) silence(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.note("change stream interrupted, the server doesn't reply", "silent_seconds", seconds(d)) {
		o.err = errSilent
		o.count("no-reply")
	}
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
	o.log.Info("change stream is read again", "outage_seconds", seconds(time.Since(o.since)))
	o.since, o.err, o.attempts = time.Time{}, nil, 0
}

func (o *outage) lasts() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return 0
	}
	return time.Since(o.since)
}

// pause waits before the next attempt: not at all before the first.
func (o *outage) pause(ctx context.Context) error {
	o.mu.Lock()
	var d time.Duration
	if o.attempts > 0 {
		d = backoff.Duration(o.min, o.max, o.attempts-1)
	}
	o.mu.Unlock()
	return backoff.Wait(ctx, d)
}

// seconds is a duration for logs.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
