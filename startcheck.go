package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A StartCheck is what Run would do at the beginning of a stream.
type StartCheck struct {
	Stream, Key string
	// Checkpoint is what the stream would resume from; nil at a first start.
	Checkpoint *state.Checkpoint
	// From is the cluster time that a first start begins at; zero for now. It may be
	// that of other checkpoints of the pipeline, which the stream continues.
	From bson.Timestamp
	// Position is where the stream opens, as the source has opened it; zero if it
	// could not be. With a Snapshot in it, a copy would begin or go on.
	Position Position
	// Gap is what would be recorded as skipped, where Config.OnHistoryLost decides
	// where the stream opens; nil for nothing. It has no To: that is Position.
	Gap *Gap
	// Now is the cluster time, and Runway that of the checkpoint; zero, and not
	// known, where the source doesn't say: see [History].
	Now         bson.Timestamp
	Runway      time.Duration
	RunwayKnown bool
	// Err is why Run would not begin, in the words of Run; nil if it would.
	Err error
}

// An OpeningChecker is a [Destination] that can say whether Open would refuse, and
// changes nothing. It is asked by [Pipeline.CheckStart].
type OpeningChecker interface {
	CheckOpening(ctx context.Context, o Opening) error
}

// CheckStart reports what Run would do now, for each stream. It reads the store,
// opens and closes the streams at the source, and asks the destination if it is an
// [OpeningChecker]. It acquires no lease, delivers nothing and writes nothing, also
// while the pipeline runs elsewhere: that its lease is held is in Err.
func (p *Pipeline) CheckStart(ctx context.Context) []StartCheck {
	var history History
	if p.historian != nil {
		history, _ = p.historian.read(ctx) // unknown: zero
	}
	var all []StartCheck
	for _, w := range p.workers {
		c := StartCheck{Stream: w.stream, Key: w.key, Now: history.Newest}
		if err := <-guarded(func() error { return w.checkStart(ctx, &c) }); err != nil {
			c.Err = fmt.Errorf("rigatoni: %s: %w", quote.Text(w.key), err)
		}
		if c.Checkpoint != nil {
			c.Runway, c.RunwayKnown = history.Runway(c.Checkpoint.ClusterTime)
		}
		all = append(all, c)
	}
	return all
}

// checkStart goes through what a session begins with, in its order, and returns the
// first error that Run would. The stream is opened all the same where another
// process has the lease.
func (w *worker) checkStart(ctx context.Context, c *StartCheck) error {
	held := w.holder(ctx)
	cp, err := w.cfg.Store.Load(ctx, w.key)
	switch {
	case errors.Is(err, state.ErrNotFound):
		if err = w.checkFirstStart(ctx); err != nil {
			return errors.Join(held, err)
		}
	case err != nil:
		return errors.Join(held, err)
	default:
		c.Checkpoint, w.checkpointer.last = &cp, &cp
	}
	c.From = w.checkpointer.start().Time
	defer func() { w.checkpointer.last = nil }()
	err = w.checkOpening(ctx)
	quiet := w.recovery
	quiet.log = slog.New(slog.DiscardHandler)
	stream, gap, errOpen := quiet.openAt(ctx, w.checkpointer.start())
	if gap != nil {
		gap.From = cp.ClusterTime
		c.Gap = gap
	}
	if errOpen == nil {
		c.Position = stream.Position()
		closeStream(stream)
	} else {
		errOpen = fmt.Errorf("opening the stream: %w", errOpen)
	}
	return errors.Join(held, err, errOpen)
}

// holder is the error for a lease that another process has now.
func (w *worker) holder(ctx context.Context) error {
	if w.cfg.LeaseTTL < 0 {
		return nil
	}
	for e, err := range state.List(ctx, w.cfg.Store, w.key) {
		if err != nil {
			return nil // Load says what is wrong with the store
		}
		if e.Key == w.key && e.Owner != "" {
			return &state.HeldError{Owner: e.Owner}
		}
	}
	return nil
}

func (w *worker) checkOpening(ctx context.Context) error {
	d, ok := As[OpeningChecker](w.cfg.Destination)
	if !ok {
		return nil
	}
	o := w.checkpointer.unfenced(w.stream)
	err := d.CheckOpening(ctx, o)
	if output := (*OutputError)(nil); o.FirstStart && errors.As(err, &output) {
		err = w.acceptOutput(outputFinding(err, output))
	}
	if err != nil {
		return fmt.Errorf("opening the destination: %w", err)
	}
	return nil
}
