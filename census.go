package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A census looks, at a first start, through what the store has, for checkpoints of
// the same events under other names. It is shared by the workers of a pipeline, so
// that they list the store once and not once each, and one code accepts what was
// found for all of them.
type census struct {
	cfg     *Config
	streams map[string]string // by key
	log     *slog.Logger

	lock     semaphore
	began    time.Time // when the store was last listed
	found    map[string]findings
	accepted map[string]bool // the ids of findings that were accepted in this run
}

func newCensus(cfg *Config, streams []string) *census {
	c := &census{cfg: cfg, streams: map[string]string{}, log: cfg.Logger.With("pipeline", cfg.Name), lock: newSemaphore(), accepted: map[string]bool{}}
	for _, s := range streams {
		c.streams[cfg.key(s)] = s
	}
	return c
}

// findings are what the store has to say to a first start of a key.
type findings struct {
	against []Finding
	seeds   []Finding // of other checkpoints of this pipeline; the stream may begin at the first of them
}

// check returns where a first start of key is to begin, and refuses it where
// something speaks against it that is not accepted.
func (c *census) check(ctx context.Context, key string) (o origin, err error) {
	if c.cfg.FirstStart.None {
		return o, &FirstStartError{Key: key, Found: []Finding{{Err: ErrNoFirstStart}}}
	}
	asked := time.Now()
	if err := c.lock.acquire(ctx); err != nil {
		return o, err
	}
	defer c.lock.release()
	if !c.began.After(asked) {
		began := time.Now()
		if c.found, err = c.look(ctx); err != nil {
			return o, err
		}
		c.began = began
	}
	ours := c.found[key]
	if err := c.consent(key, ours.against); err != nil {
		return o, err
	}
	return origin{
		seed: c.seed(key, ours.seeds), accepted: ours.against,
		copying: slices.ContainsFunc(ours.seeds, isCopying) || slices.ContainsFunc(ours.against, isCopying),
	}, nil
}

// consent refuses what was found for a key, unless it is accepted. The code is for
// all keys of the pipeline.
func (c *census) consent(key string, against []Finding) error {
	if !slices.ContainsFunc(against, func(f Finding) bool { return !c.accepted[f.id] }) {
		return nil
	}
	var all []Finding
	for _, k := range slices.Sorted(maps.Keys(c.found)) {
		all = append(all, c.found[k].against...)
	}
	code := acceptCode(c.cfg.Name, all)
	if !c.cfg.FirstStart.accepted(code) {
		return &FirstStartError{Key: key, Found: all, Accept: c.cfg.FirstStart.with(code)}
	}
	for _, f := range all {
		c.accepted[f.id] = true
		c.log.Warn("first start accepted", "found", f.String(), "code", code)
	}
	return nil
}

// seed is the earliest time of checkpoints of this pipeline that a stream continues.
func (c *census) seed(key string, seeds []Finding) (at bson.Timestamp) {
	var from []string
	for _, f := range seeds {
		from = append(from, f.Key)
		if at.IsZero() || f.ClusterTime.Before(at) {
			at = f.ClusterTime
		}
	}
	if from != nil {
		c.log.Warn("first start continues other checkpoints of this pipeline, at the cluster time of the earliest: events since then are delivered, some of them again",
			"key", key, "continues", from, "cluster_time", timestampText(at))
	}
	return at
}

// look lists the store, and returns what it finds for each key without a checkpoint.
func (c *census) look(ctx context.Context) (map[string]findings, error) {
	entries, err := c.entries(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]findings{}
	for key, stream := range c.streams {
		if e, ok := entries[key]; ok && !errors.Is(e.LoadErr, state.ErrNotFound) {
			continue
		}
		f, err := c.compare(ctx, key, stream, entries)
		if err != nil {
			return nil, err
		}
		found[key] = f
	}
	return found, nil
}

// entries are what the store has: all of it, or where it can't list its keys, what
// belongs to this pipeline's.
func (c *census) entries(ctx context.Context) (map[string]state.Entry, error) {
	entries := map[string]state.Entry{}
	for e, err := range state.List(ctx, c.cfg.Store, "") {
		if errors.Is(err, errors.ErrUnsupported) {
			return c.ownEntries(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("listing the store's checkpoints: %w", err)
		}
		entries[e.Key] = e
	}
	return entries, nil
}

func (c *census) ownEntries(ctx context.Context) (map[string]state.Entry, error) {
	entries := map[string]state.Entry{}
	for key := range c.streams {
		for _, k := range []string{key, LostKey(key)} {
			cp, err := c.cfg.Store.Load(ctx, k)
			if errors.Is(err, state.ErrUnavailable) {
				return nil, err
			}
			entries[k] = state.Entry{Key: k, Checkpoint: cp, LoadErr: err}
		}
	}
	return entries, nil
}

// compare looks for what speaks against a first start of one key.
func (c *census) compare(ctx context.Context, key, stream string, entries map[string]state.Entry) (f findings, err error) {
	overlap := c.overlaps(stream)
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		e := entries[k]
		of, lost := strings.CutSuffix(k, lostSuffix)
		switch {
		case errors.Is(e.LoadErr, state.ErrNotFound):
			continue
		case k == LostKey(key):
			f.against = append(f.against, lostFinding(key, e))
			continue
		case lost && has(entries, of), !lost && isSideKey(k):
			continue
		}
		if _, ours := c.streams[of]; ours {
			continue
		}
		common, known, err := overlap(ctx, e.Checkpoint.Fingerprint)
		if err != nil {
			return findings{}, err
		}
		switch finding := otherFinding(e, of, lost); {
		case c.isSeed(finding, common):
			finding.copying = hasSnapshot(e.Checkpoint)
			f.seeds = append(f.seeds, finding)
		case common != NoOverlap, c.isOfOurName(of) && (!known || stream != "" && of != c.cfg.Name):
			// Of two streams of this pipeline, one may be the other, renamed.
			f.against = append(f.against, finding)
		}
	}
	legacy, err := c.legacy(ctx, overlap)
	f.against = append(f.against, legacy...)
	return f, err
}

