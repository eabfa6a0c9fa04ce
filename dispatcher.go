package rigatoni

import (
	"context"
	"slices"
	"sync"
	"time"
)

// An item is an event on its way to a lane.
type item struct {
	event  Event
	number uint64        // in the tracker
	added  time.Duration // to the dispatcher, since its beginning
}

// A dispatcher gives events to lanes: those of one document to one lane at a time,
// in order. With one lane it gives all of them in the order of the stream.
//
// The batcher's goroutine adds; each lane takes and returns. Its memory is bounded
// by the budget of the reader.
type dispatcher struct {
	mu      sync.Mutex
	changed sync.Cond
	batcher batcher

	queues  map[uint64]*queue // of the keys that have events here, waiting or taken
	ready   []*queue          // those with events waiting and none taken, by age
	waiting int               // events in all queues that are not taken
	bytes   int               // their size
	taken   int               // events taken and not yet returned
	began   time.Time
	hurry   bool // nothing waits for its age: a barrier, or the end
	closed  bool
	ripe    *time.Timer
}

// A queue has the events of one key, in order.
type queue struct {
	key   uint64
	items []item
	taken bool
}

func newDispatcher(b batcher) *dispatcher {
	d := &dispatcher{batcher: b, began: time.Now(), queues: make(map[uint64]*queue)}
	d.changed.L = &d.mu
	return d
}

// watch has everyone who waits look again when ctx ends.
func (d *dispatcher) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.changed.Broadcast()
	})
}

// add gives events to the lanes, which keep the slice. keys says which of them stay in
// order; nil: all do.
func (d *dispatcher) add(items []item, keys func(Event) uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Since(d.began)
	for i := range items {
		items[i].added = now
		d.bytes += len(items[i].event.Raw)
	}
	d.waiting += len(items)
	switch {
	case len(items) == 0:
	case keys == nil:
		d.put(0, slices.Clip(items))
	default:
		for i, it := range items {
			d.put(keys(it.event), items[i:i+1:i+1])
		}
	}
	d.changed.Broadcast()
}

// put gives events of one key to the lanes.
func (d *dispatcher) put(key uint64, items []item) {
	q := d.queues[key]
	if q == nil {
		q = &queue{key: key}
		d.queues[key] = q
	}
	if len(q.items) == 0 && !q.taken {
		d.ready = append(d.ready, q)
	}
	if q.items == nil {
		q.items = items
	} else {
		q.items = append(q.items, items...)
	}
}

// drain waits until all events are delivered.
func (d *dispatcher) drain(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hurry = true
	d.changed.Broadcast()
	for d.waiting+d.taken > 0 && ctx.Err() == nil {
		d.changed.Wait()
	}
	d.hurry = d.closed
	return context.Cause(ctx)
}

// close says that nothing more will be added.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed, d.hurry = true, true
	d.changed.Broadcast()
}

// An assignment is what a lane delivers next.
type assignment struct {
	items  []item
	queues []*queue
}

// next waits for the next events of a lane. It returns false when there will be
// none: the dispatcher is closed and empty, or ctx has ended.
func (d *dispatcher) next(ctx context.Context) (assignment, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ctx.Err() == nil {
		if len(d.ready) > 0 && d.isRipe() {
			return d.cut(), true
		}
		if d.closed && d.waiting == 0 {
			break
		}
		d.changed.Wait()
	}
	return assignment{}, false
}

// isRipe reports whether a batch may be cut now, and sees to it that somebody
// looks again when it may.
func (d *dispatcher) isRipe() bool {
	if d.hurry {
		return true
	}
	wait := d.batcher.ripeIn(d.waiting, d.bytes, time.Since(d.began)-d.ready[0].items[0].added)
	if wait == 0 {
		return true
	}
	if d.ripe == nil {
		d.ripe = time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.changed.Broadcast()
		})
	} else {
		d.ripe.Reset(wait)
	}
	return false
}

// cut takes a batch out of the queues that are ready.
func (d *dispatcher) cut() assignment {
	limit := d.batcher.limit(d.waiting)
	var a assignment
	bytes, single := 0, len(d.ready) == 1
	for len(d.ready) > 0 && len(a.items) < limit {
		q := d.ready[0]
		n := 0
		for had := len(a.items); n < len(q.items) && had+n < limit && d.batcher.fits(had+n, bytes, len(q.items[n].event.Raw)); n++ {
			bytes += len(q.items[n].event.Raw)
		}
		if n == 0 {
			break // it would be too large
		}
		if single {
			a.items = q.items[:n:n]
		} else {
			a.items = append(a.items, q.items[:n]...)
			clear(q.items[:n]) // frees the server's replies when they are delivered
		}
		if q.items = q.items[n:]; len(q.items) == 0 {
			q.items = nil
		}
		q.taken = true
		a.queues = append(a.queues, q)
		d.ready[0] = nil
		d.ready = d.ready[1:]
	}
	d.batcher.cut(len(a.items))
	d.waiting -= len(a.items)
	d.bytes -= bytes
	d.taken += len(a.items)
	return a
}

// give returns the queues of an assignment whose events are delivered.
func (d *dispatcher) give(a assignment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range a.queues {
		if q.taken = false; len(q.items) > 0 {
			d.ready = append(d.ready, q)
		} else {
			delete(d.queues, q.key)
		}
	}
	d.taken -= len(a.items)
	clear(a.items) // what is left of a queue lies in the same memory
	d.changed.Broadcast()
}
