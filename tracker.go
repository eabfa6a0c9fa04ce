package rigatoni

import (
	"cmp"
	"slices"
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

	mu    sync.Mutex
	spans []span // with events that are not yet below the low-water mark
	next  uint64 // number of the next event; numbers begin at 1 and have no gaps
	open  int    // events that are not below the mark
	low   mark
	armed bool          // somebody waits for the mark to advance
	wake  chan struct{} // has room for one
}

// A span is the events that were read at once.
type span struct {
	events []Event   // as the source returned them
	first  uint64    // number of events[0]
	end    *Position // the position after the last, where the stream gave one with it
	done   []bool
	below  int // events at the front that are below the mark
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
	return &tracker{budget: b, next: 1, low: mark{end: &start}, wake: make(chan struct{}, 1)}
}

// add adds events, with the position after the last of them, and returns the
// number of the first.
func (t *tracker) add(events []Event, end Position) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := span{first: t.next}
	t.next += uint64(len(events))
	t.open += len(events)
	var last *Position
	if !end.Token.IsZero() { // it is for a source that gives none
		last = &end
	}
	// No events lie between the last one and end.
	switch n := len(t.spans); {
	case len(events) > 0:
		s.events = slices.Clone(events) // the source may use its memory again
		s.end, s.done = last, make([]bool, len(events))
		t.spans = append(t.spans, s)
	case last == nil:
	case n > 0:
		t.spans[n-1].end = last
	case t.low.end == nil || *t.low.end != end:
		t.low.end, t.low.event = last, Event{} // saved in the next idle interval
	}
	return s.first
}

// done reports events as delivered.
func (t *tracker) done(items []item) {
	t.mu.Lock()
	for _, it := range items {
		s := t.spanOf(it.number)
		s.done[it.number-s.first] = true
	}
	bytes := t.advance()
	t.mu.Unlock()
	if bytes > 0 {
		t.budget.give(bytes)
	}
}

// spanOf is the span of an event that is not below the mark.
func (t *tracker) spanOf(number uint64) *span {
	if s := &t.spans[0]; number-s.first < uint64(len(s.events)) {
		return s
	}
	i, _ := slices.BinarySearchFunc(t.spans, number, func(s span, number uint64) int {
		return cmp.Compare(s.first+uint64(len(s.events)), number+1)
	})
	return &t.spans[i]
}

// advance moves the low-water mark over all delivered events at the front, and
// returns their size.
func (t *tracker) advance() (bytes int) {
	n := 0
	for len(t.spans) > 0 {
		s := &t.spans[0]
		before := s.below
		for s.below < len(s.events) && s.done[s.below] {
			bytes += len(s.events[s.below].sent())
			s.below++
		}
		if s.below == before {
			break
		}
		n += s.below - before
		t.low.event, t.low.end = s.events[s.below-1], nil
		if s.below < len(s.events) {
			clear(s.events[before:s.below]) // frees the documents of a copy, which may be large
			break
		}
		if s.end != nil {
			t.low.event, t.low.end = Event{}, s.end // frees the server's reply
		}
		t.spans[0] = span{} // frees it, too
		t.spans = t.spans[1:]
	}
	if n == 0 {
		return 0
	}
	t.low.events += uint64(n)
	t.open -= n
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
	return t.open
}

// undelivered is how many events are not delivered, and how many there are above
// the mark: with lanes, later ones may be delivered.
func (t *tracker) undelivered() (open, all int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.spans {
		for _, done := range s.done[s.below:] {
			if !done {
				open++
			}
		}
	}
	return open, t.open
}

// isDone reports whether nothing is in flight.
func (t *tracker) isDone() bool { return t.inFlight() == 0 }