// legacy are the findings of tokens that another program has left in the store.
func (c *census) legacy(ctx context.Context, overlap comparison) (found []Finding, err error) {
	l, ok := state.As[state.Legacy](c.cfg.Store)
	if !ok {
		return nil, nil
	}
	var names []string
	err = await(ctx, guarded(func() (err error) {
		names, err = l.Legacy(ctx)
		return err
	}))
	if errors.Is(err, state.ErrRefused) {
		return nil, nil // a user who may not read them has not had that program's store
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		switch common, _, err := overlap(ctx, name); {
		case err != nil:
			return nil, err
		case common != NoOverlap:
			found = append(found, Finding{
				Err: ErrOtherCheckpoint, Key: name, id: name,
				Facts: fmt.Sprintf("another program's token, %q, which can be imported", name),
			})
		}
	}
	return found, nil
}

// A comparison compares a stream with a fingerprint, where that can be known.
type comparison func(ctx context.Context, fingerprint string) (o Overlap, known bool, err error)

func has(entries map[string]state.Entry, key string) bool {
	e, ok := entries[key]
	return ok && !errors.Is(e.LoadErr, state.ErrNotFound)
}

// isSeed reports whether a stream of this pipeline continues what another one of its
// names had delivered: it was one stream of all collections, or one of each.
func (c *census) isSeed(f Finding, common Overlap) bool {
	t := c.cfg.FirstStart.Time
	return common == SameButCollections && c.isOfOurName(f.Key) && !f.ClusterTime.IsZero() &&
		(t.IsZero() || !t.After(f.ClusterTime))
}

func (c *census) isOfOurName(key string) bool {
	return key == c.cfg.Name || strings.HasPrefix(key, c.cfg.Name+"/")
}

// overlaps returns the comparison of a stream. It asks the source only once there is
// something to compare.
func (c *census) overlaps(stream string) comparison {
	var compare func(string) Overlap
	return func(ctx context.Context, fingerprint string) (Overlap, bool, error) {
		o, ok := c.cfg.Source.(Overlapper)
		if !ok || fingerprint == "" {
			return NoOverlap, false, nil
		}
		if compare == nil {
			err := await(ctx, guarded(func() (err error) {
				compare, err = o.Overlaps(ctx, stream)
				return err
			}))
			if err != nil {
				return NoOverlap, false, fmt.Errorf("comparing the stream with those of other checkpoints: %w", err)
			}
		}
		return compare(fingerprint), true, nil
	}
}

// describe says which store this is: its address, without secrets.
func describe(s state.Store) string {
	if d, ok := state.As[fmt.Stringer](s); ok {
		return d.String()
	}
	return fmt.Sprintf("%T", s)
}

// otherFinding is the finding of a checkpoint under another name. lost: the store has
// only the record of its loss.
func otherFinding(e state.Entry, of string, lost bool) Finding {
	cp := e.Checkpoint
	f := Finding{Err: ErrOtherCheckpoint, Key: of, ClusterTime: cp.ClusterTime, SavedAt: cp.SavedAt, id: findingID(e)}
	switch {
	case e.LoadErr != nil:
		f.Facts = fmt.Sprintf("%q, which can't be read: %v", of, e.LoadErr)
	case lost:
		f.Facts = fmt.Sprintf("%q, which was lost; the last one that is known is of the cluster time %s, saved at %s", of, clock(cp.ClusterTime), stamp(cp.SavedAt))
	case e.Owner != "":
		f.Facts = fmt.Sprintf("%q, of the cluster time %s, saved at %s, whose lease is held by %q", of, clock(cp.ClusterTime), stamp(cp.SavedAt), e.Owner)
	default:
		f.Facts = fmt.Sprintf("%q, of the cluster time %s, saved at %s", of, clock(cp.ClusterTime), stamp(cp.SavedAt))
	}
	return f
}
