package rigatoni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// run saves when it is due, whatever the lanes do meanwhile, until stop or ctx ends.
// A save that is under way when stop ends is completed.
func (c *checkpointer) run(ctx, stop context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(c.untilDue())
		select {
		case <-stop.Done():
			return nil
		case <-c.tracker.wake:
			continue
		case <-timer.C:
		}
		if err := c.save(ctx); err != nil {
			return err
		}
	}
}

// untilDue is how long until a save is due. It has the tracker wake the loop where
// the answer may become shorter.
func (c *checkpointer) untilDue() time.Duration {
	m := c.tracker.arm()
	every := c.cfg.SaveInterval
	switch {
	case !c.schedule.hasEvents(m) || c.sink.tx != nil && !c.endsCopy(m):
		every = c.cfg.IdleInterval
	case every < 0: // a lane saves after each batch; this is for batches that take long
		every = time.Second
	}
	return c.schedule.in(every)
}

// endsCopy reports whether a copy has ended since the last save. Where checkpoints come
// with transactions, no transaction may follow the last sweep.
func (c *checkpointer) endsCopy(m mark) bool {
	return c.copying.Load() && m.end != nil && m.end.Snapshot == ""
}

// save saves the low-water mark, if it is not saved yet. A store that is
// unavailable is no error: events are delivered all the same, and the save is
// repeated after a while.
func (c *checkpointer) save(ctx context.Context) error {
	err := c.trySave(ctx)
	if err == nil || errors.Is(err, errRewind) || errors.Is(err, ErrDeliveryHung) || saveIsFinal(err) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n, pause := c.schedule.failed(c.cfg)
	c.log.Log(ctx, thinned(n), "checkpoint not saved; retrying", "err", err, "attempt", n, "retry_in_seconds", pause.Seconds())
	return nil
}

// trySave makes what was delivered durable, and then its end the checkpoint.
func (c *checkpointer) trySave(ctx context.Context) error {
	if err := c.lock.acquire(ctx); err != nil {
		return err
	}
	defer c.lock.release()
	if err := c.saver.valid(); err != nil {
		return err
	}
	if c.sink.tx != nil && !c.tracker.isDone() {
		// The outcome of a transaction may be unknown. A later sequence with an
		// earlier position could undo it.
		c.schedule.tried(time.Now())
		return nil
	}
	m, doc, err := c.sync(ctx)
	if err != nil {
		return err
	}
	pos, err := m.position()
	if err != nil {
		return err
	}
	// Also if only what the sink returned has changed: Committed is for what is saved.
	if pos == c.at && bytes.Equal(doc, c.savedBySync()) {
		if c.tracker.inFlight() == 0 {
			c.status.covered()
		}
		c.schedule.saved(m)
		return nil
	}
	if err := c.put(ctx, c.checkpoint(pos, c.nextSequence(), doc), c.schedule.unsaved(m)); err != nil {
		return err
	}
	c.at = pos
	c.schedule.saved(m)
	return c.committed(ctx, doc)
}

// sync makes what is delivered durable, and returns how far that is.
func (c *checkpointer) sync(ctx context.Context) (mark, json.RawMessage, error) {
	if c.sink.syncer == nil {
		return c.tracker.mark(), c.savedBySync(), nil
	}
	var (
		m   mark
		doc json.RawMessage
	)
	err := c.callSink(ctx, "sync", "the destination could not make durable what was delivered", func(ctx context.Context) (err error) {
		m = c.tracker.mark()
		doc, err = c.sink.syncer.Sync(ctx)
		return err
	})
	if err != nil {
		return mark{}, nil, err
	}
	return m, doc, nil
}

func (c *checkpointer) committed(ctx context.Context, doc json.RawMessage) error {
	if c.sink.committer == nil {
		return nil
	}
	return c.callSink(ctx, "commit", "the destination failed after it was saved", func(ctx context.Context) error {
		return c.sink.committer.Committed(ctx, doc)
	})
}

// callSink makes a call that may not run beside Deliver, and after whose failure the
// session saves nothing: a second Sync could succeed although the first has lost
// something, as that of a file does.
func (c *checkpointer) callSink(ctx context.Context, name, failure string, do func(context.Context) error) error {
	if err := c.sink.lock.acquire(ctx); err != nil {
		return err
	}
	if c.lost != nil {
		c.sink.lock.release()
		return c.lost
	}
	err := c.watchdog.call(ctx, watchedCall{name: name, do: do})
	if errors.Is(err, ErrDeliveryHung) {
		c.lost = fmt.Errorf("%s: %w", name, err)
		return c.lost // the lock stays taken: nothing may run beside it
	}
	c.sink.lock.release()
	if err != nil {
		c.lost = fmt.Errorf("%w, because %s: %w", errRewind, failure, err)
	}
	return c.lost
}

