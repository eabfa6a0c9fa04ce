package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// deliverBatch delivers the next batch of the events in hand, however many
// attempts it takes. Events that a failed attempt delivered leave the hand.
func (f *flow) deliverBatch(work context.Context) error {
	n, bytes := f.cut()
	for attempt := 0; n > 0; attempt++ {
		if err := f.place.valid(); err != nil {
			return err
		}
		err := f.dest.Deliver(work, &Batch{Stream: f.worker.stream, Events: f.hand[:n:n], Bytes: bytes})
		if err == nil {
			f.p.stats.batches.Add(1)
			return f.drop(n, bytes)
		}
		done, err := f.partly(n, err)
		if done > 0 {
			size := sizeOf(f.hand[:done])
			if err := f.drop(done, size); err != nil {
				return err
			}
			n, bytes, attempt = n-done, bytes-size, 0
		}
		if work.Err() != nil {
			return context.Cause(work)
		}
		var p *permanentError
		if errors.As(err, &p) {
			return permanent(f.hand[0], err)
		}
		if err := f.waitToRetry(work, attempt, err); err != nil {
			return err
		}
	}
	return nil
}

// partly reads how far a failed delivery got.
func (f *flow) partly(n int, err error) (done int, cause error) {
	var p *PartialError
	if !errors.As(err, &p) {
		return 0, err
	}
	if p.Delivered < 0 || p.Delivered >= n {
		// Believing it could skip an event; so could delivering all of it again
		// and again hide the mistake.
		return 0, Permanent(fmt.Errorf("the destination says that it delivered %d of %d events and failed at the next: %w", p.Delivered, n, p.Err))
	}
	if err == error(p) {
		err = p.Err // a number in a batch says nothing to whoever reads the log
	}
	return p.Delivered, err
}

func sizeOf(events []Event) (bytes int) {
	for _, ev := range events {
		bytes += len(ev.Raw)
	}
	return bytes
}

// waitToRetry pauses after a failed delivery. What was delivered before is saved
// meanwhile, since the destination may be away for long.
func (f *flow) waitToRetry(work context.Context, attempt int, cause error) error {
	f.p.stats.retries.Add(1)
	pause := backoff(f.cfg.RetryMin, f.cfg.RetryMax, attempt)
	f.log.Warn("the destination failed; trying again", "err", cause, "attempt", attempt+1, "in", pause.Round(time.Millisecond))
	for until := time.Now().Add(pause); ; {
		if err := f.saver.saveDue(work); err != nil {
			return err
		}
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		t := time.NewTimer(min(left, f.saver.untilDue()))
		select {
		case <-t.C:
		case <-work.Done():
			t.Stop()
			return context.Cause(work)
		}
	}
}
