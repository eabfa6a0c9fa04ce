package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
	"github.com/rigatoni-etl/rigatoni/state"
)

// effectCopies: the position stays, and the next start copies collections.
const effectCopies = "copies"

// snapshotOf is how far the copy that is in a checkpoint has got, with the pace since it
// began; nil if there is none.
func snapshotOf(cp state.Checkpoint) (*rigatoni.SnapshotStatus, error) {
	s, ok, err := changestream.SnapshotProgress(cp)
	if err != nil || !ok {
		return nil, err
	}
	if took := cp.SavedAt.Sub(s.Began).Seconds(); took > 0 && s.Documents > 0 {
		s.Rate = float64(s.Documents) / took
		if left := s.DocumentsEstimated - s.Documents; left > 0 {
			s.ETA = time.Duration(float64(left) / s.Rate * float64(time.Second))
		}
	}
	return &s, nil
}

// withoutSnapshot is a checkpoint to open a stream with, only to look: a copy that is
// under way is not to be continued.
func withoutSnapshot(cp state.Checkpoint) state.Checkpoint {
	if _, ok := cp.Extra[rigatoni.ExtraSnapshot]; !ok {
		return cp
	}
	cp.Extra = maps.Clone(cp.Extra)
	delete(cp.Extra, rigatoni.ExtraSnapshot)
	return cp
}

// snapshot adds the copy to a view.
func (v *View) snapshot() {
	s, err := snapshotOf(v.checkpoint)
	if err != nil {
		v.SnapshotError = err.Error()
	}
	v.Snapshot, v.copy = snapshotview.Of(s), s
}

// shownCollections is how many collections of a copy are printed.
const shownCollections = 10

// copying prints the copy.
func (v View) copying(s sheet) {
	if v.SnapshotError != "" {
		s.line("snapshot", "unknown: %s", v.SnapshotError)
	}
	if v.copy == nil {
		return
	}
	s.line("snapshot", "%s; it began at %s", snapshotview.Text(*v.copy), moment(&v.copy.Began))
	shown := v.copy.Collections[:min(len(v.copy.Collections), shownCollections)]
	for _, c := range shown {
		s.line("", "%s: %s", c.Namespace, snapshotview.Line(c))
	}
	if more := v.copy.CollectionsTotal - v.copy.CollectionsDone - len(shown); more > 0 {
		s.line("", "and %d more", more)
	}
}

// Snapshot plans that the next start copies collections once more, while the stream goes
// on where the checkpoint is.
func (m *Mover) Snapshot(ctx context.Context, k Key, collections []string) (*Change, error) {
	c := &Change{Key: k.String(), Action: "set", key: k.String(), Notes: []string{}, Effect: effectCopies}
	var err error
	if c.before, err = m.current(ctx, c.key); err != nil {
		return nil, fmt.Errorf("%w; restore it, or remove it with: rigatoni checkpoint clear", err)
	}
	if c.before.err != nil || !c.before.known() {
		return nil, fmt.Errorf("%w: there is no checkpoint for the copy to begin at. A first start with snapshot: initial copies everything", ErrRefused)
	}
	if !m.Server.identity.Has(c.before.cp.Fingerprint) {
		return nil, m.Server.another(c.before.cp.Fingerprint)
	}
	stream, err := m.Server.Stream(k, c.before.cp.Fingerprint)
	if err != nil {
		return nil, err
	}
	names, err := stream.namespaces(collections)
	if err != nil {
		return nil, err
	}
	there, err := stream.source.SnapshotOf(ctx, stream.name, names...)
	if errors.Is(err, changestream.ErrRefused) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	if c.planned, err = changestream.RequestSnapshot(c.before.cp, names...); err != nil {
		return nil, err
	}
	m.fingerprint(c, k, stream)
	c.Old, c.New, c.Snapshot = pointOf(c.before), point(c.planned), snapshotview.Of(&there)
	c.New.SavedAt = nil // it is saved by Execute
	c.copyText = snapshotview.Plan(there)
	if s, err := snapshotOf(c.before.cp); err == nil && s != nil {
		c.note("a snapshot is under way (%s); it goes on", snapshotview.Text(*s))
	}
	c.note("while they are copied, the changes of their documents are delivered as well; an output that keeps all, such as files, has the documents a second time")
	m.runway(c)
	return c, m.owner(ctx, c)
}

// namespaces are the collections that names stand for: of the stream's database or,
// where it has none, with their database before the first dot.
func (s Stream) namespaces(names []string) (all []rigatoni.Namespace, err error) {
	o, ok := changestream.OptionsOf(s.Fingerprint)
	for _, name := range names {
		ns := rigatoni.Namespace{DB: o.Database, Coll: name}
		several := !ok || o.Database == "" || strings.ContainsAny(o.Database, "*?[")
		if several {
			ns.DB, ns.Coll, _ = strings.Cut(name, ".")
		}
		switch {
		case ns.DB != "" && ns.Coll != "":
		case several:
			return nil, fmt.Errorf("%w: --snapshot is %q; the stream has several databases, so it must be DATABASE.COLLECTION", ErrRefused, name)
		default:
			return nil, fmt.Errorf("%w: --snapshot is %q; it must be the name of a collection", ErrRefused, name)
		}
		if !slices.Contains(all, ns) {
			all = append(all, ns)
		}
	}
	return all, nil
}

// keptSnapshot is a note where a change leaves a copy as it is.
func (c *Change) keptSnapshot() {
	if s, err := snapshotOf(c.before.cp); err == nil && s != nil {
		c.note("a snapshot is under way (%s); it goes on at the new position", snapshotview.Text(*s))
	}
}
