package rigatoni

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A worker runs one stream: it acquires the lease, and runs as many sessions as it
// takes. A session ends when the stream has to go back to the checkpoint, or with
// the lease.
type worker struct {
	cfg          *Config
	stream, key  string
	census       *census
	log          *slog.Logger
	status       *monitor
	checkpointer *checkpointer
	recovery     recovery
	opened       func() // called once, when the stream is open and its start is saved

	isOpen  bool      // opened has been called
	careful isolation // of the next session
	owed    error     // why what an earlier session delivered is not saved; nil if it is
	owedAt  Position  // up to where that session had delivered
}

// run works until ctx ends (nil, or why not all is delivered and saved), or the
// stream requires manual intervention.
func (w *worker) run(ctx context.Context) error {
	return w.checkpointer.leaveReplaced(w.work(ctx))
}

func (w *worker) work(ctx context.Context) error {
	away := 0 // attempts in a row that found the store away
	for attempt := 0; ; attempt++ {
		err := w.tenure(ctx)
		var isolate *isolateError
		switch {
		case err == nil, ctx.Err() != nil:
			return err
		case errors.Is(err, ErrDeliveryHung):
			return err // it may still run, and nothing may run beside it
		case errors.As(err, &isolate):
			w.log.Warn("batch refused; acquiring the lease again", "key", w.key, "err", isolate)
			w.careful = isolate.of
		case errors.Is(err, errReopen):
			w.log.Error("acquiring the lease again", "key", w.key, "err", err)
			_ = w.pause(ctx, w.cfg.RetryMax, attempt) // ctx is asked below
		case errors.Is(err, errLeaseLost):
			// Most likely the store was away for longer than the lease lasts. If
			// somebody else has taken over, the next acquire returns who.
			w.log.Warn("lease lost; acquiring it again", "key", w.key, "err", err)
			away = 0
			_ = w.pause(ctx, w.cfg.RetryMin, 0)
		case errors.As(err, new(*RefusedError)):
			return err // of a sink whose error is the store's, perhaps
		case w.checkpointer.known && errors.Is(err, state.ErrUnavailable):
			away++
			w.log.Log(ctx, thinned(away), "store unavailable; retrying", "key", w.key, "err", err, "attempt", away)
			_ = w.pause(ctx, saveRetryMax(w.cfg), away-1)
		default:
			return err
		}
		if ctx.Err() != nil {
			return w.owed
		}
	}
}

// errReopen: it is unknown whether the last save or transaction was done. To go back
// to the checkpoint before it could lose events, if the store has the later one: a
// destination takes its output back, and the next start resumes beyond it. The lease
// is acquired again, which reads the checkpoint and fences off what may still be
// under way.
var errReopen = errors.New("the outcome of the last save is unknown")

// tenure is the time under one lease. The error of a ctx that ended before there
// was anything to lose is nil.
func (w *worker) tenure(ctx context.Context) (err error) {
	w.status.phase(PhaseLeasing)
	if err := w.checkpointer.acquire(ctx); err != nil {
		return w.unlessStopped(ctx, err)
	}
	defer func() {
		err = w.checkpointer.leave(err)
		w.checkpointer.release()
	}()
	if w.checkpointer.last == nil {
		if err := w.checkFirstStart(ctx); err != nil {
			return w.unlessStopped(ctx, err)
		}
	}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := w.session(ctx)
		if err != nil && ctx.Err() == nil && w.checkpointer.saver.valid() != nil {
			return fmt.Errorf("%w: %w", errLeaseLost, err)
		}
		if !w.isRewind(err) || ctx.Err() != nil || errors.Is(err, errReopen) {
			return err
		}
		w.status.update(func(s *StreamStatus) { s.Rewinds++ })
		w.status.failed(err)
		w.status.phase(PhaseRewinding)
		w.log.Error("going back to the last checkpoint", "key", w.key, "err", err)
		if time.Since(began) > w.cfg.RetryMax {
			attempt = 0
		}
		if w.pause(ctx, w.cfg.RetryMax, attempt) != nil {
			return w.owed
		}
	}
}

// unlessStopped is the error of a step on the way to a session; if it is that ctx
// has ended, what is owed.
func (w *worker) unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return w.owed
	}
	return err
}

// isRewind reports whether a session is to be followed by another one, from the
// last checkpoint.
func (w *worker) isRewind(err error) bool {
	return errors.Is(err, errRewind) && !errors.As(err, new(*RefusedError)) && !errors.Is(err, ErrDeliveryHung) && !errors.Is(err, ErrDestinationClosed)
}

