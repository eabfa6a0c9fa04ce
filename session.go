package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A session is one open of a stream and of a sink, and the parts that move events
// from one to the other:
//
//	Stream → reader → transform → batcher → dispatcher → lanes → Sink
//	                                 └──────→ tracker ←──done──┘
//	                                            └─ low-water mark → checkpointer → Store
type session struct {
	cfg          *Config
	log          *slog.Logger
	status       *monitor
	checkpointer *checkpointer
	sink         sinkParts

	reader      *reader
	tracker     *tracker
	failures    *failurePolicy
	transformer *transformer // nil: events stay as they are
	dispatcher  *dispatcher
	sweeper     *sweeper
	lanes       []*lane

	fail context.CancelCauseFunc // ends work; the first call counts
	hung atomic.Bool             // a call was abandoned, and still runs

	reading bool // the source ignores the end of its context, and still reads
}

// newSession builds the parts of a session. careful is what the last one left.
func newSession(cfg *Config, c *checkpointer, stream Stream, name string, sink sinkParts, careful isolation) *session {
	b := newBudget(cfg.MaxInFlightBytes)
	c.lock = newSemaphore()
	// A Func is called for one event at a time anyway. With one event a lane, the
	// unbroken run of delivered events is longest, and one that fails holds up no
	// other document.
	_, single := As[Func](sink.sink)
	s := &session{
		cfg: cfg, log: c.log, status: c.status, checkpointer: c, sink: sink,
		reader:  newReader(stream, b, cfg.DeadLetters != nil),
		tracker: newTracker(stream.Position(), b),
		dispatcher: newDispatcher(batcher{
			maxEvents: cfg.MaxBatchEvents, maxBytes: cfg.MaxBatchBytes, maxAge: cfg.MaxBatchAge, lanes: cfg.Concurrency, single: single, careful: careful.events,
		}),
	}
	r := &failurePolicy{
		key: c.key, stream: name, maxAttempts: max(0, cfg.MaxAttempts), retryMin: cfg.RetryMin, retryMax: cfg.RetryMax,
		letters: cfg.DeadLetters, watchdog: c.watchdog, log: c.log, status: c.status,
	}
	s.failures = r
	if cfg.Transform != nil {
		s.transformer = &transformer{watchdog: c.watchdog, fn: cfg.Transform, failures: r}
	}
	for range cfg.Concurrency {
		s.lanes = append(s.lanes, s.newLane(name, r))
	}
	s.lanes[0].refusal = careful.refusal
	s.sweeper = s.newSweeper(r)
	return s
}

func (s *session) newLane(name string, r *failurePolicy) *lane {
	l := &lane{
		stream: name, dispatcher: s.dispatcher, tracker: s.tracker, failures: r, lock: s.sink.lock, status: s.status, log: s.log,
		watchdog: s.checkpointer.watchdog, ordered: s.cfg.Concurrency == 1, atomic: s.sink.tx != nil,
		valid: s.checkpointer.saver.valid,
		prepare: func(b *Batch, _ *uint64) sinkCall {
			return sinkCall{func(ctx context.Context) error { return s.sink.sink.Deliver(ctx, b) }, func(error) {}}
		},
	}
	switch {
	case l.atomic:
		l.prepare, l.lock = s.checkpointer.transaction, s.checkpointer.lock
	case s.cfg.SaveInterval < 0:
		l.afterward = s.checkpointer.save
	}
	return l
}

func (s *session) newSweeper(r *failurePolicy) *sweeper {
	w := &sweeper{
		tracker: s.tracker, failures: r, lock: s.sink.lock, status: s.status, log: s.log, watchdog: s.checkpointer.watchdog,
		valid: s.checkpointer.saver.valid, atomic: s.sink.tx != nil,
	}
	w.sink, _ = As[Sweeper](s.sink.sink)
	if w.atomic {
		w.lock = s.checkpointer.lock
	}
	return w
}

// A graceError is the cause of a work context that ended with the grace time.
type graceError struct{ after time.Duration }

func (e graceError) Error() string { return fmt.Sprintf("the grace time of %v is over", e.after) }

