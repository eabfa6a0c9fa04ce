package rigatoni

import (
	"context"
	"fmt"
)

// Func is a [Destination] and a [Sink] made of a function that is called for each
// event in turn. After an error the function is called again with the same event,
// before any other of the same document. It is [Concurrent]: with
// Config.Concurrency it is called for several documents at once.
type Func func(ctx context.Context, ev Event) error

// Open returns f.
func (f Func) Open(context.Context, Opening) (Sink, error) { return f, nil }

// Deliver calls f for each event of the batch, until ctx ends.
func (f Func) Deliver(ctx context.Context, b *Batch) error {
	b.eachIsReported()
	for i, ev := range b.Events {
		if ctx.Err() != nil {
			return Partial(i, context.Cause(ctx))
		}
		if err := f(ctx, ev); err != nil {
			return Partial(i, err)
		}
		b.Done(i + 1)
	}
	return nil
}

// Concurrent returns true.
func (f Func) Concurrent() bool { return true }

// Typed makes a [Func] of a function that is given the event's fullDocument,
// decoded into a T as [Event.Decode] does. For an event without one (a delete; an
// update, unless the source looks the document up; a drop) the document is nil. A
// document that can't be decoded is refused: the error is [Permanent].
func Typed[T any](f func(ctx context.Context, ev Event, doc *T) error) Func {
	return func(ctx context.Context, ev Event) error {
		if ev.FullDocument() == nil {
			return f(ctx, ev, nil)
		}
		doc := new(T)
		if err := ev.Decode(doc); err != nil {
			return Permanent(fmt.Errorf("decoding the fullDocument into %T: %w", *doc, err))
		}
		return f(ctx, ev, doc)
	}
}

// Ignore is a [Func] that does nothing, for events that a [Router] has to pass
// over.
func Ignore(context.Context, Event) error { return nil }

type attemptKey struct{}

// Attempt returns the number of the current attempt to deliver, 1 for the first,
// from the context that Deliver or a [Func] was given. It is 0 in any other.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}
