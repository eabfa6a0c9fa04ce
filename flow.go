package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A flow is one life of a stream: events go from the reader through the batch
// in hand to the destination, and the place follows behind them.
//
// All but the reader runs in one goroutine, which makes the order plain: what
// the checkpoint says was delivered before it was saved.
type flow struct {
	*worker
	dest   Destination
	stream Stream

	// The batch in hand: events read and not yet delivered, and where the
	// stream stands after the last of them.
	hand      []Event
	handBytes int
	handEnd   Position
	handSince time.Time

	budget *budget
	saver  saver
}

func newFlow(w *worker, dest Destination, stream Stream) *flow {
	f := &flow{worker: w, dest: dest, stream: stream, budget: newBudget(w.cfg.MaxInFlightBytes)}
	f.saver = newSaver(w, dest, stream)
	return f
}

// saveStart saves where the stream begins, before anything is delivered, if the
// store does not know it: at a first start, so that a crash in the first second
// does not move "now"; and where a changed stream was accepted, so that it is
// accepted once.
func (f *flow) saveStart(ctx context.Context) error {
	if f.last != nil && (f.last.Fingerprint == "" || f.last.Fingerprint == f.stream.Fingerprint()) {
		return nil
	}
	if f.last != nil && f.last.Token != f.stream.Position().Token {
		f.log.Warn("going on with a changed stream, from the checkpoint's time: events of that moment may come again",
			"was", f.last.Fingerprint, "is", f.stream.Fingerprint())
	}
	return f.saver.saveStart(ctx, f.stream.Position())
}

// run pumps until ctx ends (then it empties its hands, saves and returns nil),
// or the stream or the destination can't go on.
func (f *flow) run(ctx, work context.Context) error {
	read, stopReading := context.WithCancel(ctx)
	defer stopReading()
	defer context.AfterFunc(work, stopReading)()
	chunks := make(chan chunk, 16) // bounded by the budget long before
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.read(read, chunks)
	}()
	err := f.pump(work, chunks)
	stopReading()
	<-done

	// What was delivered is saved whatever happened, as long as the lease lasts;
	// only a destination that may have lost it takes that away.
	if !isRewind(err) {
		last, cancel := context.WithTimeout(f.place.context(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, f.saver.final(last))
	}
	if err == nil && len(f.hand) > 0 {
		f.log.Warn("stopped with events in hand that were not delivered; they come again", "events", len(f.hand))
	}
	return err
}

// pump moves chunks to the destination until there are no more.
func (f *flow) pump(work context.Context, chunks <-chan chunk) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if err := f.deliverDue(work, len(chunks) == 0); err != nil {
			return graceOver(work, err)
		}
		if err := f.saver.saveDue(work); err != nil {
			return graceOver(work, err)
		}
		timer.Reset(f.untilDue())
		select {
		case <-work.Done():
			return graceOver(work, context.Cause(work))
		case <-timer.C:
		case c, more := <-chunks:
			if !more {
				return graceOver(work, f.deliverHand(work))
			}
			if c.err != nil {
				if err := f.deliverHand(work); err != nil {
					return graceOver(work, err)
				}
				return c.err
			}
			f.take(c)
		}
	}
}

// graceOver makes the end of the grace time a clean stop: what was not delivered
// comes again. Everything else is passed on.
func graceOver(work context.Context, err error) error {
	var over graceError
	if errors.As(err, &over) || errors.As(context.Cause(work), &over) && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// take adds what was read to the batch in hand.
func (f *flow) take(c chunk) {
	if len(c.events) == 0 {
		// The server says that nothing lies between the last event and here.
		if len(f.hand) == 0 {
			f.saver.moved(c.end, 0)
		} else {
			f.handEnd = c.end
		}
		return
	}
	if len(f.hand) == 0 {
		f.hand, f.handSince = slices.Clip(c.events), time.Now() // the source may go on appending to its own
	} else {
		f.hand = append(f.hand, c.events...)
	}
	f.handBytes += c.bytes
	f.handEnd = c.end
}

// deliverDue delivers full batches, and a batch that is not full if it has waited
// for long enough.
func (f *flow) deliverDue(work context.Context, idle bool) error {
	for len(f.hand) > 0 {
		full := len(f.hand) >= f.cfg.MaxBatchEvents || f.handBytes >= f.cfg.MaxBatchBytes
		if !full && !(f.cfg.MaxBatchAge < 0 && idle) && (f.cfg.MaxBatchAge < 0 || time.Since(f.handSince) < f.cfg.MaxBatchAge) {
			return nil
		}
		if err := f.deliverBatch(work); err != nil {
			return err
		}
	}
	return nil
}

// deliverHand delivers all that is in hand.
func (f *flow) deliverHand(work context.Context) error {
	for len(f.hand) > 0 {
		if err := f.deliverBatch(work); err != nil {
			return err
		}
	}
	return nil
}

// cut says how many of the events in hand make the next batch, and their size.
func (f *flow) cut() (n, bytes int) {
	for n < len(f.hand) && n < f.cfg.MaxBatchEvents {
		size := len(f.hand[n].Raw)
		if n > 0 && bytes+size > f.cfg.MaxBatchBytes {
			break
		}
		n, bytes = n+1, bytes+size
	}
	return n, bytes
}

// drop takes the first n events out of hand: they are delivered.
func (f *flow) drop(n, bytes int) error {
	end := f.handEnd
	if n < len(f.hand) {
		var err error
		if end, err = f.hand[n-1].Position(); err != nil {
			return err
		}
	}
	last := f.hand[n-1]
	if n == len(f.hand) {
		f.hand = nil // lets go of the server's replies
	} else {
		f.hand, f.handSince = f.hand[n:], time.Now()
	}
	f.handBytes -= bytes
	f.budget.give(bytes)
	f.saver.moved(end, n)
	st := &f.p.stats
	st.events.Add(uint64(n))
	st.bytes.Add(uint64(bytes))
	st.lastEvent.tellCluster(last.ClusterTime())
	return nil
}

// untilDue is how long the flow may wait for events before it has something else
// to do.
func (f *flow) untilDue() time.Duration {
	d := f.saver.untilDue()
	if len(f.hand) > 0 && f.cfg.MaxBatchAge > 0 {
		d = min(d, f.cfg.MaxBatchAge-time.Since(f.handSince))
	}
	return max(d, 0)
}

// graceError is the cause of a work context that ended with the grace time.
type graceError struct{ after time.Duration }

func (e graceError) Error() string { return fmt.Sprintf("the grace time of %v is over", e.after) }
