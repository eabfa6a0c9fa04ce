package rigatoni

import (
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A tracker knows the events that have been read, in the order of the stream, and
// which of them are delivered. The end of the longest unbroken run of delivered
// ones, the low-water mark, is the only position that may become a checkpoint.
//
// Events are added by the batcher's goroutine, and reported as delivered by the
// lanes and, within a batch, by the sink. It is safe for concurrent use.
type tracker struct {
	budget *budget

	mu      sync.Mutex
	first   uint64  // number of entries[0]; numbers begin at 1 and have no gaps
	entries []entry // read and not yet below the low-water mark
	low     mark
	armed   bool          // somebody waits for the mark to advance
	wake    chan struct{} // has room for one
}

// An entry is an event that has been read.
type entry struct {
	event Event     // as the source returned it
	end   *Position // the position after it, where the stream gave one with it
	done  bool
}

// A mark is a position up to which everything is delivered. Its position is
// computed when it is asked for, which is once for many events.
type mark struct {
	event  Event     // the last one, or
	end    *Position // the position
	events uint64    // delivered up to here, in this session
}

func (m mark) position() (Position, error) {
	if m.end != nil {
		return *m.end, nil
	}
	return PositionAfter(m.event)
}

// time is the position's cluster time, which is found without asking a positioner.
func (m mark) time() bson.Timestamp {
	if m.end != nil {
		return m.end.ClusterTime
	}
	return clusterTime(m.event.sent())
}

func newTracker(start Position, b *budget) *tracker {
	return &tracker{budget: b, first: 1, low: mark{end: &start}, wake: make(chan struct{}, 1)}
}

// add adds events, with the position after the last of them, and returns the
// number of the first.
func (t *tracker) add(events []Event, end Position) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	number := t.first + uint64(len(t.entries))
	for _, ev := range events {
		t.entries = append(t.entries, entry{event: ev})
	}
	// No events lie between the last one and end.
	switch n := len(t.entries); {
	case end.Token.IsZero(): // a source that gives none
	case n > 0:
		t.entries[n-1].end = &end
	case t.low.end == nil || *t.low.end != end:
		t.low.end, t.low.event = &end, Event{} // saved in the next idle interval
	}
	return number
}

// done reports events as delivered.
func (t *tracker) done(items []item) {
	t.mu.Lock()
	for _, it := range items {
		t.entries[it.number-t.first].done = true
	}
	bytes := t.advance()
	t.mu.Unlock()
	if bytes > 0 {
		t.budget.give(bytes)
	}
}

// advance moves the low-water mark over all delivered events at the front, and
// returns their size.
func (t *tracker) advance() (bytes int) {
	n := 0
	for n < len(t.entries) && t.entries[n].done {
		bytes += len(t.entries[n].event.sent())
		n++
	}
	if n == 0 {
		return 0
	}
	last := t.entries[n-1]
	t.low = mark{event: last.event, end: last.end, events: t.low.events + uint64(n)}
	if t.low.end != nil {
		t.low.event = Event{} // frees the server's reply
	}
	t.first += uint64(n)
	clear(t.entries[:n]) // frees the server's replies
	if t.entries = t.entries[n:]; len(t.entries) == 0 {
		t.entries = nil
	}
	t.notify()
	return bytes
}

func (t *tracker) notify() {
	if t.armed {
		t.armed = false
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// arm has the next advance of the mark send to wake, and returns the mark.
func (t *tracker) arm() mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = true
	return t.low
}

func (t *tracker) mark() mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.low
}

// inFlight is how many events have been read and are not below the mark.
func (t *tracker) inFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

// undelivered is how many events are not delivered, and how many there are above
// the mark: with lanes, later ones may be delivered.
func (t *tracker) undelivered() (open, all int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if !e.done {
			open++
		}
	}
	return open, len(t.entries)
}

// isDone reports whether nothing is in flight.
func (t *tracker) isDone() bool { return t.inFlight() == 0 }
