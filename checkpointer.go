package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// closeTime is how long the last save, the release of a lease and the closing of
// a stream may take when everything else is over.
const closeTime = 5 * time.Second

// A checkpointer is alone in touching the lease, the sequence and the store of one
// stream. Everything that is saved beside the token goes through it.
//
// Its fields are the worker's, which acquires, begins sessions and releases, until
// a session runs; from then on they belong to whoever holds the lock: the
// loop of the session, a lane that saves after its batch or delivers a
// transaction, and the end of the session. Only the schedule has a lock of its own.
type checkpointer struct {
	cfg      *Config
	key      string
	log      *slog.Logger
	status   *monitor
	watchdog watchdog

	saver  saver             // nil without a lease, before acquire and after release
	last   *state.Checkpoint // the last one known to be saved; nil at a first start
	known  bool              // a checkpoint has been seen under the key
	unsure bool              // the last save failed, and may have been done all the same
	seq    uint64            // the last sequence used
	gap    *Gap              // for begin to record; nil for none
	origin origin            // of a first start

	// Of the current session.
	lock        semaphore // around each save
	tracker     *tracker
	sink        sinkParts
	fingerprint string
	at          Position // of the last save
	schedule    saveSchedule
	snapshot    snapshotLog
	copying     atomic.Bool // the last checkpoint has the state of a copy
	lost        error       // of a Sync or Committed that failed: nothing more is saved
}

// sinkParts is a sink with what else it can do, nil for what it can't.
type sinkParts struct {
	sink      Sink
	syncer    Syncer
	committer Committer
	tx        Transactional
	lock      semaphore // between Deliver, Sync and Committed; nil without Sync
}

func partsOf(s Sink) sinkParts {
	p := sinkParts{sink: s}
	p.syncer, _ = As[Syncer](s)
	p.committer, _ = As[Committer](s)
	p.tx, _ = As[Transactional](s)
	if p.syncer != nil {
		p.lock = newSemaphore()
	}
	return p
}

// acquire takes the lease, unless there is to be none, and reads the checkpoint.
func (c *checkpointer) acquire(ctx context.Context) error {
	c.gap = nil // of another checkpoint, perhaps
	cp, err := c.grant(ctx)
	if err != nil && c.saver == nil {
		return err
	}
	switch {
	case err == nil:
		c.last, c.known = &cp, true
		c.seq = max(c.seq, cp.Sequence)
		c.status.loaded(cp)
		c.countGaps(cp)
	case errors.Is(err, state.ErrNotFound) && c.known:
		err = c.isLost(c.cfg.Store, err)
	case errors.Is(err, state.ErrNotFound):
		c.last, err = nil, nil
	}
	if err != nil {
		c.release()
	}
	return err
}

func (c *checkpointer) grant(ctx context.Context) (state.Checkpoint, error) {
	if c.cfg.LeaseTTL < 0 {
		cp, err := c.cfg.Store.Load(ctx, c.key)
		c.saver = plainSaver{c.cfg.Store, c.key}
		return cp, err
	}
	c.look(ctx)
	lease, err := state.Hold(ctx, c.cfg.Store, c.key, &state.HoldOptions{
		Owner: c.cfg.Owner, TTL: c.cfg.LeaseTTL, Wait: c.cfg.LeaseWait, Logger: c.log,
		Attempted: c.status.leasing,
	})
	c.status.update(func(s *StreamStatus) { s.Holder, s.HeldUntil = "", time.Time{} })
	if err != nil {
		return state.Checkpoint{}, err
	}
	c.saver = leasedSaver{lease}
	g := lease.Grant()
	c.seq = max(c.seq, g.LastSequence)
	c.status.update(func(s *StreamStatus) { s.Owner, s.Epoch = lease.Owner(), g.Fence.Epoch })
	return g.Checkpoint, g.LoadErr
}

// look reads the checkpoint before the lease is acquired, which may take long: if
// it is gone by then, that is a loss and no first start. Whatever else is wrong
// with the store, acquiring the lease finds as well.
func (c *checkpointer) look(ctx context.Context) {
	if c.known {
		return
	}
	if cp, err := c.cfg.Store.Load(ctx, c.key); err == nil {
		c.last, c.known = &cp, true
	}
}

func (c *checkpointer) release() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	saver := c.saver
	if err := await(ctx, guarded(func() error { return saver.release(ctx) })); err != nil {
		c.log.Warn("lease not released; it ends by its TTL, or with this process", "key", c.key, "err", err)
	}
	c.saver = nil
	c.status.update(func(s *StreamStatus) { s.Owner, s.Epoch = "", 0 })
}

// leaveTime is how long the last look at the store may take.
const leaveTime = 2 * time.Second

// leave looks, before the lease is released, whether the store still has the
// checkpoint: if not, the next start must not be a first start. It returns err, with
// ErrCheckpointLost where that is why.
func (c *checkpointer) leave(err error) error {
	if !c.known || errors.Is(err, state.ErrUnavailable) || errors.Is(err, ErrDeliveryHung) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	loaded := await(ctx, guarded(func() error { _, err := c.cfg.Store.Load(ctx, c.key); return err }))
	if !errors.Is(loaded, state.ErrNotFound) {
		return err
	}
	return errors.Join(c.isLost(c.cfg.Store, loaded), err)
}

