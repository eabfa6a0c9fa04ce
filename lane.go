package rigatoni

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A lane delivers the batches that a dispatcher gives it, one after the other, in a
// goroutine of its own.
type lane struct {
	stream     string
	dispatcher *dispatcher
	tracker    *tracker
	failures   *failurePolicy
	lock       semaphore // between Deliver and Sync, or DeliverAt and saves; nil if there is neither
	status     *monitor
	log        *slog.Logger
	watchdog   watchdog
	ordered    bool // this is the only lane: a batch has an end

	atomic    bool                                 // the sink is transactional: a batch is delivered whole, or not
	refusal   *refusal                             // left by the last session; nil for none
	valid     func() error                         // of the lease
	prepare   func(b *Batch, seq *uint64) sinkCall // of Deliver, or of DeliverAt with its sequence
	afterward func(ctx context.Context) error      // saves after each batch; nil if that isn't wanted
}

// run delivers until the dispatcher has nothing more or ctx ends (nil, or ctx's
// cause), or the pipeline can't continue.
func (l *lane) run(ctx context.Context) error {
	for {
		t, ok := l.dispatcher.next(ctx)
		if !ok {
			return nil
		}
		if err := l.deliver(ctx, t.items); err != nil {
			return err
		}
		l.dispatcher.give(t)
		if l.afterward != nil {
			if err := l.afterward(ctx); err != nil {
				return err
			}
		}
	}
}

// A sinkCall is a call of a sink that is about to be made. do may be abandoned; end
// is called with its error in the lane's goroutine, unless it was.
type sinkCall struct {
	do  func(ctx context.Context) error
	end func(error)
}

// An isolation is what a session has to know of a transaction that was refused in
// the one before: how many events are to be delivered one by one, and, where it is
// known already, which of them is refused.
type isolation struct {
	events  int
	refusal *refusal
}

// A refusal is an event to be refused, if it still comes.
type refusal struct {
	event    Event
	attempts int
	err      error
}

// isOf reports whether an event is the one to be refused. A document that is copied
// may be read again at another time, and is the same if it has not changed.
func (r *refusal) isOf(ev Event) bool {
	a, b := r.event.sent(), ev.sent()
	same := func(field string) bool { return bytes.Equal(document(a, field), document(b, field)) }
	switch copied := operationType(a) == "read"; {
	case copied != (operationType(b) == "read"):
		return false // it may have the token of an event
	case copied:
		return same("ns") && same("fullDocument")
	default:
		return same("_id")
	}
}

// An isolateError ends a session in which a transaction was refused. The lease has
// to be acquired again before its events are delivered one by one, or one of them
// becomes a dead letter: an earlier attempt may still be under way. The new fence
// keeps it out, and the checkpoint says whether it was committed.
type isolateError struct{ of isolation }

func (e *isolateError) Error() string {
	if e.of.refusal != nil {
		return fmt.Sprintf("checking that no attempt has delivered the event that is refused: %v", e.of.refusal.err)
	}
	return fmt.Sprintf("delivering %d events one by one, to find the one that is refused", e.of.events)
}

// deliver delivers events, with as many attempts as it takes.
func (l *lane) deliver(ctx context.Context, items []item) error {
	var (
		tries   int    // of the first event that is left
		before  int    // in a batch that was refused as a whole
		isolate bool   // events are delivered one by one
		seq     uint64 // of the transaction, in all attempts
	)
	for len(items) > 0 {
		part := items
		if isolate {
			part = items[:1]
		}
		if n := l.knownRefusal(part); n == 0 {
			if err := l.refuseKnown(ctx, items[0]); err != nil {
				return err
			}
			items = items[1:]
			continue
		} else if n > 0 {
			part = part[:n]
		}
		tries++
		a := l.attempt(ctx, part, tries, &seq)
		items = items[a.delivered:]
		switch {
		case a.err == nil:
			if tries > 1 {
				l.log.Info("delivery succeeded", append(eventAttrs(part[0].event), "attempts", before+tries)...)
			}
			tries, seq = 0, 0
			continue
		case a.fatal:
			return a.err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case a.delivered > 0:
			tries, before = 1, 0
		}
		switch first := items[0].event; {
		case !l.failures.final(a.err, tries):
			if err := l.failures.pause(ctx, first, tries, a.err); err != nil {
				return err
			}
		case !a.located && len(part)-a.delivered > 1:
			if l.atomic {
				return &isolateError{of: isolation{events: len(items)}}
			}
			isolate, before, tries = true, before+tries, 0
		case l.atomic && l.failures.letters != nil && !(tries == 1 && isPermanent(a.err)):
			return refuseLater(first, tries, a.err)
		default:
			if err := l.failures.refuse(ctx, first, before+tries, a.err); err != nil {
				return err
			}
			l.tracker.done(items[:1])
			items, tries, seq = items[1:], 0, 0
		}
	}
	return nil
}