// session opens destination and stream at the checkpoint, and runs until one of
// them can't continue.
func (w *worker) session(ctx context.Context) (err error) {
	w.status.phase(PhaseOpening)
	work, fail, end := workContext(ctx, w.checkpointer.saver.context(ctx), w.cfg.GraceTime)
	defer end()
	sink, err := w.openSink(work)
	if err != nil {
		return w.unlessStopped(ctx, w.later(fmt.Errorf("opening the destination: %w", err)))
	}
	var s *session
	defer func() {
		if s == nil || !s.hung.Load() {
			err = errors.Join(err, closeSink(sink.sink, w.cfg.GraceTime))
		}
	}()
	stream, gap, err := w.recovery.openAt(ctx, w.checkpointer.start())
	if err != nil {
		return w.unlessStopped(ctx, w.later(fmt.Errorf("opening the stream: %w", err)))
	}
	if gap != nil {
		w.checkpointer.skip(*gap)
	}
	defer func() {
		if s == nil || !s.reading {
			closeStream(stream)
		}
	}()
	s = newSession(w.cfg, w.checkpointer, stream, w.stream, sink, w.careful)
	w.careful = isolation{}
	first := w.checkpointer.last == nil
	if err := w.checkpointer.begin(work, stream, sink, s.tracker); err != nil {
		return fmt.Errorf("saving where the stream begins: %w", err)
	}
	defer w.status.follow(s.tracker, stream)()
	w.streams(ctx, stream, first)
	err = s.run(ctx, work, fail)
	if w.owed != nil && (s.tracker.mark().events > 0 || stream.Position().isAt(w.owedAt)) {
		w.owed = nil // it is delivered again, or was saved after all
	}
	if err != nil && (s.tracker.inFlight() > 0 || w.checkpointer.hasUnsaved() || errors.Is(err, errRewind)) {
		w.owed, w.owedAt = err, w.checkpointer.delivered()
	}
	if ctx.Err() == nil && w.recovery.helps(err) {
		if !w.checkpointer.isBehind() {
			w.recovery.note(w.checkpointer.last.Token, err)
		}
		err = fmt.Errorf("%w: %w", errRewind, err)
	}
	if err != nil && (sink.tx != nil || w.checkpointer.unsure) && w.isRewind(err) {
		err = fmt.Errorf("%w: %w", errReopen, err)
	}
	return cmp.Or(err, w.owed)
}

// streams announces that the stream is open.
func (w *worker) streams(ctx context.Context, stream Stream, first bool) {
	w.status.phase(PhaseStreaming)
	pos := stream.Position()
	if w.isOpen {
		w.log.Info("streaming again", "key", w.key, "cluster_time", timestampText(pos.ClusterTime))
		return
	}
	w.isOpen = true
	w.opened()
	switch {
	case first:
		message := "first start: the store has no checkpoint; what exists is copied, and events since this cluster time are delivered"
		if pos.Snapshot == "" {
			message = "first start: the store has no checkpoint, and only events since this cluster time are delivered"
		}
		w.log.Warn(message, "key", w.key, "store", describe(w.cfg.Store), "cluster_time", timestampText(pos.ClusterTime))
	case w.cfg.copiesAtFirst() && pos.Snapshot == "":
		w.log.Info("nothing is copied: the stream has a checkpoint, and resumes from it; to copy collections again, use rigatoni checkpoint set --snapshot",
			"key", w.key, "snapshot", w.cfg.Snapshot)
	}
	w.log.Info("streaming", "key", w.key, "first_start", first, "cluster_time", timestampText(pos.ClusterTime))
}

// openStream opens the stream. It is abandoned where it goes on after ctx has ended.
func (w *worker) openStream(ctx context.Context, start Start) (Stream, error) {
	var stream Stream
	if start.Snapshot || start.Checkpoint != nil && hasSnapshot(*start.Checkpoint) {
		if err := canSnapshot(w.cfg.Source); err != nil {
			return nil, Permanent(fmt.Errorf("a snapshot is under way, but %w", err))
		}
	}
	err := await(ctx, guarded(func() (err error) {
		stream, err = w.cfg.Source.Open(ctx, w.stream, start)
		return err
	}))
	if err != nil {
		return nil, err
	}
	if stream == nil {
		return nil, Permanent(fmt.Errorf("the source (%T) opened no stream", w.cfg.Source))
	}
	return stream, nil
}

// closeStream closes a stream. Its error does not matter; see Stream.Close.
func closeStream(stream Stream) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = await(ctx, guarded(func() error { return stream.Close(ctx) }))
}

