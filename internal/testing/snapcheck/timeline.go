package snapcheck

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
)

// A Timeline is what happened in a database, by the server's own account: the bare
// loop over the driver's change stream.
type Timeline struct {
	client *mongo.Client
	db     string
	cs     *mongo.ChangeStream
	token  bson.Raw

	mu      sync.Mutex
	moments []moment
	byToken map[uint64]int
	docs    map[string]map[string]*history // by collection and key
	stamps  map[Stamp]struct{}
	grown   chan struct{}
}

// A moment is one event of the stream.
type moment struct {
	at  bson.Timestamp
	op  string
	doc *history // nil for an event of a collection or the database
	k   int      // of its changes

	coll, to string
}

// A history is the changes of one document under one name of its collection.
type history struct {
	coll, key string
	changes   []change
}

// A change is a state of a document: from a moment on it has the stamp; 0: it is gone.
type change struct {
	at     bson.Timestamp
	moment int
	stamp  Stamp
}

func (h *history) live() bool { return h != nil && h.changes[len(h.changes)-1].stamp != 0 }

// at returns the number of the last change at or before a time, -1 if there is none.
func (h *history) at(t bson.Timestamp) int {
	if h == nil {
		return -1
	}
	i, _ := slices.BinarySearchFunc(h.changes, t, func(c change, t bson.Timestamp) int {
		if c.at.After(t) {
			return 1
		}
		return -1
	})
	return i - 1
}

// of returns the number of the change that a moment made, -1 if it made none.
func (h *history) of(moment int) int {
	if h == nil {
		return -1
	}
	i, found := slices.BinarySearchFunc(h.changes, moment, func(c change, m int) int { return c.moment - m })
	for found && i+1 < len(h.changes) && h.changes[i+1].moment == moment {
		i++
	}
	if !found {
		return -1
	}
	return i
}

var tokenSeed = maphash.MakeSeed()

func hashOf(token bson.Raw) uint64 { return maphash.Bytes(tokenSeed, token) }

// NewTimeline opens the timeline of a database. All that is written after that is in
// it.
func NewTimeline(ctx context.Context, client *mongo.Client, db string) (*Timeline, error) {
	t := newTimeline()
	t.client, t.db = client, db
	return t, t.open(ctx)
}

func newTimeline() *Timeline {
	return &Timeline{byToken: map[uint64]int{}, docs: map[string]map[string]*history{}, stamps: map[Stamp]struct{}{}, grown: make(chan struct{})}
}

// open opens the stream, from the token on if there is one.
func (t *Timeline) open(ctx context.Context) (err error) {
	o := options.ChangeStream().SetMaxAwaitTime(200 * time.Millisecond)
	if t.token != nil {
		o.SetStartAfter(t.token)
	}
	t.cs, err = t.client.Database(t.db).Watch(ctx, mongo.Pipeline{}, o)
	return err
}

// Run follows the stream until ctx ends or it fails. A step-down or a primary that is
// killed is no failure.
func (t *Timeline) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := t.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		_ = t.cs.Close(ctx)
		t.cs = nil
		var se mongo.ServerError
		if errors.As(err, &se) && se.HasErrorLabel("NonResumableChangeStreamError") {
			return fmt.Errorf("snapcheck: the timeline: %w", err)
		}
		for t.open(ctx) != nil && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
	if t.cs != nil {
		_ = t.cs.Close(context.WithoutCancel(ctx))
	}
	return nil
}

func (t *Timeline) follow(ctx context.Context) error {
	for t.cs.Next(ctx) {
		t.add(rigatoni.Event{Raw: t.cs.Current})
		t.token = slices.Clone(t.cs.ResumeToken())
	}
	return t.cs.Err()
}

func (t *Timeline) add(ev rigatoni.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	token, _ := ev.Raw.Lookup("_id").DocumentOK()
	m := moment{at: ev.ClusterTime(), op: ev.OperationType(), coll: ev.Namespace().Coll}
	n := len(t.moments)
	t.byToken[hashOf(token)] = n
	c := change{at: m.at, moment: n}
	switch m.op {
	case "insert", "replace":
		c.stamp = stampIn(ev.FullDocument())
		m.doc, m.k = t.change(m.coll, keyOf(ev.DocumentKey().Lookup("_id")), c)
	case "update":
		fields, _ := ev.UpdateDescription().Lookup("updatedFields").DocumentOK()
		c.stamp = stampIn(fields)
		m.doc, m.k = t.change(m.coll, keyOf(ev.DocumentKey().Lookup("_id")), c)
	case "delete":
		m.doc, m.k = t.change(m.coll, keyOf(ev.DocumentKey().Lookup("_id")), c)
	case "drop":
		t.empty(m.coll, c)
	case "rename":
		m.to, _ = ev.Raw.Lookup("to", "coll").StringValueOK()
		t.empty(m.to, c)
		for key, h := range t.docs[m.coll] {
			if h.live() {
				moved := c
				moved.stamp = h.changes[len(h.changes)-1].stamp
				t.change(m.to, key, moved)
			}
		}
		t.empty(m.coll, c)
	}
	if c.stamp != 0 {
		t.stamps[c.stamp] = struct{}{}
	}
	t.moments = append(t.moments, m)
	close(t.grown)
	t.grown = make(chan struct{})
}

func (t *Timeline) change(coll, key string, c change) (*history, int) {
	docs := t.docs[coll]
	if docs == nil {
		docs = map[string]*history{}
		t.docs[coll] = docs
	}
	h := docs[key]
	if h == nil {
		h = &history{coll: coll, key: key}
		docs[key] = h
	}
	h.changes = append(h.changes, c)
	return h, len(h.changes) - 1
}

func (t *Timeline) empty(coll string, c change) {
	for _, h := range t.docs[coll] {
		if h.live() {
			h.changes = append(h.changes, c)
		}
	}
}

// Has reports whether a write is on the timeline.
func (t *Timeline) Has(s Stamp) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.stamps[s]
	return ok
}

// Await waits until a write is on the timeline.
func (t *Timeline) Await(ctx context.Context, s Stamp) error {
	for {
		t.mu.Lock()
		grown := t.grown
		_, ok := t.stamps[s]
		t.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("snapcheck: the timeline does not get to write %d: %w", s, ctx.Err())
		}
	}
}
