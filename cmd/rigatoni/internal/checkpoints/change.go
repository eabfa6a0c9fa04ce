package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
	"github.com/rigatoni-etl/rigatoni/state"
)

// What a change means for the events between the old position and the new one.
const (
	effectRedelivers = "redelivers"
	effectSkips      = "skips"
	effectNone       = "nothing"
	effectStarts     = "starts" // there is no old position
)

// A Change is a checkpoint that is to be moved, or was. Its JSON is documented in
// docs/checkpoint.md: names are never changed, and unknown values are left out.
type Change struct {
	Key      string `json:"key"`
	Action   string `json:"action"` // set, clear or import
	Executed bool   `json:"executed"`
	Error    string `json:"error,omitempty"` // why it was not, though it was to be

	Old    *Point `json:"old"` // null: there is no checkpoint
	New    *Point `json:"new"` // null: there will be none
	Effect string `json:"effect"`
	// Events is how many events are redelivered or skipped.
	Events        *int64        `json:"events,omitempty"`
	AtLeast       bool          `json:"events_at_least,omitempty"` // there are more
	EventsUnknown string        `json:"events_unknown,omitempty"`  // why
	Gap           *rigatoni.Gap `json:"gap,omitempty"`             // goes on record

	// Snapshot is what the next start copies, because of the change.
	Snapshot *snapshotview.View `json:"snapshot,omitempty"`

	Runway  *float64   `json:"runway_seconds,omitempty"` // of the new position
	Oldest  *time.Time `json:"oldest,omitempty"`         // the server's oldest event
	Unknown string     `json:"runway_unknown,omitempty"` // why

	Owner      string     `json:"owner,omitempty"`
	OwnerUntil *time.Time `json:"owner_until,omitempty"`
	Notes      []string   `json:"notes"`

	key     string
	before  before
	planned state.Checkpoint // the new checkpoint, but for what the lease decides
	clear   bool
	changed bool // the events that are counted are not those of the checkpoint's stream

	copyText string // Snapshot, for people
}

// A Point is a position, old or new.
type Point struct {
	Position    *time.Time `json:"position,omitempty"`
	ClusterTime string     `json:"cluster_time,omitempty"`
	SavedAt     *time.Time `json:"saved_at,omitempty"`
	State       string     `json:"state,omitempty"` // of an old one that is not "saved"
}

// before is what the store had when the change was planned.
type before struct {
	cp   state.Checkpoint // what is known of it, if its token is not zero
	err  error            // of the load
	lost bool             // cp is what a pipeline knew of one that disappeared
}

// exists reports whether there was a position before.
func (b before) exists() bool { return b.err == nil || errors.Is(b.err, state.ErrExpired) || b.lost }

// known reports whether the position before is known.
func (b before) known() bool { return !b.cp.Token.IsZero() }

// same reports whether a grant has what the change was planned on.
func (b before) same(g state.Grant) bool {
	if g.LoadErr != nil || b.err != nil {
		return stateOf(g.LoadErr) == stateOf(b.err)
	}
	return g.Checkpoint.Token == b.cp.Token && g.Checkpoint.Sequence == b.cp.Sequence && g.Checkpoint.SavedAt.Equal(b.cp.SavedAt)
}

// ErrMoved: the checkpoint is no longer the one that the change was planned on.
var ErrMoved = errors.New("the checkpoint was moved meanwhile; nothing is changed")

// A Mover plans and makes changes.
type Mover struct {
	Store  state.Store
	Server *Server // nil: for Clear only
	Log    *slog.Logger
	// Destination is that of the pipeline, nil if it is unknown, and Output its name.
	Destination rigatoni.Destination
	Output      string
	// Policy is the command that decides, for the record: "checkpoint set --to-now".
	Policy string
}

// current reads what the store has under a key.
func (m *Mover) current(ctx context.Context, key string) (before, error) {
	cp, err := m.Store.Load(ctx, key)
	switch stateOf(err) {
	case stateSaved, stateExpired:
		return before{cp: cp, err: err}, nil
	case stateNone:
		if known, errLost := m.Store.Load(ctx, key+lostSuffix); errLost == nil {
			return before{cp: known, err: err, lost: true}, nil
		}
		return before{err: err}, nil
	}
	return before{}, err
}

