package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// A refuser is the policy for failed deliveries: how often to try, how long to
// pause, and what becomes of an event that is refused. It is safe for concurrent
// use.
type refuser struct {
	key, stream string
	maxAttempts int // 0: no limit
	retryMin    time.Duration
	retryMax    time.Duration
	letters     DeadLetters // nil: stop
	log         *slog.Logger
	status      *monitor
}

// final reports whether an error, of that attempt, is the last one.
func (r *refuser) final(err error, attempt int) bool {
	var p *PermanentError
	return errors.As(err, &p) || r.maxAttempts > 0 && attempt >= r.maxAttempts
}

// pause waits before the next attempt. A failure is logged when it begins, and
// again at the 2nd, 4th, 8th … attempt: an outage may be long.
func (r *refuser) pause(ctx context.Context, ev Event, attempt int, err error) error {
	r.status.retried(err)
	d := backoff.Duration(r.retryMin, r.retryMax, attempt-1)
	level := slog.LevelDebug
	if attempt&(attempt-1) == 0 {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, "delivery failed; retrying", append(eventAttrs(ev),
		"err", err, "attempt", attempt, "retry_in_seconds", d.Seconds())...)
	return backoff.Wait(ctx, d)
}

// refuse disposes of an event that is refused: into the dead letters, or with the
// error that stops the pipeline.
func (r *refuser) refuse(ctx context.Context, ev Event, attempts int, err error) error {
	sent := Event{Raw: ev.sent()}
	if r.letters == nil {
		r.log.Error("event refused", append(eventAttrs(sent), "err", err, "attempts", attempts)...)
		return &RefusedError{Event: sent, Attempts: attempts, Err: err}
	}
	pos, perr := PositionAfter(ev)
	if perr != nil {
		return perr
	}
	l := DeadLetter{Key: r.key, Stream: r.stream, Event: sent, Position: pos, Err: err, Attempts: attempts, At: time.Now()}
	for n := 1; ; n++ {
		perr := r.letters.Put(ctx, l)
		if perr == nil {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.pause(ctx, sent, n, fmt.Errorf("writing the dead letter: %w", perr)); err != nil {
			return err
		}
	}
	r.status.deadLetter(l)
	r.log.Error("event refused; written to the dead letters", append(eventAttrs(sent), "err", err, "attempts", attempts)...)
	return nil
}
