package rigatoni

import (
	"context"
	"sync"
)

// A chunk is what one call of Stream.Next gave.
type chunk struct {
	events []Event
	bytes  int
	end    Position
	err    error // the stream can't go on; nothing else is set
}

// read reads the stream until ctx ends or the stream can't go on, in a goroutine
// of its own, so that reading overlaps with delivering. It waits when more
// bytes are in flight than the budget allows.
func (f *flow) read(ctx context.Context, chunks chan<- chunk) {
	defer close(chunks)
	for ctx.Err() == nil {
		var c chunk
		c.events, c.end, c.err = f.stream.Next(ctx)
		if c.err != nil && ctx.Err() != nil {
			return
		}
		c.bytes = sizeOf(c.events)
		// A chunk that was read when ctx ended is dropped: it was not delivered,
		// and the place is still before it.
		if f.budget.take(ctx, c.bytes) != nil {
			return
		}
		select {
		case chunks <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

// A budget bounds the bytes that are read and not delivered. One chunk is
// always let in, whatever its size.
type budget struct {
	mu   sync.Mutex
	max  int
	used int
	wake chan struct{} // has room for one: something was given back
}

func newBudget(most int) *budget { return &budget{max: most, wake: make(chan struct{}, 1)} }

func (b *budget) take(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		fits := b.used == 0 || b.used+n <= b.max
		if fits {
			b.used += n
		}
		b.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-b.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
