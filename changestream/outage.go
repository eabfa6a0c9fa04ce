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
	logged   bool
	since    time.Time // zero: there is none
	err      error     // its first error
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
	case o.logged:
		return o.since, o.err
	case !o.asked.IsZero() && time.Since(o.asked) > patience:
		return o.asked, errLate
	}
	return time.Time{}, nil
}

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

// resumed notes that the driver has reopened the stream by itself. What was logged
// meanwhile was counted then.
func (o *outage) resumed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.logged {
		o.count("driver")
	}
}

// began notes since when nothing was read, for an outage that is only suspected.
func (o *outage) began(since time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = since
	}
}

// begin notes a failure, after which the stream is to be reopened.
func (o *outage) begin(err error) {
	o.began(time.Now())
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.logged && o.attempts < 0 {
		o.attempts = 0 // the first attempt to reopen is due
		return
	}
	if o.note(err) {
		o.attempts = 0
		return
	}
	o.attempts++
}

// suspect notes that the server is away, before the driver gives up. That counts as no
// attempt.
func (o *outage) suspect(err error) {
	o.began(time.Now())
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.note(err) {
		o.attempts = -1
	}
}

func (o *outage) note(err error) (first bool) {
	if o.logged {
		return false
	}
	o.logged, o.err = true, errors.New(causeOf(err))
	o.count(cause(err))
	args := []any{"err", causeOf(err)}
	if address := addressOf(err); address != "" {
		args = append(args, "address", address)
	}
	o.log.Warn("change stream interrupted, reopening it", args...)
	return true
}

// over notes that something was read.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.logged {
		o.log.Info("change stream is read again", "outage_seconds", seconds(time.Since(o.since)))
	}
	o.since, o.logged, o.err, o.attempts = time.Time{}, false, nil, 0
}

// lasts reports whether there is an outage.
func (o *outage) lasts() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.logged
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
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