// workContext is the context of deliveries and saves. It ends with the lease, when
// the session fails, and GraceTime after ctx; it does not end with ctx.
func workContext(ctx context.Context, lease context.Context, grace time.Duration) (work context.Context, fail context.CancelCauseFunc, end func()) {
	work, fail = context.WithCancelCause(lease)
	timer := make(chan *time.Timer, 1)
	stop := context.AfterFunc(ctx, func() {
		timer <- time.AfterFunc(grace, func() { fail(graceError{grace}) })
	})
	return work, fail, func() {
		if !stop() {
			(<-timer).Stop()
		}
		fail(context.Canceled)
	}
}

// run moves events until ctx ends (then it delivers what is in hand, saves, and
// returns nil), or the stream or the destination can't continue.
func (s *session) run(ctx, work context.Context, fail context.CancelCauseFunc) error {
	s.fail = fail
	defer s.dispatcher.watch(work)()
	read, stopReading := context.WithCancel(ctx)
	defer stopReading()
	defer s.announceStop(ctx)()

	saving, stopSaving := context.WithCancel(work)
	defer stopSaving()
	saver := s.start(func() error { return s.checkpointer.run(work, saving) })
	reader := s.start(func() error { s.reader.run(read); return nil })
	var ended error // why the stream can't continue
	feeder := s.start(func() error { return s.feed(work, &ended) })
	var lanes sync.WaitGroup
	for _, l := range s.lanes {
		lanes.Go(func() { <-s.start(func() error { return l.run(work) }) })
	}

	<-feeder
	s.dispatcher.close()
	lanes.Wait()
	stopReading()
	stopSaving()
	s.reading = !leave(reader)
	if !leave(saver) {
		s.fail(graceError{closeTime})
		<-saver // all that it waits for ends with work, or is abandoned
	}
	return s.end(ctx, work, ended)
}

// announceStop has the phase change when ctx ends. After stop it does not.
func (s *session) announceStop(ctx context.Context) (stop func()) {
	announced := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(announced)
		s.status.phase(PhaseStopping)
	})
	return func() {
		if !cancel() {
			<-announced
		}
	}
}

// start runs a part of the session in a goroutine. Its error, a panic, and the end
// of its goroutine end the session.
func (s *session) start(do func() error) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := <-guarded(do); err != nil {
			s.hung.CompareAndSwap(false, errors.Is(err, ErrDeliveryHung))
			s.fail(err)
		}
	}()
	return done
}

