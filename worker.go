package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// closeTime is how long the last save, the release of a lease and the closing of
// a stream may take when everything else is over.
const closeTime = 5 * time.Second

// A worker runs one stream: it holds the lease, and lives as many lives as it
// takes. A life ends when the destination has to go back to the checkpoint, or
// with the lease.
type worker struct {
	p           *Pipeline
	cfg         *Config
	stream, key string
	log         *slog.Logger

	place  place             // how the checkpoint is saved
	last   *state.Checkpoint // the last one known to be saved; nil at a first start
	first  bool              // there was no checkpoint
	known  bool              // this worker has seen a checkpoint under its key
	seq    uint64            // the last sequence used
	opened bool              // the stream has been open before
}

// run lives until ctx ends (nil) or something needs a person (an error).
func (w *worker) run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := w.tenure(ctx)
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil // it was still on its way to streaming
		case ctx.Err() != nil:
			return err
		case errors.Is(err, errLeaseLost):
			// Most likely the store was away for longer than the lease lasts. If
			// somebody else has taken over, the next acquire says so.
			w.log.Warn("the lease was lost; trying to take it again", "key", w.key, "err", err)
		case w.known && errors.Is(err, state.ErrUnavailable):
			w.log.Warn("the store is unavailable; trying again", "key", w.key, "err", err)
			if w.pause(ctx, saveRetryMax(w.cfg), attempt) != nil {
				return nil
			}
		default:
			return err
		}
	}
}

// tenure is the time under one lease.
func (w *worker) tenure(ctx context.Context) error {
	if err := w.acquire(ctx); err != nil {
		return err
	}
	defer w.release()
	if w.first && !w.cfg.NewStream {
		if err := w.refuseUnclaimed(ctx); err != nil {
			return err
		}
	}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := w.life(ctx)
		if err != nil && ctx.Err() == nil && w.place.valid() != nil {
			return fmt.Errorf("%w: %w", errLeaseLost, w.place.valid())
		}
		if !isRewind(err) || ctx.Err() != nil {
			return err
		}
		w.p.stats.rewinds.Add(1)
		w.log.Error("going back to the last checkpoint", "err", err)
		if time.Since(began) > w.cfg.RetryMax {
			attempt = 0
		}
		if err := w.pause(ctx, w.cfg.RetryMax, attempt); err != nil {
			return nil
		}
	}
}

// life attaches the destination, opens the stream at the checkpoint, and pumps
// events from one to the other.
func (w *worker) life(ctx context.Context) (err error) {
	work, end := w.workContext(ctx)
	defer end()
	dest, detach, err := w.attach(work)
	if err != nil {
		return w.later(fmt.Errorf("attaching the destination: %w", err))
	}
	defer func() {
		if cerr := detach(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("closing the destination: %w", cerr))
		}
	}()
	stream, err := w.cfg.Source.Open(ctx, w.stream, w.start())
	if err != nil {
		return w.later(fmt.Errorf("opening the stream: %w", err))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		_ = stream.Close(ctx) // the server closes it by itself; see Stream.Close
	}()
	f := newFlow(w, dest, stream)
	if err := f.saveStart(work); err != nil {
		return fmt.Errorf("saving where the stream begins: %w", err)
	}
	if !w.opened {
		w.opened = true
		w.p.opened()
		w.log.Info("streaming", "key", w.key, "first start", w.first, "from", stream.Position().Token)
		w.warnOfExpiry(ctx)
	}
	return f.run(ctx, work)
}

// later makes an error of a life that is not the first one a reason to try
// again, unless it is about the place itself: what worked once will again.
func (w *worker) later(err error) error {
	if !w.opened || errors.Is(err, ErrHistoryLost) || errors.Is(err, ErrChangedStream) {
		return err
	}
	return fmt.Errorf("%w: %w", errRewind, err)
}

// workContext is the context of deliveries and saves. It ends with the lease,
// and GraceTime after ctx; it does not end with ctx.
func (w *worker) workContext(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancelCause(w.place.context(ctx))
	timer := make(chan *time.Timer, 1)
	stop := context.AfterFunc(ctx, func() {
		timer <- time.AfterFunc(w.cfg.GraceTime, func() {
			cancel(graceError{w.cfg.GraceTime})
		})
	})
	return work, func() {
		if !stop() {
			(<-timer).Stop()
		}
		cancel(context.Canceled)
	}
}

