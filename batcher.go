package rigatoni

import "time"

// A batcher decides how many of the events that wait make a batch, and when. It
// has no state of its own but careful, and is guarded by its dispatcher.
type batcher struct {
	maxEvents, maxBytes int
	maxAge              time.Duration // not positive: a batch never waits
	lanes               int
	single              bool // several lanes take one event at a time

	// careful is how many events are still to be delivered one by one, because
	// one of them was refused in a batch.
	careful int
}

// ripeIn is how much longer a batch of these events should wait for more, if the
// first has waited already; 0: not at all.
func (b *batcher) ripeIn(events, bytes int, waited time.Duration) time.Duration {
	if b.maxAge <= 0 || events >= b.maxEvents || bytes >= b.maxBytes || b.careful > 0 {
		return 0
	}
	return max(0, b.maxAge-waited)
}

// limit is the most events of the next batch, of those that wait. Several lanes
// take a share each, a smaller one the fewer wait, so that they end at about the same
// time.
func (b *batcher) limit(waiting int) int {
	switch {
	case b.careful > 0:
		return 1
	case b.lanes == 1:
		return b.maxEvents
	case b.single:
		return 1
	}
	share := (waiting + 4*b.lanes - 1) / (4 * b.lanes)
	return min(b.maxEvents, max(1, share))
}

// fits reports whether an event of that size may be added to a batch.
func (b *batcher) fits(events, bytes, size int) bool {
	return events == 0 || bytes+size <= b.maxBytes
}

// cut notes that a batch was made.
func (b *batcher) cut(events int) { b.careful -= events }
