package changestream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// drawnKeys are keys of a collection that may be bounds of ranges: any will do, even those
// of another collection that had its name.
type drawnKeys struct {
	ns   rigatoni.Namespace
	keys []*sortKey
	err  error
}

// A keyDrawer draws keys of collections, one after another, beside the slices and the
// stream. All but the drawing is done by the goroutine of the stream.
type keyDrawer struct {
	ctx   context.Context
	lists *lister
	log   *slog.Logger

	results chan *drawnKeys
	drawing bool
	again   time.Time  // not before
	ready   *drawnKeys // to be used when nobody reads the collection
	wg      sync.WaitGroup
}

func newKeyDrawer(ctx context.Context, lists *lister, log *slog.Logger) *keyDrawer {
	return &keyDrawer{ctx: ctx, lists: lists, log: log, results: make(chan *drawnKeys, 1)}
}

func (d *keyDrawer) wait() { d.wg.Wait() }

const (
	samplesForRange = 50 // make ranges of about the same size
	fewestSamples   = 5
	scanned         = 64 << 20    // bytes of a collection that the server may as well read
	drawWithin      = time.Minute // for the server
	drawAgain       = time.Minute // after a failure
)

// sample draws keys of a collection.
func (l *lister) sample(ctx context.Context, ns rigatoni.Namespace, n int) ([]*sortKey, error) {
	cursor, err := l.src.client.Database(ns.DB).Collection(ns.Coll).Aggregate(ctx, bson.A{
		bson.D{{Key: "$sample", Value: bson.D{{Key: "size", Value: n}}}},
		bson.D{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}},
	})
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, err
	}
	var keys []*sortKey
	for _, d := range docs {
		key, err := newSortKey(d.Lookup("_id"))
		if err != nil {
			return nil, err
		}
		if key.bounds() {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// next returns the keys of a collection that nobody reads now, once they are drawn and
// there are readers that would have nothing to read, and draws those of the next one.
func (d *keyDrawer) next(state *copyState, idle bool, isRead func(rigatoni.Namespace) bool) *drawnKeys {
	select {
	case got := <-d.results:
		d.drawing = false
		if d.ready = got; got.err != nil {
			d.ready, d.again = nil, time.Now().Add(drawAgain)
			d.log.Info("a collection of the snapshot is read in one range, because its keys can't be sampled; trying again",
				"collection", got.ns.String(), "pause_seconds", drawAgain.Seconds(), "err", causeOf(got.err))
		}
	default:
	}
	if got := d.ready; got != nil && idle && !isRead(got.ns) {
		d.ready = nil
		return got
	}
	if c := state.undivided(); c != nil && idle && d.ready == nil && !d.drawing && !time.Now().Before(d.again) {
		d.drawing = true
		d.wg.Go(func() {
			ctx, cancel := limited(d.ctx, drawWithin)
			defer cancel()
			keys, err := d.lists.sample(ctx, c.ns, c.samples())
			d.results <- &drawnKeys{c.ns, keys, err}
		})
	}
	return nil
}

// undivided is a collection whose bounds have to be drawn, nil if there is none.
func (s *copyState) undivided() *collectionCopy {
	if s == nil {
		return nil
	}
	for _, run := range s.runs {
		for _, c := range run.active {
			// Before a document was read, nobody knows what kind of keys there are.
			if c.parts > 0 && c.samples() >= fewestSamples && len(c.ranges) == 1 && c.ranges[0].Cursor != nil && c.highest != nil && !c.ranges[0].divisible(c.highest) {
				return c
			}
		}
	}
	return nil
}

// samples is how many keys are drawn. For more than a twentieth of a collection, or of one
// that has a hundred documents, the server reads all of them, which may be large.
func (c *collectionCopy) samples() int {
	n := int64(c.parts * samplesForRange)
	if c.bytesEstimated > scanned {
		n = min(n, c.docsEstimated/25)
	}
	return int(n)
}

// divideBy is the state with a collection in ranges whose bounds were drawn. What is
// copied of it stays copied.
func (s *copyState) divideBy(ns rigatoni.Namespace, keys []*sortKey) *copyState {
	at, ok := s.find(ns)
	if !ok || at.active < 0 || s.runs[at.run].active[at.active].parts == 0 {
		return s
	}
	c := *s.runs[at.run].active[at.active]
	if len(c.ranges) == 1 {
		c.ranges = c.ranges[0].divide(keys, c.parts)
	}
	c.parts = 0
	return s.replace(at, &c)
}