// leaveReplaced leaves what is known of the checkpoint where the store was, if that
// was removed or replaced: at the end, since until then it may be put back.
func (c *checkpointer) leaveReplaced(err error) error {
	r, ok := state.As[state.Reopener](c.cfg.Store)
	if !ok || !c.known || errors.Is(err, ErrDeliveryHung) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if _, loaded := c.cfg.Store.Load(ctx, c.key); !errors.Is(loaded, state.ErrReplaced) {
		return err
	}
	now, failed := r.Reopen(ctx)
	if failed != nil {
		c.log.Error("the store is gone, and what is known of its checkpoint can't be left there: the next start would be a first start", "key", c.key, "err", failed)
		return err
	}
	_, loaded := now.Load(ctx, c.key)
	if errors.Is(loaded, state.ErrNotFound) {
		err = errors.Join(c.isLost(now, loaded), err)
	}
	if failed := state.Close(now); failed != nil {
		c.log.Warn("the store that is there now was not closed", "err", failed)
	}
	return err
}

// isLost is the error of a checkpoint that the store has lost. It leaves what is known
// of it in the store, so that the next start is refused.
func (c *checkpointer) isLost(store state.Store, err error) error {
	if c.last == nil {
		return fmt.Errorf("%w: %w", ErrCheckpointLost, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	lost := &LostError{Key: c.key, Checkpoint: c.last.Clone(), Err: err}
	left, unsaved := leaveRecord(ctx, store, c.key, *c.last, extraLost, lostNote(*c.last))
	if unsaved != nil {
		c.log.Error("the checkpoint is gone, and what is known of it can't be saved: the next start would be a first start",
			"key", c.key, "cluster_time", timestampText(c.last.ClusterTime), "saved_at", stamp(c.last.SavedAt), "err", unsaved)
		return lost
	}
	lost.Accept = c.cfg.FirstStart.with(acceptCode(c.cfg.Name, []Finding{lostFinding(c.key, left)}))
	return lost
}

// opening is what a destination is opened with.
func (c *checkpointer) opening(stream string) Opening {
	o := c.unfenced(stream)
	o.Fence = c.saver.fence()
	return o
}

// unfenced is opening without a lease.
func (c *checkpointer) unfenced(stream string) Opening {
	o := Opening{Key: c.key, Stream: stream}
	if s, ok := c.cfg.Source.(Scoper); ok {
		scope := s.Scope(stream)
		o.Scope = &scope
	}
	if s, ok := c.cfg.Source.(Overlapper); ok {
		o.Overlaps = func(ctx context.Context, fingerprint string) (Overlap, error) {
			compare, err := s.Overlaps(ctx, stream)
			if err != nil {
				return NoOverlap, err
			}
			return compare(fingerprint), nil
		}
	}
	if c.last == nil {
		o.FirstStart, o.AcceptAnyOutput = true, isVolatile(c.cfg.Store)
		return o
	}
	o.AcceptOutput = c.cfg.AcceptOutput
	o.Saved, o.SavedAt, o.ClusterTime = c.last.Extra[extraName], c.last.SavedAt, c.last.ClusterTime
	return o
}

func isVolatile(s state.Store) bool {
	v, ok := state.As[state.Volatile](s)
	return ok && v.Volatile()
}

func (c *checkpointer) start() Start {
	if c.last == nil {
		s := Start{Time: c.cfg.FirstStart.Time}
		if s.Time.IsZero() {
			s.Time = c.origin.seed
		}
		s.Snapshot = c.cfg.copiesAtFirst() && c.origin.seed.IsZero() || c.origin.copying
		s.SnapshotAgain = s.Snapshot && (len(c.origin.accepted) > 0 || c.origin.copying || isVolatile(c.cfg.Store))
		return s
	}
	return Start{Checkpoint: c.last, AcceptChanged: c.cfg.AcceptChangedStream}
}

// skip has the next begin record a gap, in the save of where the session begins. It
// begins at the last checkpoint unless From is set, and ends where the stream begins.
func (c *checkpointer) skip(g Gap) {
	if g.From.IsZero() && c.last != nil {
		g.From = c.last.ClusterTime
	}
	c.gap = &g
}

// countGaps has Status show how many gaps are on record in the last checkpoint.
func (c *checkpointer) countGaps(cp state.Checkpoint) {
	gaps, err := Gaps(cp)
	if err != nil {
		c.log.Warn("gaps can't be read", "key", c.key, "err", err)
	}
	c.status.update(func(s *StreamStatus) {
		if s.Gaps = len(gaps); s.Gaps > 0 {
			s.LastGap = gaps[s.Gaps-1]
		}
	})
}

// extraName is the name in state.Checkpoint.Extra of what Sync returned.
const extraName = "destination"

func (c *checkpointer) savedBySync() json.RawMessage {
	if c.last == nil {
		return nil
	}
	return c.last.Extra[extraName]
}
