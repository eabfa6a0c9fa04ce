package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A chunk is what one call of Stream.Next returned.
type chunk struct {
	events []Event
	end    Position
	err    error // the stream can't continue; nothing else is set

	unreadable error // why the only one of events could not be read
}

func sizeOf(events []Event) (bytes int) {
	for _, ev := range events {
		bytes += len(ev.sent())
	}
	return bytes
}

// A reader reads a stream in a goroutine of its own, so that reading overlaps with
// delivering. It waits while more bytes are in flight than the budget allows.
type reader struct {
	stream Stream
	budget *budget
	skip   bool       // what can't be read goes to the dead letters
	chunks chan chunk // closed at the end; bounded by the budget long before its size
}

func newReader(s Stream, b *budget, skip bool) *reader {
	return &reader{stream: s, budget: b, skip: skip, chunks: make(chan chunk, 16)}
}

// run reads until ctx ends or the stream can't continue.
func (r *reader) run(ctx context.Context) {
	defer close(r.chunks)
	for ctx.Err() == nil {
		c := r.next(ctx)
		if c.err != nil && ctx.Err() != nil {
			return
		}
		// A chunk that was read when ctx ended is dropped: it was not delivered,
		// and the position is still before it.
		if r.budget.take(ctx, sizeOf(c.events)) != nil {
			return
		}
		select {
		case r.chunks <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

// next reads a chunk. One that can't be read is one of what is known of it, if it is to
// be skipped, and the stream is beyond it.
func (r *reader) next(ctx context.Context) (c chunk) {
	c.events, c.end, c.err = r.stream.Next(ctx)
	var u *UnreadableError
	if !r.skip || !errors.As(c.err, &u) {
		return c
	}
	s, ok := r.stream.(Skipper)
	if !ok {
		return c
	}
	end, err := PositionAfter(u.Event)
	if err == nil {
		err = s.Skip(u)
	}
	if err != nil {
		c.err = fmt.Errorf("%w; it can't be skipped: %w", c.err, err)
		return c
	}
	return chunk{events: []Event{u.Event}, end: end, unreadable: c.err}
}

// A budget bounds the bytes that are read and not delivered. One chunk is
// always let in, whatever its size. One goroutine takes.
type budget struct {
	mu   sync.Mutex
	max  int
	used int
	want int           // what the taker waits for; 0: it doesn't
	wake chan struct{} // has room for one: what is wanted fits
}

func newBudget(most int) *budget { return &budget{max: most, wake: make(chan struct{}, 1)} }

// fits reports whether n more bytes may be taken. mu is held. Where a chunk over the
// bound is in flight, one without events still fits: nothing would wake its taker.
func (b *budget) fits(n int) bool { return n == 0 || b.used == 0 || b.used+n <= b.max }

func (b *budget) take(ctx context.Context, n int) error {
	for !b.tryTake(n) {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *budget) tryTake(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.want = n; !b.fits(n) {
		return false
	}
	b.want = 0
	b.used += n
	return true
}

// give takes bytes back. It wakes the taker only when that helps: giving is done for
// each event, and to wake a goroutine costs more than the rest of an event's way.
func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.want > 0 && b.fits(b.want) {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}
