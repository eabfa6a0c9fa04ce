package rigatoni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

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
