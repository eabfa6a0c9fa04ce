package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// A transformer calls the user's transform for each event, in the order of the
// stream.
type transformer struct {
	watchdog watchdog
	fn       func(ctx context.Context, ev Event) (Event, bool, error)
	failures *failurePolicy
}

// A transformResult is what became of an event.
type transformResult struct {
	event Event
	keep  bool
}

// apply transforms events, with as many attempts as it takes, and gives them to
// emit, in order, as soon as an attempt has ended: an event that fails must not
// hold up those before it. It returns an error when ctx ends, and for an event
// that is refused.
func (t *transformer) apply(ctx context.Context, events []Event, emit func([]transformResult)) error {
	attempt := 0
	for len(events) > 0 {
		attempt++
		out, err := t.run(ctx, events, attempt)
		emit(out)
		if events = events[len(out):]; len(out) > 0 {
			attempt = 1 // of the first that is left
		}
		if err == nil {
			continue
		}
		switch {
		case errors.Is(err, ErrDeliveryHung):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		err = fmt.Errorf("the transform failed: %w", err)
		if !t.failures.final(err, attempt) {
			if err := t.failures.pause(ctx, events[0], attempt, err); err != nil {
				return err
			}
			continue
		}
		if err := t.failures.refuse(ctx, events[0], attempt, err); err != nil {
			return err
		}
		emit([]transformResult{{event: events[0]}})
		events, attempt = events[1:], 0
	}
	return nil
}

// run transforms events up to the first that fails. The attempt is that of the
// first event.
func (t *transformer) run(ctx context.Context, events []Event, attempt int) ([]transformResult, error) {
	out := make([]transformResult, 0, len(events))
	var done atomic.Int64
	err := t.watchdog.call(ctx, watchedCall{
		name: "transform", progress: func() int { return int(done.Load()) },
		attrs: func(n int) []any { return eventAttrs(events[min(n, len(events)-1)]) },
		do: func(ctx context.Context) error {
			c := context.WithValue(ctx, attemptKey{}, attempt)
			for _, ev := range events {
				to, err := t.one(c, ev)
				if err != nil {
					return err
				}
				out = append(out, to)
				done.Add(1)
				if attempt > 1 {
					attempt, c = 1, context.WithValue(ctx, attemptKey{}, 1)
				}
			}
			return nil
		},
	})
	if errors.Is(err, ErrDeliveryHung) {
		return nil, err // it still runs, and writes to out
	}
	return out, err
}

func (t *transformer) one(ctx context.Context, ev Event) (transformResult, error) {
	to, keep, err := t.fn(ctx, ev)
	if err == nil && keep && len(to.Raw) == 0 {
		err = Permanent(errors.New("it returned an event without contents"))
	}
	return transformResult{ev.With(to.Raw), keep}, err
}
