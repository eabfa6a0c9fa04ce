package changestream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// nextTime is how long Next waits: a little longer than the server does by default,
// so that the reply comes in time.
const nextTime = 1200 * time.Millisecond

// silentShown, beyond Options.MaxAwait, is when the status shows that the server
// doesn't reply.
const silentShown = 2 * time.Second

var (
	_ rigatoni.OutageReporter = (*stream)(nil)
	_ rigatoni.Skipper        = (*stream)(nil)
)

var errClosed = errors.New("changestream: the stream is closed")

// A stream is a reader whose steps may take long, behind calls that don't. A step
// runs in a goroutine; a call waits for it for a limited time, and the next call
// waits for the same step.
type stream struct {
	reader *reader

	ctx    context.Context // of the steps
	cancel context.CancelFunc

	at      rigatoni.Position // after the events that were returned
	quiet   resumetoken.Token // that came with the empty batch which the last call of Next took, if it did
	err     error             // the stream can't go on
	timer   *time.Timer
	pending chan result // nil: no step is running
	begun   time.Time
	closed  bool
	probing atomic.Bool
}

// A result is what a step returned.
type result struct {
	events []rigatoni.Event
	at     rigatoni.Position
	quiet  resumetoken.Token
	err    error
}

func newStream(r *reader) *stream {
	s := &stream{reader: r, at: r.at}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *stream) Position() rigatoni.Position { return s.at }

func (s *stream) Fingerprint() string { return s.reader.fingerprint.String() }

func (s *stream) Next(ctx context.Context) ([]rigatoni.Event, rigatoni.Position, error) {
	switch {
	case s.closed:
		return nil, s.at, errClosed
	case ctx.Err() != nil:
		return nil, s.at, ctx.Err()
	case s.err != nil:
		return nil, s.at, s.err
	}
	if s.pending == nil {
		s.begin()
	}
	s.quiet = resumetoken.Token{}
	timeout := s.startTimer()
	select {
	case res := <-s.pending:
		s.pending = nil
		s.at, s.quiet, s.err = res.at, res.quiet, res.err
		if len(res.events) > 0 {
			return res.events, s.at, nil // an error comes with the next call
		}
		return nil, s.at, s.err
	case <-ctx.Done():
		return nil, s.at, ctx.Err()
	case <-timeout:
		s.probe()
		return nil, s.at, nil
	}
}

// Skip implements [rigatoni.Skipper].
func (s *stream) Skip(e *rigatoni.UnreadableError) error {
	if s.err != error(e) || s.pending != nil {
		return errors.New("changestream: Skip is for the error that Next has just returned")
	}
	if err := s.reader.skip(s.ctx, e.Event); err != nil {
		return err
	}
	s.at, s.err = s.reader.at, nil
	return nil
}

// Outage implements [rigatoni.OutageReporter].
func (s *stream) Outage() (since time.Time, err error) {
	return s.reader.outage.report(s.reader.src.opts.MaxAwait + silentShown)
}

// Interruptions implements [rigatoni.OutageReporter].
func (s *stream) Interruptions() map[string]uint64 { return s.reader.outage.interruptions() }

func (s *stream) begin() {
	s.pending, s.begun = make(chan result, 1), time.Now()
	s.reader.outage.asks()
	go func(done chan<- result) {
		events, err := s.reader.step(s.ctx)
		s.reader.outage.answered()
		done <- result{events, s.reader.at, s.reader.quiet, err}
	}(s.pending)
}

// probe asks the server whether it is there, when a step takes longer than the server
// should: the driver tries to resume a stream by itself for half a minute before it
// returns an error.
func (s *stream) probe() {
	o, l := s.reader.outage, s.reader.src.limits
	if o.lasts() || time.Since(s.begun) < min(s.reader.src.opts.MaxAwait, l.probe)+time.Second || !s.probing.CompareAndSwap(false, true) {
		return
	}
	go func(begun time.Time, done chan result) {
		defer s.probing.Store(false)
		err := s.reader.src.ping(s.ctx, l.probe)
		if err != nil && s.ctx.Err() == nil && len(done) == 0 { // the step has not ended meanwhile
			o.began(begun)
			o.suspect(err)
		}
	}(s.begun, s.pending)
}

func (s *stream) startTimer() <-chan time.Time {
	if s.timer == nil {
		s.timer = time.NewTimer(nextTime)
	} else {
		s.timer.Reset(nextTime)
	}
	return s.timer.C
}

// Close cancels a step that is running.
func (s *stream) Close(ctx context.Context) error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.cancel()
	if s.timer != nil {
		s.timer.Stop()
	}
	interrupted := s.pending != nil
	if interrupted {
		select {
		case <-s.pending:
		case <-ctx.Done():
			return fmt.Errorf("changestream: close the stream: %w", ctx.Err())
		}
	}
	if err := s.reader.close(ctx, interrupted); err != nil {
		return fmt.Errorf("changestream: close the stream: %s", messageOf(err))
	}
	return nil
}
