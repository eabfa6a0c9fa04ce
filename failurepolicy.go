package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// A failurePolicy is what to do about failed deliveries: how often to try, how long to
// pause, and what becomes of an event that is refused. It is safe for concurrent
// use.
type failurePolicy struct {
	key, stream string
	maxAttempts int // 0: no limit
	retryMin    time.Duration
	retryMax    time.Duration
	letters     DeadLetters // nil: stop
	watchdog    watchdog
	log         *slog.Logger
	status      *monitor
}

// final reports whether an error, of that attempt, is the last one.
func (p *failurePolicy) final(err error, attempt int) bool {
	return isPermanent(err) || p.maxAttempts > 0 && attempt >= p.maxAttempts
}

// pause waits before the next attempt. A failure is logged when it begins, and
// again at the 2nd, 4th, 8th … attempt: an outage may be long.
func (p *failurePolicy) pause(ctx context.Context, ev Event, attempt int, err error) error {
	p.status.retried(err)
	d := backoff.Duration(p.retryMin, p.retryMax, attempt-1)
	p.log.Log(ctx, thinned(attempt), "delivery failed; retrying", append(eventAttrs(ev),
		"err", err, "attempt", attempt, "retry_in_seconds", d.Seconds())...)
	return backoff.Wait(ctx, d)
}

// refuse disposes of an event that is refused: into the dead letters, or with the
// error that stops the pipeline.
func (p *failurePolicy) refuse(ctx context.Context, ev Event, attempts int, err error) error {
	if p.letters == nil {
		return p.stop(ev, attempts, err)
	}
	sent := Event{Raw: ev.sent()}
	p.status.refused()
	pos, perr := sent.ownPosition()
	if perr != nil {
		return perr
	}
	l := DeadLetter{Key: p.key, Stream: p.stream, Event: sent, Position: pos, Err: err, Attempts: attempts, At: time.Now()}
	for n := 1; ; n++ {
		perr := p.watchdog.call(ctx, watchedCall{name: "dead letter", do: func(ctx context.Context) error { return p.letters.Put(ctx, l) }})
		if perr == nil {
			break
		}
		if errors.Is(perr, ErrDeliveryHung) {
			return perr
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.pause(ctx, sent, n, fmt.Errorf("writing the dead letter: %w", perr)); err != nil {
			return err
		}
	}
	p.status.deadLetter(l)
	p.log.Error("event refused; written to the dead letters", append(eventAttrs(sent), "err", err, "attempts", attempts)...)
	return nil
}

// stop is the error that stops the pipeline at an event that is refused.
func (p *failurePolicy) stop(ev Event, attempts int, err error) error {
	sent := Event{Raw: ev.sent()}
	p.status.refused()
	p.log.Error("event refused", append(eventAttrs(sent), "err", err, "attempts", attempts)...)
	return &RefusedError{Event: sent, Attempts: attempts, Err: err}
}
