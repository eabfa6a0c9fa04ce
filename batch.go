package rigatoni

import (
	"fmt"
	"sync"
)

// A Batch is a run of events of one stream, never empty. Without concurrency
// they are in the order of the stream; with it, those of each document are.
type Batch struct {
	// Stream is the name of the stream, as its source calls it.
	Stream string
	// Events are the events. A sink may keep them (see [Event]), but not change
	// the slice.
	Events []Event
	// Bytes is the size of all events, as BSON.
	Bytes int
	// End is the position after the last of Events, if there is one lane: with
	// concurrency other lanes may not have got there, and End is zero. Its Snapshot is
	// left out: that is for the checkpoint.
	End Position

	at       Position  // what the checkpoint of a transaction is to be of
	progress *progress // nil for a batch that a test has made
}

// size is the size of the first n events.
func (b *Batch) size(n int) (bytes int) {
	for _, ev := range b.Events[:n] {
		bytes += len(ev.Raw)
	}
	return bytes
}

// Done reports, while Deliver runs, that the first n events are delivered: the
// next checkpoint may cover them. It bounds what is redelivered after a crash
// where a batch takes long, and restarts Config.DeliverTimeout. [Func] reports
// each event. A call with fewer than were reported before does nothing. Nothing of a
// transaction is delivered before its end, so what a [Transactional] sink reports
// only restarts the timeout. Done is safe for concurrent use.
func (b *Batch) Done(n int) {
	if b.progress != nil {
		b.progress.report(n)
	}
}

// eachIsReported has an error, even a panic, taken to be about the first event that
// is not reported as delivered.
func (b *Batch) eachIsReported() {
	if b.progress != nil {
		b.progress.mu.Lock()
		defer b.progress.mu.Unlock()
		b.progress.each = true
	}
}

// A progress is how far the delivery of a batch has come.
type progress struct {
	advance func(from, to int) // events from..to-1 of the batch are delivered

	mu    sync.Mutex
	size  int
	done  int
	each  bool  // every event is reported: an error is about the first that is not
	wrong error // a report that can't be true
	over  bool  // Deliver has returned or was abandoned: reports are ignored
}

func (p *progress) report(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over || n <= p.done && n >= 0:
	case n < 0 || n > p.size:
		p.wrong = fmt.Errorf("the sink reports that %d of %d events are delivered", n, p.size)
	default:
		p.advance(p.done, n)
		p.done = n
	}
}

// finish ends the reports, with the first n events delivered. It returns how many
// are, and whether the next one is where an error was.
func (p *progress) finish(n int) (done int, each bool, wrong error) {
	if p.misreported() == nil {
		p.report(n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	return p.done, p.each, p.wrong
}

// delivered is how many events have been reported.
func (p *progress) delivered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *progress) misreported() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrong
}
