package rigatoni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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

// begin prepares a session, and saves where it begins if the store does not know
// it yet: at a first start, so that a crash in the first second does not move
// "now"; where a changed stream was accepted, so that it is accepted once; where a
// copy begins; and where there is a gap to record.
func (c *checkpointer) begin(ctx context.Context, stream Stream, sink sinkParts, t *tracker) error {
	c.tracker, c.sink = t, sink
	c.fingerprint, c.at = stream.Fingerprint(), stream.Position()
	c.schedule.reset()
	c.lost = nil
	c.snapshot = newSnapshotLog(stream, c.log.With("key", c.key))
	if c.at.Token.IsZero() {
		return errors.New("the source gave no position to start from")
	}
	if c.isAnotherStream() {
		c.log.Warn("resuming with a changed stream, from the checkpoint's time: events of that moment may be redelivered",
			"was", c.last.Fingerprint, "is", c.fingerprint)
		c.skip(Gap{Reason: "the stream changed: " + c.last.Fingerprint + " → " + c.fingerprint, Policy: "accept-changed-stream"})
	}
	if c.last == nil {
		if err := c.firstBegin(ctx); err != nil {
			return err
		}
	}
	resumed := c.last != nil && hasSnapshot(*c.last) && c.gap == nil
	if !c.knowsBeginning() {
		if err := c.saveBeginning(ctx, c.checkpoint(c.at, c.nextSequence(), c.savedBySync())); err != nil {
			return err
		}
	}
	c.copying.Store(c.at.Snapshot != "")
	if c.at.Snapshot != "" {
		c.snapshot.begun(resumed)
	}
	return nil
}

// knowsBeginning reports whether the store knows where the session begins.
func (c *checkpointer) knowsBeginning() bool {
	return c.last != nil && c.gap == nil && (c.last.Fingerprint == "" || c.last.Fingerprint == c.fingerprint) && c.hasSnapshot(c.at.Snapshot)
}

// firstBegin records what was accepted for a first start: a gap in the checkpoint,
// and a record beside it, without which the same code would accept the same again,
// if the checkpoint were lost.
func (c *checkpointer) firstBegin(ctx context.Context) error {
	if len(c.origin.accepted) == 0 {
		return nil
	}
	if g, ok := c.origin.skipped(c.start()); ok {
		c.skip(g)
	}
	note := map[string]string{"at": stamp(time.Now()), "code": c.cfg.FirstStart.Accept}
	if _, err := leaveRecord(ctx, c.cfg.Store, c.key, c.checkpoint(c.at, 0, nil), extraAccepted, note); err != nil {
		return fmt.Errorf("recording what was accepted: %w", err)
	}
	return nil
}

// isAnotherStream reports whether the stream that was opened is, by the operator's
// word, another one than that of the checkpoint. A source that now has its
// deployment's id, and had not, resumes from the token and is none.
func (c *checkpointer) isAnotherStream() bool {
	return c.last != nil && c.last.Fingerprint != "" && c.last.Fingerprint != c.fingerprint &&
		(c.last.Token != c.at.Token || c.cfg.AcceptChangedStream != "")
}

// hasSnapshot reports whether the last checkpoint has that state of a snapshot.
func (c *checkpointer) hasSnapshot(state string) bool {
	var have, want bytes.Buffer
	if doc := c.last.Extra[ExtraSnapshot]; len(doc) > 0 && json.Compact(&have, doc) != nil {
		return false
	}
	if state != "" && json.Compact(&want, []byte(state)) != nil {
		return false
	}
	return bytes.Equal(have.Bytes(), want.Bytes())
}

// saveBeginning saves where a session begins, with the gap before it.
func (c *checkpointer) saveBeginning(ctx context.Context, cp state.Checkpoint) error {
	if c.gap == nil {
		return c.put(ctx, cp, 0)
	}
	g := *c.gap
	g.To, g.At = cp.ClusterTime, cp.SavedAt
	cp, err := WithGap(cp, g)
	if err != nil {
		return err
	}
	if g.asksForCopy() && c.at.Snapshot == "" {
		c.heal(&cp) // there is nothing to copy
	}
	if err := c.put(ctx, cp, 0); err != nil {
		return err
	}
	c.gap = nil
	c.countGaps(cp)
	c.log.Warn("gap recorded: events between these cluster times may not have been delivered",
		"key", c.key, "from", timestampText(g.From), "to", timestampText(g.To), "reason", g.Reason, "policy", g.Policy)
	c.logHealed(cp)
	return nil
}

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

// extraName is the name in state.Checkpoint.Extra of what Sync returned.
const extraName = "destination"

func (c *checkpointer) savedBySync() json.RawMessage {
	if c.last == nil {
		return nil
	}
	return c.last.Extra[extraName]
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
