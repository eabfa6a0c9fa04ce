package rigatoni

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// slowAfter is how long a call may go on without progress before it is logged.
const slowAfter = 30 * time.Second

// A watchdog makes the calls of what users have written, and waits for them as long
// as they make progress. It is safe for concurrent use.
type watchdog struct {
	log     *slog.Logger
	timeout time.Duration // without progress; not positive: no limit
	grace   time.Duration // to return after the timeout
}

func newWatchdog(cfg *Config, log *slog.Logger) watchdog {
	return watchdog{log: log, timeout: cfg.DeliverTimeout, grace: cfg.GraceTime}
}

// A watchedCall is a call to be watched.
type watchedCall struct {
	name     string // for messages: "delivery"
	do       func(ctx context.Context) error
	progress func() int           // grows while the call makes progress; may be nil
	attrs    func(done int) []any // for the log; may be nil
}

// call makes a call. Its context ends if it makes no progress. A panic and a
// runtime.Goexit are errors. A call that does not return after its context has ended
// is abandoned, with ErrDeliveryHung.
func (w watchdog) call(ctx context.Context, c watchedCall) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	result := guarded(func() error { return c.do(ctx) })
	var (
		count  int
		since  = time.Now() // of the last progress
		logged bool
		timer  = time.NewTimer(w.nextLook(since, false))
	)
	defer timer.Stop()
	for {
		select {
		case err := <-result:
			if logged {
				w.log.Info("slow "+c.name+" ended", "err", err)
			}
			return err
		case <-ctx.Done():
			return await(ctx, result)
		case <-timer.C:
		}
		if n := c.done(); n > count {
			count, since = n, time.Now()
		}
		idle := time.Since(since)
		if idle >= slowAfter && !logged {
			logged = true
			w.log.Warn("slow "+c.name, append(c.logAttrs(count), "running_seconds", idle.Seconds())...)
		}
		if w.timeout > 0 && idle >= w.timeout {
			return w.giveUp(cancel, result)
		}
		timer.Reset(w.nextLook(since, logged))
	}
}

func (c watchedCall) done() int {
	if c.progress == nil {
		return 0
	}
	return c.progress()
}

func (c watchedCall) logAttrs(done int) []any {
	if c.attrs == nil {
		return nil
	}
	return c.attrs(done)
}

// nextLook is when something may have to be done about a call that runs.
func (w watchdog) nextLook(since time.Time, logged bool) time.Duration {
	next := time.Hour
	if !logged {
		next = min(next, time.Until(since.Add(slowAfter)))
	}
	if w.timeout > 0 {
		next = min(next, time.Until(since.Add(w.timeout)))
	}
	return max(next, time.Millisecond)
}

// giveUp ends a call that makes no progress.
func (w watchdog) giveUp(cancel context.CancelCauseFunc, result <-chan error) error {
	timedOut := fmt.Errorf("no progress for %v (DeliverTimeout)", w.timeout)
	cancel(timedOut)
	t := time.NewTimer(w.grace)
	defer t.Stop()
	select {
	case err := <-result:
		if err == nil {
			return nil
		}
		return fmt.Errorf("%w: %w", timedOut, err)
	case <-t.C:
		return fmt.Errorf("%w: %w", ErrDeliveryHung, timedOut)
	}
}