// final saves at the end of a session what is left to save.
func (c *checkpointer) final(ctx context.Context) error {
	if !c.isBehind() {
		return nil
	}
	if err := c.trySave(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	return nil
}

// delivered is the position up to which everything is delivered; zero if it is
// unknown.
func (c *checkpointer) delivered() Position {
	pos, _ := c.tracker.mark().position()
	return pos
}

// hasUnsaved reports whether events are delivered that no checkpoint covers.
func (c *checkpointer) hasUnsaved() bool {
	return c.sink.tx == nil && c.schedule.hasEvents(c.tracker.mark())
}

// isBehind reports whether more has been delivered, or read in vain, than is
// saved.
func (c *checkpointer) isBehind() bool {
	pos, err := c.tracker.mark().position()
	return err != nil || pos != c.at
}

// nextSequence is the number of the next save. A save whose answer is lost may have
// been done: each attempt has a number of its own, so that the next one, of a later
// position, is not taken for it.
func (c *checkpointer) nextSequence() uint64 {
	c.seq++
	return c.seq
}

// transaction prepares to deliver a batch and to save the checkpoint after it, in
// one transaction. *seq is its number, the same for all its attempts: they are
// repetitions of one another. It is given by the first. The caller holds c.lock.
func (c *checkpointer) transaction(b *Batch, seq *uint64) sinkCall {
	if *seq == 0 {
		*seq = c.nextSequence()
	}
	tx, fence, cp, began := c.sink.tx, c.saver.fence(), c.checkpoint(b.at, *seq, c.savedBySync()), time.Now()
	sent := cp.Clone()
	return sinkCall{
		do: func(ctx context.Context) error {
			err := tx.DeliverAt(ctx, b, fence, sent)
			if errors.Is(err, state.ErrFenced) {
				return fmt.Errorf("%w: %w", errLeaseLost, err)
			}
			return err
		},
		end: func(err error) {
			c.schedule.tried(time.Now())
			c.status.saved(Save{Events: uint64(len(b.Events)), Took: time.Since(began), Err: err}, cp.ClusterTime)
			if err == nil {
				c.isSaved(cp)
				c.at = b.at
			}
		},
	}
}

// checkpoint is the checkpoint of a position. What others put into Extra stays,
// the destination's part is doc, and the snapshot's is the position's.
func (c *checkpointer) checkpoint(pos Position, seq uint64, doc json.RawMessage) state.Checkpoint {
	cp := pos.delivered()
	cp.Sequence, cp.Fingerprint = seq, c.fingerprint
	cp.SavedAt = time.Now().UTC().Truncate(time.Millisecond)
	if c.last != nil {
		cp.Extra = maps.Clone(c.last.Extra)
	}
	setExtra(&cp, extraName, doc)
	setExtra(&cp, ExtraSnapshot, json.RawMessage(pos.Snapshot))
	if c.last != nil && hasSnapshot(*c.last) && pos.Snapshot == "" {
		c.heal(&cp)
	}
	return cp
}

// heal records that the copy has ended that a gap asked for.
func (c *checkpointer) heal(cp *state.Checkpoint) {
	remains := remainsOfOthers
	if _, ok := As[Sweeper](c.sink.sink); ok {
		remains = remainsOfSweeper
	}
	if err := heal(cp, remains); err != nil {
		c.log.Warn("gaps can't be read", "key", c.key, "err", err)
	}
}

// setExtra sets a document of a checkpoint's Extra, or removes it if it is empty.
func setExtra(cp *state.Checkpoint, name string, doc json.RawMessage) {
	switch {
	case len(doc) == 0:
		delete(cp.Extra, name)
	case cp.Extra == nil:
		cp.Extra = map[string]json.RawMessage{name: doc}
	default:
		cp.Extra[name] = doc
	}
}

func (c *checkpointer) put(ctx context.Context, cp state.Checkpoint, events uint64) error {
	began := time.Now()
	saver := c.saver
	err := await(ctx, guarded(func() error { return saver.save(ctx, cp) }))
	c.unsure = err != nil
	c.status.asked(err)
	c.status.saved(Save{Events: events, Took: time.Since(began), Err: err}, cp.ClusterTime)
	if err == nil {
		c.isSaved(cp)
	}
	return err
}

// isSaved notes what the store has.
func (c *checkpointer) isSaved(cp state.Checkpoint) {
	was := c.last
	c.last, c.known = &cp, true
	copying := hasSnapshot(cp)
	c.copying.Store(copying)
	if copying || was != nil && hasSnapshot(*was) {
		c.snapshot.saved(copying)
	}
	if !copying && was != nil && hasSnapshot(*was) {
		c.countGaps(cp)
		c.logHealed(cp)
	}
}

// logHealed logs that a gap was healed in the save of cp.
func (c *checkpointer) logHealed(cp state.Checkpoint) {
	gaps, _ := Gaps(cp) // countGaps says what is wrong with them
	if len(gaps) == 0 {
		return
	}
	if g := gaps[len(gaps)-1]; g.Healed.Equal(cp.SavedAt) {
		c.log.Info("gap healed: what exists has been copied", "key", c.key, "from", timestampText(g.From), "to", timestampText(g.To), "remains", g.Remains)
	}
}
