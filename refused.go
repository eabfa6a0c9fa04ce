package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// Permanent marks an error of Deliver or of a transform as one that no repetition
// will mend: the event is refused at once. It is nil if err is.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

// A PermanentError is what [Permanent] returns.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// Partial is the error of a Deliver that delivered the first n events of the
// batch and failed at the next, with err. The pipeline continues with that one.
// It is nil if err is.
func Partial(n int, err error) error {
	if err == nil {
		return nil
	}
	return &PartialError{Delivered: n, Err: err}
}

// A PartialError is what [Partial] returns.
type PartialError struct {
	Delivered int
	Err       error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("after %d events of the batch: %v", e.Delivered, e.Err)
}

func (e *PartialError) Unwrap() error { return e.Err }

// A RefusedError is the error with which a pipeline stops at an event that its
// destination or its transform refuses.
type RefusedError struct {
	Event    Event // as the server sent it
	Attempts int
	Err      error
}

func (e *RefusedError) Error() string {
	times := ""
	if e.Attempts > 1 {
		times = fmt.Sprintf(" in %d attempts", e.Attempts)
	}
	t := e.Event.ClusterTime()
	return fmt.Sprintf("an event was refused%s (%s in %s, documentKey %s, cluster time %d.%d): %v",
		times, e.Event.OperationType(), e.Event.Namespace(), keyText(e.Event), t.T, t.I, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// maxKeyText is as much of a documentKey as is worth a message.
const maxKeyText = 200

func keyText(ev Event) string {
	key := ev.DocumentKey()
	if key == nil {
		return "none"
	}
	doc, err := bson.MarshalExtJSON(key, false, false)
	if err != nil {
		return "not valid"
	}
	if len(doc) > maxKeyText {
		return string(doc[:maxKeyText]) + "…"
	}
	return string(doc)
}

// eventAttrs are the log attributes that identify an event.
func eventAttrs(ev Event) []any {
	t := ev.ClusterTime()
	return []any{
		"operation", ev.OperationType(), "namespace", ev.Namespace().String(),
		"document_key", keyText(ev), "cluster_time", fmt.Sprintf("%d.%d", t.T, t.I),
	}
}

// DeadLetters keeps the events that were refused, so that the pipeline can go on
// without them. Package ndjson has one that writes files.
//
// When Put returns nil, the letter is durable. The same event may be put twice,
// after a crash. Put may be called concurrently.
type DeadLetters interface {
	Put(ctx context.Context, l DeadLetter) error
}

// A DeadLetter is an event that was refused.
type DeadLetter struct {
	Key, Stream string    // of the checkpoint, and of the stream
	Event       Event     // as the server sent it
	Position    Position  // after the event
	Err         error     // of the last attempt
	Attempts    int       // how often its delivery was tried, in a batch or alone
	At          time.Time // when it was refused
}

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
	status      *status
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