// attach returns what to deliver to, and what to call when done with it.
func (w *worker) attach(ctx context.Context) (dest Destination, detach func() error, err error) {
	detach = func() error { return nil }
	a, ok := w.cfg.Destination.(Attacher)
	if !ok {
		return w.cfg.Destination, detach, nil
	}
	at := Attachment{Key: w.key, Stream: w.stream, Epoch: w.place.epoch()}
	if w.last != nil {
		at.Saved = savedBySync(w.last)
	} else {
		at.First = !w.cfg.NewStream && w.cfg.StartAt.T == 0 && !isVolatile(w.cfg.Store)
	}
	dest, err = a.Attach(ctx, at)
	if c, ok := dest.(io.Closer); ok && err == nil {
		detach = c.Close
	}
	return dest, detach, err
}

func isVolatile(s state.Store) bool {
	v, ok := state.As[state.Volatile](s)
	return ok && v.Volatile()
}

func (w *worker) start() Start {
	if w.last == nil {
		return Start{Time: w.cfg.StartAt}
	}
	return Start{Checkpoint: w.last, AcceptChanged: w.cfg.AcceptChangedStream}
}

// acquire takes the lease, where the store can lease, and reads the checkpoint.
func (w *worker) acquire(ctx context.Context) error {
	pl, cp, err := w.takePlace(ctx)
	if err != nil && pl == nil {
		return err
	}
	switch {
	case err == nil:
		w.last, w.known, w.first = &cp, true, false
		w.seq = max(w.seq, cp.Sequence)
	case errors.Is(err, state.ErrNotFound) && w.known:
		err = fmt.Errorf("%w: %w", ErrCheckpointLost, err)
	case errors.Is(err, state.ErrNotFound):
		w.last, w.first, err = nil, true, nil
	}
	w.place = pl
	if err != nil {
		w.release()
	}
	return err
}

func (w *worker) takePlace(ctx context.Context) (place, state.Checkpoint, error) {
	lease, err := state.Hold(ctx, w.cfg.Store, w.key, &state.HoldOptions{
		Owner: w.cfg.Owner, TTL: w.cfg.LeaseTTL, Wait: w.cfg.LeaseWait, Logger: w.log,
	})
	if errors.Is(err, errors.ErrUnsupported) {
		cp, err := w.cfg.Store.Load(ctx, w.key)
		return unleased{w.cfg.Store, w.key}, cp, err
	}
	if err != nil {
		return nil, state.Checkpoint{}, err
	}
	g := lease.Grant()
	w.seq = max(w.seq, g.LastSequence)
	return leased{lease}, g.Checkpoint, g.LoadErr
}

func (w *worker) release() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := w.place.release(ctx); err != nil {
		w.log.Warn("the lease could not be released, and will run out by itself", "key", w.key, "err", err)
	}
}

// refuseUnclaimed looks, at a first start, for checkpoints of this pipeline that
// no stream claims.
func (w *worker) refuseUnclaimed(ctx context.Context) error {
	var found []string
	for e, err := range state.List(ctx, w.cfg.Store, w.cfg.Name) {
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		case err != nil:
			return fmt.Errorf("listing the pipeline's checkpoints: %w", err)
		case e.Key != w.cfg.Name && !strings.HasPrefix(e.Key, w.cfg.Name+"/"):
		case w.p.claimKeys[e.Key], errors.Is(e.LoadErr, state.ErrNotFound):
		default:
			found = append(found, fmt.Sprintf("%q", e.Key))
		}
	}
	if len(found) == 0 {
		return nil
	}
	const most = 10
	if n := len(found); n > most {
		found = append(found[:most], fmt.Sprintf("and %d more", n-most))
	}
	return fmt.Errorf("%w: %s; clear them, or accept this stream as a new one (NewStream)", ErrUnclaimed, strings.Join(found, ", "))
}

// pause waits before the next attempt, or returns the error of ctx.
func (w *worker) pause(ctx context.Context, most time.Duration, attempt int) error {
	t := time.NewTimer(backoff(w.cfg.RetryMin, most, attempt))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
