package changestream

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A copyStream is a stream with a copy of what exists as a part of it. The stream stands
// still at a safe point for the time of a slice, in which documents are read as they were
// at that very moment; then it runs until it has caught up:
//
//	events … | documents at S | events after S … | documents at S' | …
//
// So each document's versions are in order, and the resume token never ages. Events of
// documents that are not copied yet are left out: the copy will have what they did.
//
// All that the copy has to know after a restart is in the position of each event. When
// all is copied, the stream goes on as any other.
type copyStream struct {
	under  *stream
	scope  scope
	log    *slog.Logger
	slices *slicer
	keys   *keyDrawer
	points safePoints
	pace   lagMeter

	resumed bool // from a checkpoint
	state   *copyState
	at      rigatoni.Position // of the stream, after what was returned, without the state
	known   rigatoni.Position // the last one with the state
	backlog []rigatoni.Event  // that the stream has returned, and that are still to be
	end     rigatoni.Position // after the backlog
	skipped *rigatoni.UnreadableError
	err     error

	ctx    context.Context // of the slices
	cancel context.CancelFunc
	closed sync.Once
	shown  atomic.Pointer[copyState] // for Snapshot; the last one, when it has ended
	ended  atomic.Bool
}

var (
	_ rigatoni.OutageReporter   = (*copyStream)(nil)
	_ rigatoni.Skipper          = (*copyStream)(nil)
	_ rigatoni.SnapshotReporter = (*copyStream)(nil)
)

func newCopyStream(under *stream, state *copyState, lists *lister, resumed bool) *copyStream {
	r := under.reader
	c := &copyStream{under: under, scope: r.fingerprint.scope, log: r.log, at: under.at, resumed: resumed, pace: lagMeter{slice: r.src.limits.slice, run: r.src.limits.run, last: time.Now()}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.slices = newSlicer(c.ctx, r.src, c.scope, c.log, lists)
	c.keys = newKeyDrawer(c.ctx, lists, c.log)
	c.points.resume(c.at)
	c.become(state)
	return c
}

// become sets the state.
func (c *copyStream) become(s *copyState) {
	c.state = s
	if s == nil {
		c.ended.Store(true)
		return
	}
	c.shown.Store(s)
}

// Position implements [rigatoni.Stream]. Where the state can't be encoded it stays where
// it was: a position without its state would be that of a copy that is complete.
func (c *copyStream) Position() rigatoni.Position {
	pos, err := withState(c.at, c.state)
	if err != nil {
		c.err = err
		return c.known
	}
	c.known = pos
	return pos
}

// Fingerprint implements [rigatoni.Stream].
func (c *copyStream) Fingerprint() string { return c.under.Fingerprint() }

// Next implements [rigatoni.Stream].
func (c *copyStream) Next(ctx context.Context) ([]rigatoni.Event, rigatoni.Position, error) {
	events, err := c.next(ctx)
	pos := c.Position()
	if c.err != nil {
		return nil, pos, c.err
	}
	return events, pos, err
}

func (c *copyStream) next(ctx context.Context) ([]rigatoni.Event, error) {
	switch {
	case c.err != nil:
		return nil, c.err
	case c.slices.running():
		return c.standStill(ctx)
	case len(c.backlog) > 0:
		return c.process(), nil
	}
	if c.state == nil && c.under.reader.copying && c.under.pending == nil {
		c.finish(ctx)
	}
	events, end, err := c.under.Next(ctx)
	switch {
	case err != nil:
		return nil, c.unreadable(err)
	case len(events) > 0:
		c.pace.arrived(c.under.begun, events, c.under.reader.src.opts.BatchSize)
		c.backlog, c.end = events, end
		return c.process(), nil
	}
	c.at = end
	if s, ok := c.points.quiet(c.under.quiet); ok && c.state != nil {
		c.pace.caughtUp(c.under.begun)
		c.stand(s)
	}
	return nil, nil
}

// process passes the events of the backlog, up to a safe point at which a slice is due.
func (c *copyStream) process() (out []rigatoni.Event) {
	if c.state == nil {
		c.warnOfRenames(c.backlog)
		out, c.backlog, c.at = c.backlog, nil, c.end
		return out
	}
	var position rigatoni.Positioner = statePosition{c.state}
	for i, ev := range c.backlog {
		t := ev.ClusterTime()
		if s, ok := c.points.before(t); ok && c.stand(s) {
			c.backlog = c.backlog[i:]
			return out
		}
		c.points.processed(t)
		if c.state == nil || isConverted(ev.Namespace()) { // nil since an event before it
			c.warnOfRenames(c.backlog[i : i+1])
		}
		keep := c.state.delivers(ev, c.resumed) && !c.scope.onlyForCopy(ev)
		if next := c.state.after(ev, c.scope); next != c.state {
			c.become(next)
			c.slices.renamed()
			c.slices.lists.forget()
			position = statePosition{next}
		}
		if pos, err := rigatoni.PositionAfter(ev); err == nil {
			c.at = pos
		}
		if keep {
			out = append(out, ev.WithPositioner(position))
		}
	}
	c.backlog, c.at = nil, c.end
	return out
}

// warnOfRenames is for events that the reader has not looked at, because the copy was under
// way when they were read.
func (c *copyStream) warnOfRenames(events []rigatoni.Event) {
	if c.under.reader.copying {
		c.under.reader.warnOfRenames(events)
	}
}

// stand begins a slice at a safe point, if one is due.
func (c *copyStream) stand(s bson.Timestamp) bool {
	return c.state != nil && c.pace.due(time.Now()) && c.slices.begin(s, c.at.Token, c.state)
}

// standStill returns what a slice has read.
func (c *copyStream) standStill(ctx context.Context) (out []rigatoni.Event, err error) {
	res, err := c.slices.next(ctx, c.state)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			c.err = err
		}
		return nil, err
	case res == nil:
		c.pace.sliced(time.Now())
		return nil, nil
	case res.gone:
		out = append(out, c.collectionEnd(res.ns)) // of a collection without documents
	case res.begun != nil:
		c.become(c.state.begin(res.begun))
	case res.chunk != nil:
		if out, err = c.take(res); err != nil {
			c.err = err
			return nil, err
		}
	}
	for _, ns := range c.state.finished() {
		out = append(out, c.collectionEnd(ns))
	}
	c.divideByDrawn()
	c.slices.fill(c.state)
	return out, nil
}