// openSink opens the destination and checks that what it returns can do what the
// configuration asks of it.
func (w *worker) openSink(ctx context.Context) (sinkParts, error) {
	var s Sink
	slow := watchdog{log: w.log} // without a timeout: to take output back may take long
	opening := w.checkpointer.opening(w.stream)
	open := func() error {
		return slow.call(ctx, watchedCall{name: "opening of the destination", do: func(ctx context.Context) (err error) {
			s, err = w.cfg.Destination.Open(ctx, opening)
			return err
		}})
	}
	err := open()
	if output := (*OutputError)(nil); opening.FirstStart && errors.As(err, &output) {
		if err = w.acceptOutput(outputFinding(err, output)); err == nil {
			opening.AcceptAnyOutput = true
			err = open()
		}
	}
	if err != nil {
		return sinkParts{}, err
	}
	if s == nil {
		return sinkParts{}, Permanent(fmt.Errorf("the destination (%T) opened no sink", w.cfg.Destination))
	}
	p := partsOf(s)
	if err := w.checkSink(p); err != nil {
		return sinkParts{}, errors.Join(Permanent(err), closeSink(p.sink, w.cfg.GraceTime))
	}
	return p, nil
}

func (w *worker) checkSink(p sinkParts) error {
	c, ok := As[Concurrent](p.sink)
	concurrent := ok && c.Concurrent()
	_, keeps := As[Checkpointer](w.cfg.Destination)
	switch n := w.cfg.Concurrency; {
	case n > 1 && p.tx != nil:
		return fmt.Errorf("Config.Concurrency is %d, but this destination delivers each batch in one transaction with its checkpoint; it takes 1", n)
	case n > 1 && p.syncer != nil:
		return fmt.Errorf("Config.Concurrency is %d, but this destination writes in the order of the stream; it takes 1", n)
	case n > 1 && !concurrent:
		return fmt.Errorf("Config.Concurrency is %d, but this destination (%T) is not rigatoni.Concurrent; it takes 1", n, p.sink)
	case p.tx != nil && !keeps:
		return fmt.Errorf("the sink (%T) is Transactional, but its destination (%T) is no Checkpointer", p.sink, w.cfg.Destination)
	case p.tx == nil && keeps:
		return fmt.Errorf("the destination (%T) is a Checkpointer, but its sink (%T) is not Transactional", w.cfg.Destination, p.sink)
	}
	return nil
}

// later makes an error of opening, once the stream has been open, a reason to try
// again, unless it is about the checkpoint itself: what worked once will again.
func (w *worker) later(err error) error {
	if !w.isOpen || errors.Is(err, ErrHistoryLost) || errors.Is(err, ErrChangedStream) || errors.Is(err, ErrOutputExists) ||
		errors.Is(err, ErrOutputAhead) || errors.As(err, new(*FirstStartError)) || errors.As(err, new(*OutputError)) || isPermanent(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errRewind, err)
}

// checkFirstStart finds out where a first start begins, and refuses one that
// something speaks against.
func (w *worker) checkFirstStart(ctx context.Context) (err error) {
	w.checkpointer.origin, err = w.census.check(ctx, w.key)
	return err
}

// acceptOutput refuses a first start beside output, unless that is accepted.
func (w *worker) acceptOutput(f Finding) error {
	code := acceptCode(w.key, []Finding{f})
	if !w.cfg.FirstStart.accepted(code) {
		return &FirstStartError{Key: w.key, Found: []Finding{f}, Accept: w.cfg.FirstStart.with(code)}
	}
	w.log.Warn("first start accepted", "key", w.key, "found", f.String(), "code", code)
	w.checkpointer.origin.accepted = append(slices.Clip(w.checkpointer.origin.accepted), f)
	return nil
}

// withFacts adds to a lost history what a decision needs.
func (w *worker) withFacts(err error) error {
	if !errors.Is(err, ErrHistoryLost) || errors.As(err, new(*HistoryLostError)) {
		return err
	}
	lost := &HistoryLostError{Key: w.key, ClusterTime: w.checkpointer.start().Time, Err: err}
	if last := w.checkpointer.last; last != nil {
		lost.ClusterTime, lost.SavedAt = last.ClusterTime, last.SavedAt
	}
	if src, ok := w.cfg.Source.(HistoryReporter); ok {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		answer := make(chan History, 1)
		if await(ctx, guarded(func() error {
			h, err := src.History(ctx)
			answer <- h
			return err
		})) == nil {
			lost.Oldest = (<-answer).Oldest
		}
	}
	return lost
}

// pause waits before the next attempt, or returns the cause of ctx's end.
func (w *worker) pause(ctx context.Context, most time.Duration, attempt int) error {
	return backoff.Wait(ctx, backoff.Duration(w.cfg.RetryMin, most, attempt))
}
