package rigatonitest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/rigatoni-etl/rigatoni"
)

// A Destination records what is delivered to it. The zero Destination is ready
// to use, and safe for concurrent use.
type Destination struct {
	mu     sync.Mutex
	events []rigatoni.Event
	calls  int
	errs   []error
	grown  chan struct{} // closed and replaced when an event is delivered
}

// Fail makes the next calls of Deliver return these errors, one each; nil is a success.
// A failed call records nothing, except that [rigatoni.Partial](n, err) records the
// first n events.
func (d *Destination) Fail(errs ...error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errs = append(d.errs, errs...)
}

// Open returns d.
func (d *Destination) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return d, nil }

// Deliver records the batch, or fails; see [Destination.Fail].
func (d *Destination) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	var err error
	if len(d.errs) > 0 {
		err, d.errs = d.errs[0], d.errs[1:]
	}
	taken := b.Events
	if err != nil {
		var p *rigatoni.PartialError
		n := 0
		if errors.As(err, &p) {
			n = min(p.Delivered, len(taken))
		}
		taken = taken[:n]
	}
	if len(taken) > 0 {
		d.events = append(d.events, taken...)
		if d.grown != nil {
			close(d.grown)
			d.grown = nil
		}
	}
	return err
}

// Events returns the events delivered so far, redelivered ones included, in the order
// of their delivery.
func (d *Destination) Events() []rigatoni.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

// Calls returns the number of calls of Deliver.
func (d *Destination) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Wait waits until n events have been delivered, and returns all events delivered so
// far, or the error of ctx.
func (d *Destination) Wait(ctx context.Context, n int) ([]rigatoni.Event, error) {
	for {
		d.mu.Lock()
		if len(d.events) >= n {
			defer d.mu.Unlock()
			return slices.Clone(d.events), nil
		}
		if d.grown == nil {
			d.grown = make(chan struct{})
		}
		grown := d.grown
		d.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