// leave waits for a part that is to end, but not for ever: a source or a store may
// ignore its context.
func leave(done <-chan struct{}) (left bool) {
	t := time.NewTimer(closeTime)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// end saves what was delivered, whatever happened, as long as the lease lasts;
// only a destination that may have lost it prevents that. It returns nil if
// everything that was read is delivered and saved.
func (s *session) end(ctx, work context.Context, ended error) error {
	err := context.Cause(work)
	if over := (graceError{}); errors.As(err, &over) || err == nil {
		if open, all := s.tracker.undelivered(); all > 0 {
			err = fmt.Errorf("%w: %d; %d events are redelivered after the next start", ErrUndelivered, open, all)
			if over.after > 0 {
				err = fmt.Errorf("%w (%w)", err, over)
			}
		} else {
			err = nil
		}
	}
	if s.hung.Load() && !errors.Is(err, ErrDeliveryHung) {
		err = errors.Join(err, ErrDeliveryHung)
	}
	err = errors.Join(ended, err)
	switch {
	case errors.Is(err, errRewind):
		return err
	case s.hung.Load() && s.sink.syncer != nil:
		return errors.Join(err, ErrUnsaved) // Sync may not run beside Deliver
	}
	last, cancel := context.WithTimeout(s.checkpointer.saver.context(ctx), closeTime)
	defer cancel()
	if unsaved := s.checkpointer.final(last); unsaved != nil {
		s.hung.CompareAndSwap(false, errors.Is(unsaved, ErrDeliveryHung))
		err = errors.Join(err, unsaved)
	}
	return err
}

// feed moves what is read to the dispatcher, until nothing more comes.
func (s *session) feed(work context.Context, ended *error) error {
	var keys func(Event) uint64 // with one lane all events are in order
	if s.cfg.Concurrency > 1 {
		keys = keyOf(maphash.MakeSeed())
	}
	for {
		select {
		case c, more := <-s.reader.chunks:
			if !more {
				return nil
			}
			if c.err != nil {
				*ended = c.err
				return nil
			}
			err := s.take(work, c, keys)
			if errors.As(err, new(*RefusedError)) {
				*ended = err // what comes before that event is delivered
				return nil
			}
			if err != nil {
				return err
			}
		case <-work.Done():
			return nil
		}
	}
}

// take adds a chunk to the tracker and moves its events on.
func (s *session) take(work context.Context, c chunk, keys func(Event) uint64) error {
	number := s.tracker.add(c.events, c.end)
	items := make([]item, len(c.events))
	for i, ev := range c.events {
		items[i] = item{event: ev, number: number + uint64(i)}
	}
	if c.unreadable == nil {
		return s.takeItems(work, items, keys)
	}
	if err := s.failures.refuse(work, c.events[0], 1, c.unreadable); err != nil {
		return err
	}
	s.tracker.done(items)
	return nil
}

// takeItems gives events to the dispatcher, and has the sink sweep between them where a
// copy has ended.
func (s *session) takeItems(work context.Context, items []item, keys func(Event) uint64) error {
	for {
		n := slices.IndexFunc(items, func(it item) bool { _, ok := it.event.snapshotEnd(); return ok })
		if n < 0 {
			return s.transformItems(work, items, keys)
		}
		if err := s.transformItems(work, items[:n:n], keys); err != nil {
			return err
		}
		if err := s.dispatcher.drain(work); err != nil {
			return err
		}
		if err := s.sweeper.sweep(work, items[n]); err != nil {
			return err
		}
		items = items[n+1:]
	}
}

// transformItems gives events to the dispatcher, as the transform leaves them.
func (s *session) transformItems(work context.Context, items []item, keys func(Event) uint64) error {
	if s.transformer == nil {
		return s.dispatch(work, items, keys)
	}
	var dispatched error
	err := s.transformer.apply(work, eventsOf(items), func(out []transformResult) {
		kept := items[:0:len(out)]
		for i, to := range out {
			it := items[i]
			if !to.keep {
				s.tracker.done([]item{it})
				s.status.update(func(st *StreamStatus) { st.Dropped++ })
				continue
			}
			it.event = to.event
			kept = append(kept, it)
		}
		items = items[len(out):]
		if dispatched == nil {
			dispatched = s.dispatch(work, kept, keys)
		}
	})
	return errors.Join(dispatched, err)
}

func eventsOf(items []item) []Event {
	events := make([]Event, len(items))
	for i, it := range items {
		events[i] = it.event
	}
	return events
}

// dispatch gives events to the lanes. With concurrency, one that is about no single
// document waits until all before it are delivered, and all after it wait for it.
func (s *session) dispatch(work context.Context, items []item, keys func(Event) uint64) error {
	if s.cfg.Concurrency == 1 {
		s.dispatcher.add(items, keys)
		return nil
	}
	for len(items) > 0 {
		n := 0
		for n < len(items) && !isBarrier(items[n].event) {
			n++
		}
		s.dispatcher.add(items[:n], keys)
		if items = items[n:]; len(items) == 0 {
			break
		}
		if err := s.dispatcher.drain(work); err != nil {
			return err
		}
		s.dispatcher.add(items[:1], keys)
		if err := s.dispatcher.drain(work); err != nil {
			return err
		}
		items = items[1:]
	}
	return nil
}

// closeSink closes a sink that has a Close. It may take as long as the last
// deliveries, and is then abandoned: a standby must not wait for it.
func closeSink(s Sink, limit time.Duration) error {
	c, ok := As[io.Closer](s)
	if !ok {
		return nil
	}
	if err := within(limit, c.Close); err != nil {
		return fmt.Errorf("closing the destination: %w", err)
	}
	return nil
}