// owner adds who holds the lease.
func (m *Mover) owner(ctx context.Context, c *Change) error {
	for e, err := range state.List(ctx, m.Store, c.key) {
		if err != nil {
			return err
		}
		if e.Key == c.key && e.Owner != "" {
			c.Owner = e.Owner
			if !e.Until.IsZero() {
				until := e.Until.UTC()
				c.OwnerUntil = &until
			}
			c.note("it has an owner: the change is refused while that has the lease")
		}
	}
	return nil
}

func (c *Change) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// Set plans to set the checkpoint of a key to what the target says.
func (m *Mover) Set(ctx context.Context, k Key, action string, to Target) (*Change, error) {
	c := &Change{Key: k.String(), Action: action, key: k.String(), Notes: []string{}}
	var err error
	if c.before, err = m.current(ctx, c.key); err != nil {
		return nil, fmt.Errorf("%w; restore it, or remove it with: rigatoni checkpoint clear", err)
	}
	fp := c.before.cp.Fingerprint
	if to.Token != nil && to.Token.Fingerprint != "" {
		fp = to.Token.Fingerprint
	}
	for _, of := range []string{c.before.cp.Fingerprint, fp} {
		if !m.Server.identity.Has(of) {
			return nil, m.Server.another(of)
		}
	}
	stream, err := m.Server.Stream(k, fp)
	if err != nil {
		return nil, err
	}
	c.planned, err = to.checkpoint(ctx, stream, m.Server, c.before)
	if errors.Is(err, errUnconfirmed) {
		c.note("the stream opens there, but %v", err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	m.fingerprint(c, k, stream)
	c.Old, c.New = pointOf(c.before), point(c.planned)
	if err := m.effect(ctx, c, stream); err != nil {
		return nil, err
	}
	c.keptSnapshot()
	m.runway(c)
	m.outputNotes(ctx, c, k)
	return c, m.owner(ctx, c)
}

// fingerprint decides which stream the new checkpoint says that it is of.
func (m *Mover) fingerprint(c *Change, k Key, stream Stream) {
	old := c.before.cp.Fingerprint
	switch {
	case c.planned.Fingerprint != "": // it was exported with it
	case old != "":
		c.planned.Fingerprint = old
	case k.Configured:
		c.planned.Fingerprint = stream.Fingerprint
	}
	if diff := changestream.Differences(c.planned.Fingerprint, stream.Fingerprint); k.Configured && len(diff) > 0 {
		c.changed = true
		c.note("the pipeline's stream is no longer that of the checkpoint (%s): the next start refuses, and prints the code for --accept-changed-stream", strings.Join(diff, "; "))
	}
}

// effect finds out what happens to the events between the positions.
func (m *Mover) effect(ctx context.Context, c *Change, stream Stream) error {
	at := PositionOf(c.planned)
	switch old := PositionOf(c.before.cp); {
	case !c.before.exists():
		c.Effect = effectStarts
		return nil
	case !c.before.known():
		c.Effect = effectSkips // nobody can say that nothing is
		c.EventsUnknown = "the old position is unknown"
	case old.Token == at.Token:
		c.Effect = effectNone
		return nil
	case compare(at, old) < 0:
		c.Effect = effectRedelivers
		if err := m.count(ctx, c, stream, c.planned, old); err != nil {
			return err
		}
	default:
		c.Effect = effectSkips
		if err := m.count(ctx, c, stream, c.before.cp, at); err != nil {
			return err
		}
	}
	if c.Events != nil && *c.Events == 0 && !c.AtLeast && !c.changed {
		c.Effect = effectNone
	}
	if c.Effect == effectSkips {
		c.Gap = &rigatoni.Gap{From: PositionOf(c.before.cp).ClusterTime, To: at.ClusterTime, Reason: "the checkpoint was moved by hand", Policy: m.Policy}
	}
	return nil
}

func (m *Mover) count(ctx context.Context, c *Change, stream Stream, from state.Checkpoint, to rigatoni.Position) error {
	from.Fingerprint = "" // what differs is known
	n, err := stream.Count(ctx, from, to)
	if err != nil {
		c.EventsUnknown = config.Words(err.Error())
		return ctx.Err()
	}
	c.Events, c.AtLeast = &n.Events, n.AtLeast
	return nil
}

// runway is how long the new position stays good. The server may take a position
// before its oldest event: nothing was lost before that.
func (m *Mover) runway(c *Change) {
	v := View{checkpoint: c.planned}
	v.measure(m.Server)
	if oldest := m.Server.history.Oldest; PositionOf(c.planned).ClusterTime.Before(oldest) {
		if runway, known := m.Server.history.Runway(oldest); known {
			v.Runway = seconds(runway)
		}
	}
	c.Runway, c.Oldest, c.Unknown = v.Runway, v.Oldest, v.Unknown
}

// outputNotes says what a start will answer because of output that is there.
func (m *Mover) outputNotes(ctx context.Context, c *Change, k Key) {
	checker, ok := rigatoni.As[rigatoni.OpeningChecker](m.Destination)
	if !ok {
		return
	}
	o := rigatoni.Opening{Key: c.key, Stream: k.Stream, FirstStart: c.clear}
	if !c.clear {
		cp, err := c.withRecord(state.Grant{})
		if err != nil {
			return // Execute returns it
		}
		o.Saved, o.SavedAt, o.ClusterTime = cp.Extra[destinationDoc], cp.SavedAt, cp.ClusterTime
	}
	refused := (*rigatoni.OutputError)(nil)
	switch err := checker.CheckOpening(ctx, o); {
	case errors.As(err, &refused) && c.clear:
		c.note("%s has output of %q: the next start refuses to be a first start beside it, and prints the code for --accept-first-start", m.Output, c.key)
	case errors.As(err, &refused):
		c.note("the next start refuses, because of %s: %v; to accept that, once: --accept-output=%s", m.Output, refused.Err, refused.Accept)
	case err != nil:
		c.note("the next start fails, because of %s: %v", m.Output, err)
	case c.Effect == effectRedelivers:
		c.note("%s keeps what it has: what is redelivered stands in it a second time", m.Output)
	}
}

// The names in Extra of what the destination keeps there, and of the gaps.
const (
	destinationDoc = "destination"
	gapsDoc        = "gaps"
)

// Clear plans to remove the checkpoint of a key.
func (m *Mover) Clear(ctx context.Context, k Key) (*Change, error) {
	c := &Change{Key: k.String(), Action: "clear", key: k.String(), Notes: []string{}, clear: true, Effect: effectSkips}
	var err error
	if c.before, err = m.current(ctx, c.key); err != nil {
		if s := stateOf(err); s != stateDamaged && s != stateNewer {
			return nil, err
		}
		c.before.err = err
		c.note("the checkpoint can't be read (%v). Its file or key is removed whole: an old owner that still runs is not kept out any more", err)
	}
	if !c.before.exists() && c.before.known() {
		return nil, unknown(ctx, m.Store, k)
	}
	if stateOf(c.before.err) == stateNone && !c.before.lost {
		return nil, unknown(ctx, m.Store, k)
	}
	c.Old = pointOf(c.before)
	c.EventsUnknown = "the next start decides where to begin"
	c.note("the next start is a first start: it begins at now, and skips what was written since the old position, unless --start says otherwise. To begin at a time, use checkpoint set --to-time instead")
	if gaps, err := rigatoni.Gaps(c.before.cp); err == nil && len(gaps) > 0 {
		c.note("its record of what was skipped (%d) is removed with it; checkpoint export keeps a copy", len(gaps))
	}
	m.outputNotes(ctx, c, k)
	return c, m.owner(ctx, c)
}

func point(cp state.Checkpoint) *Point {
	at := PositionOf(cp).ClusterTime
	p := &Point{Position: wall(at), ClusterTime: text(at)}
	if !cp.SavedAt.IsZero() {
		saved := cp.SavedAt.UTC()
		p.SavedAt = &saved
	}
	return p
}

func pointOf(b before) *Point {
	if !b.exists() && b.err != nil && stateOf(b.err) == stateNone {
		return nil
	}
	p := point(b.cp)
	if p.State = stateOf(b.err); b.lost {
		p.State = stateLost
	} else if p.State == stateSaved {
		p.State = ""
	}
	return p
}
