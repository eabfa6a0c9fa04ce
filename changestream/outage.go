package changestream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// An outage is a time in which a stream can't be read. It is logged once when it
// begins and once when it ends, whatever happens in between. It is safe for
// concurrent use.
type outage struct {
	log      *slog.Logger
	min, max time.Duration
	tell     func(*rigatoni.Interruption) // rigatoni.Start's; may be nil

	mu       sync.Mutex
	since    time.Time // zero: there is none
	attempts int
	told     bool // tell was called, and not yet with nil
}

// begin notes a failure.
func (o *outage) begin(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.report(cause(err), errors.New(messageOf(err)))
	if o.note("change stream interrupted, reopening it", "err", messageOf(err)) {
		o.attempts = 0
		return
	}
	o.attempts++
}

// silence notes that the server doesn't reply. That counts as no attempt.
func (o *outage) silence(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.note("change stream interrupted, the server doesn't reply", "silent_seconds", seconds(d))
}

// quiet notes that the server has not replied for a while, which is too short to be
// logged: it may be busy.
func (o *outage) quiet(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.report("no-reply", fmt.Errorf("the server has not replied for %v", d.Round(time.Second)))
}

// resumed notes that the driver has reopened the stream by itself.
func (o *outage) resumed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tell != nil && !o.told {
		o.tell(&rigatoni.Interruption{Cause: "driver"})
		o.tell(nil)
	}
}

// report tells the pipeline of an interruption, once.
func (o *outage) report(cause string, err error) {
	if o.tell == nil || o.told {
		return
	}
	o.told = true
	o.tell(&rigatoni.Interruption{Cause: cause, Err: err})
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
	if o.told {
		o.told = false
		o.tell(nil)
	}
	if o.since.IsZero() {
		return
	}
	o.log.Info("change stream is read again", "outage_seconds", seconds(time.Since(o.since)))
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