// refuseLater ends the session, so that the next one refuses an event.
func refuseLater(ev Event, attempts int, err error) error {
	return &isolateError{of: isolation{events: 1, refusal: &refusal{ev, attempts, err}}}
}

// knownRefusal is which of the events the last session found that has to be refused;
// -1 for none. It may not be the first of this session: a copy does not go on at the
// same event.
func (l *lane) knownRefusal(items []item) int {
	if l.refusal == nil {
		return -1
	}
	return slices.IndexFunc(items, func(it item) bool { return l.refusal.isOf(it.event) })
}

func (l *lane) refuseKnown(ctx context.Context, it item) error {
	r := l.refusal
	l.refusal = nil
	if err := l.failures.refuse(ctx, it.event, r.attempts, r.err); err != nil {
		return err
	}
	l.tracker.done([]item{it})
	return nil
}

// An outcome is what became of an attempt.
type outcome struct {
	delivered int // events at the front
	err       error
	located   bool // the error is about the event after those
	fatal     bool // the pipeline can't continue, whatever the policy
}

func fatal(err error) outcome { return outcome{err: err, fatal: true} }

func (l *lane) attempt(ctx context.Context, part []item, try int, seq *uint64) outcome {
	if err := l.valid(); err != nil {
		return fatal(err)
	}
	b, err := l.batch(part)
	if err != nil {
		return fatal(err)
	}
	if err := l.lock.acquire(ctx); err != nil {
		return fatal(err)
	}
	began := time.Now()
	call := l.prepare(b, seq)
	err = l.await(ctx, b, part, try, call.do)
	if errors.Is(err, ErrDeliveryHung) {
		b.progress.finish(0) // it may still run
		return fatal(err)    // the lock stays taken: nothing may run beside it
	}
	// Before the lock is released: what a Sync makes durable has to be exactly what the
	// tracker says is delivered, or a sink that cuts its output back to the checkpoint
	// keeps events that are redelivered.
	a := judgeAttempt(b, err, l.atomic)
	if l.atomic {
		l.tracker.done(part[:a.delivered])
	}
	call.end(err)
	l.lock.release()
	if l.atomic && transactionIsFinal(err) {
		return fatal(err)
	}
	a.fatal = a.fatal || errors.Is(err, ErrDestinationClosed)
	d := Delivery{Events: a.delivered, Bytes: b.size(a.delivered), Attempt: try, Took: time.Since(began), Err: a.err}
	var last bson.Timestamp
	if a.delivered > 0 {
		last = clusterTime(part[a.delivered-1].event.sent())
	}
	l.status.attempted(d, last)
	return a
}

// batch makes a batch of items.
func (l *lane) batch(part []item) (*Batch, error) {
	b := &Batch{Stream: l.stream, Events: make([]Event, len(part))}
	for i, it := range part {
		b.Events[i] = it.event
		b.Bytes += len(it.event.Raw)
	}
	if l.ordered {
		var err error
		last := part[len(part)-1].event
		if b.End, err = last.ownPosition(); err != nil {
			return nil, err
		}
		if l.atomic {
			if b.at, err = PositionAfter(last); err != nil {
				return nil, err
			}
		}
	}
	b.progress = &progress{size: len(part), advance: func(from, to int) {
		if !l.atomic { // nothing of a transaction is delivered before its end
			l.tracker.done(part[from:to])
		}
	}}
	return b, nil
}

// judgeAttempt finds out how far a Deliver got that returned err.
func judgeAttempt(b *Batch, err error, atomic bool) outcome {
	n, wrong := 0, error(nil)
	var p *PartialError
	switch {
	case err == nil:
		n = len(b.Events)
	case !errors.As(err, &p):
	case p.Delivered < 0 || p.Delivered >= len(b.Events) || atomic && p.Delivered > 0:
		wrong = fmt.Errorf("the sink reports that it delivered %d of %d events and failed at the next", p.Delivered, len(b.Events))
	default:
		n = p.Delivered
		if error(p) == err && p.Err != nil {
			err = p.Err // a number in a batch is no use to whoever reads the log
		}
	}
	done, each, misreported := b.progress.finish(n)
	if wrong = cmp.Or(wrong, misreported); wrong != nil {
		// To believe it could skip an event, and to deliver all of it again and
		// again could hide the mistake.
		return fatal(fmt.Errorf("%w: %w", wrong, cmp.Or(err, errors.New("no error"))))
	}
	if atomic && err != nil {
		return outcome{err: err}
	}
	return outcome{delivered: done, err: err, located: p != nil || each}
}

// await calls the sink and waits for it, as long as it makes progress.
func (l *lane) await(ctx context.Context, b *Batch, part []item, try int, call func(context.Context) error) error {
	return l.watchdog.call(context.WithValue(ctx, attemptKey{}, try), watchedCall{
		name: "delivery", do: call, progress: b.progress.delivered,
		attrs: func(done int) []any {
			return append(eventAttrs(part[min(done, len(part)-1)].event), "events", len(part)-done)
		},
	})
}
