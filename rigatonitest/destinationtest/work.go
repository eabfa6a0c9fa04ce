package destinationtest

import (
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

const (
	leaseTime = 5 * time.Minute // longer than a case
	attempts  = 20              // of a call that fails, and of a session
	batchSize = 3
)

// work does what a pipeline does: it delivers the rest of the stream and stops cleanly.
// What fails is tried again, as long as dead reports false.
func (o *owner) work(dead func() bool) error {
	var err error
	for range attempts {
		err = o.session(dead)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errFenced) || isFinal(err) || dead():
			return err
		}
		if cerr := o.closeSink(); cerr != nil {
			err = errors.Join(err, cerr)
		}
		if o.store != nil && !o.once { // the outcome is unknown: another lease shows it
			if aerr := o.acquire(); aerr != nil {
				err = errors.Join(err, aerr)
			}
		}
	}
	return fmt.Errorf("%d sessions failed one after the other, the last one: %w", attempts, err)
}

// session delivers the rest of the stream, from the checkpoint on. Its error is one
// after which the pipeline goes back there.
func (o *owner) session(dead func() bool) error {
	if o.sink == nil {
		if err := o.open(); err != nil {
			return err
		}
	}
	for o.delivered < len(o.s.events) {
		if err := o.deliverUntil(min(o.delivered+batchSize, len(o.s.events)), dead); err != nil {
			return err
		}
		if err := o.save(); err != nil {
			return err
		}
	}
	if err := o.save(); err != nil {
		return err
	}
	return o.closeSink()
}

// deliverUntil repeats deliveries that fail, until the first n events are delivered.
func (o *owner) deliverUntil(n int, dead func() bool) (err error) {
	for range attempts {
		if err = o.deliver(n - o.delivered); err == nil {
			return nil
		}
		if isFinal(err) || dead() {
			break
		}
	}
	return fmt.Errorf("delivering: %w", err)
}

// isFinal reports whether an error would be the same next time.
func isFinal(err error) bool {
	return errors.Is(err, state.ErrFenced) || errors.Is(err, state.ErrStale) || errors.As(err, new(*rigatoni.OutputError)) || isPermanent(err)
}

func never() bool { return false }

// finish delivers the rest of the stream, as a new owner, and compares what a reader
// finds with all of it.
func (s *stream) finish(when string) {
	if err := s.own().work(never); err != nil {
		s.t.fatalf("%s, the next owner can't continue: %v", when, err)
	}
	s.check(when, true)
}

func isPermanent(err error) bool { return errors.As(err, new(*rigatoni.PermanentError)) }

// within waits for a call whose context has ended. A pipeline waits for a second, on a
// machine that may be less busy.
func within(done <-chan error) (err error, returned bool) {
	select {
	case err = <-done:
		return err, true
	case <-time.After(5 * time.Second):
		return nil, false
	}
}