// divideByDrawn divides a collection whose bounds were drawn.
func (c *copyStream) divideByDrawn() {
	if d := c.keys.next(c.state, c.slices.wants(c.state) > 0, c.slices.isRead); d != nil {
		c.become(c.state.divideBy(d.ns, d.keys))
	}
}

// take makes the documents of a chunk those of the stream: its cursor is their last _id,
// from now on.
func (c *copyStream) take(res *sliceResult) ([]rigatoni.Event, error) {
	ch := res.chunk
	position := &chunkPosition{stream: c.at, before: c.state, ns: res.ns, rng: res.rng}
	c.become(c.state.advance(res.ns, res.rng, ch.last, ch.ended, ch.docs, ch.bytes))
	c.slices.progress.read(ch.docs)
	c.become(c.slices.divide(c.state, res))
	c.divideByDrawn()
	c.slices.fill(c.state) // the server reads the next chunk meanwhile
	return ch.wrap(res.ns, c.at.Token, c.slices.at, position)
}

// collectionEnd is the event of a collection that is copied.
func (c *copyStream) collectionEnd(ns rigatoni.Namespace) rigatoni.Event {
	where, _ := c.state.find(ns)
	began := c.state.runs[where.run].began
	c.become(c.state.forget(ns))
	return rigatoni.SnapshotEnd{Namespace: ns, Began: began}.Event(fixedPosition{c.at, c.state})
}

// finish makes the stream one that copies nothing.
func (c *copyStream) finish(ctx context.Context) {
	r := c.under.reader
	r.copying = false
	r.fingerprint.scope.copying = false
	r.drop(ctx) // and opened again with the options of a stream
}

// unreadable gives the event that can't be read the position that it has in a copy.
func (c *copyStream) unreadable(err error) error {
	u, ok := err.(*rigatoni.UnreadableError)
	if !ok || c.state == nil {
		return err
	}
	c.skipped = u
	return &rigatoni.UnreadableError{Event: u.Event.WithPositioner(statePosition{c.state}), Err: u.Err}
}

// Skip implements [rigatoni.Skipper].
func (c *copyStream) Skip(e *rigatoni.UnreadableError) error {
	if c.skipped != nil {
		e, c.skipped = c.skipped, nil
	}
	if err := c.under.Skip(e); err != nil {
		return err
	}
	c.points.processed(e.Event.ClusterTime())
	c.become(c.state.after(e.Event, c.scope))
	c.at = c.under.at
	return nil
}

// Outage implements [rigatoni.OutageReporter].
func (c *copyStream) Outage() (since time.Time, err error) { return c.under.Outage() }

// Interruptions implements [rigatoni.OutageReporter].
func (c *copyStream) Interruptions() map[string]uint64 { return c.under.Interruptions() }

// Close implements [rigatoni.Stream].
func (c *copyStream) Close(ctx context.Context) error {
	c.closed.Do(func() {
		c.cancel()
		c.slices.wait()
		c.keys.wait()
	})
	return c.under.Close(ctx)
}
