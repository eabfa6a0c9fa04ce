package checkpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Execute makes the change, if the key has no owner and is as it was.
func (m *Mover) Execute(ctx context.Context, c *Change) error {
	if c.clear && (stateOf(c.before.err) == stateDamaged || stateOf(c.before.err) == stateNewer) {
		// Clear keeps the epoch and the sequence of a key, which can't be read here.
		if err := state.Forget(ctx, m.Store, c.key); err != nil {
			return unchanged(err)
		}
		c.Executed = true
		return m.forgetLost(ctx, c)
	}
	lease, err := state.Hold(ctx, m.Store, c.key, &state.HoldOptions{Owner: "rigatoni checkpoint " + c.Action + ", " + processName(), Wait: -1, Logger: m.Log})
	if err != nil {
		return unchanged(err)
	}
	err = m.underLease(ctx, lease, c)
	return errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
}

func (m *Mover) underLease(ctx context.Context, lease *state.Lease, c *Change) error {
	g := lease.Grant()
	if !c.before.same(g) {
		return ErrMoved
	}
	if c.clear {
		if err := lease.Clear(ctx); err != nil {
			return fmt.Errorf("the checkpoint may have been cleared or not: %w", err)
		}
		c.Executed = true
		return m.forgetLost(ctx, c)
	}
	cp, err := c.withRecord(g)
	if err != nil {
		return err
	}
	if err := lease.Save(ctx, cp); err != nil {
		return fmt.Errorf("the checkpoint may have been set or not: %w", err)
	}
	c.Executed = true
	if c.Gap != nil {
		c.Gap.At = cp.SavedAt
	}
	return m.forgetLost(ctx, c)
}

// withRecord completes the new checkpoint: with what stands beside the old one, and
// the gap.
func (c *Change) withRecord(g state.Grant) (state.Checkpoint, error) {
	cp := c.planned
	cp.Sequence = g.LastSequence + 1
	cp.SavedAt = time.Now().UTC().Truncate(time.Millisecond)
	extra := map[string]json.RawMessage{}
	maps.Copy(extra, c.before.cp.Extra)
	maps.Copy(extra, cp.Extra)
	if doc, ok := c.before.cp.Extra[destinationDoc]; ok {
		extra[destinationDoc] = doc // the output is what it is now, whatever was exported
	}
	cp.Extra = extra
	all, err := c.gaps()
	if err != nil {
		return cp, err
	}
	if c.Gap != nil {
		g := *c.Gap
		g.At = cp.SavedAt
		all = append(all, g)
	}
	delete(cp.Extra, gapsDoc)
	for _, g := range all {
		if cp, err = rigatoni.WithGap(cp, g); err != nil {
			return cp, err
		}
	}
	return cp, nil
}

// gaps are those on record in the old checkpoint, and in one that is imported.
func (c *Change) gaps() ([]rigatoni.Gap, error) {
	all, err := rigatoni.Gaps(c.planned)
	if err != nil {
		return nil, err
	}
	old, err := rigatoni.Gaps(c.before.cp)
	if err != nil {
		return nil, err
	}
	for _, g := range old {
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	slices.SortStableFunc(all, func(a, b rigatoni.Gap) int { return a.At.Compare(b.At) })
	return all, nil
}

// forgetLost removes what a pipeline left beside the key of a checkpoint that
// disappeared, which is accounted for now; or that is cleared for good.
func (m *Mover) forgetLost(ctx context.Context, c *Change) error {
	if !c.before.lost && !c.clear {
		return nil
	}
	if err := m.Store.Clear(ctx, c.key+lostSuffix); err != nil {
		return fmt.Errorf("the change is made, but the record of the lost checkpoint is still there: %w", err)
	}
	return nil
}

// unchanged is the error of a change that was not begun.
func unchanged(err error) error { return fmt.Errorf("nothing is changed: %w", err) }

func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", strings.ToValidUTF8(host, "?"), os.Getpid())
}
