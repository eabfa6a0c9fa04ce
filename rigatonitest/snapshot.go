package rigatonitest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// Read returns the event of a document of the collection ns that a snapshot copies. See
// [Log.Populate] for a source that copies.
func Read(ns string, doc any) rigatoni.Event {
	full := document(doc)
	id, err := full.LookupErr("_id")
	if err != nil {
		panic("rigatonitest: Read needs a document with an _id")
	}
	m := next("read", ns)
	return readEvent(positionAt(m.at), m.ns, id, full)
}

// readEvent is the event of a document that was read at a position of the stream.
func readEvent(at rigatoni.Position, ns rigatoni.Namespace, id bson.RawValue, full bson.Raw) rigatoni.Event {
	return rigatoni.Event{Raw: document(bson.D{
		{Key: "_id", Value: at.Token.Raw()},
		{Key: "operationType", Value: "read"},
		{Key: "clusterTime", Value: at.ClusterTime},
		{Key: "ns", Value: moment{ns: ns}.namespace()},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}},
		{Key: "fullDocument", Value: full},
	})}
}

// Populate is [Log.Populate] of the first stream.
func (s *Source) Populate(ns string, docs ...any) { s.first().Populate(ns, docs...) }

// CanSnapshot returns nil: a source copies what [Log.Populate] and the events have made.
func (s *Source) CanSnapshot() error { return nil }

// Populate adds documents to the collection ns that no event tells of, as in a database
// that is older than its oplog. A document without an _id gets one.
//
// A pipeline with Config.Snapshot copies them, and what the events before its start made
// of them, in the order in which they first appeared, while it reads what is appended. An
// update changes a document here if it has a fullDocument, or sets top-level fields.
func (l *Log) Populate(ns string, docs ...any) {
	parse(ns)
	l.change(func() {
		for _, doc := range docs {
			l.populated = append(l.populated, Insert(ns, doc))
		}
	})
}

// A world is the collections as they are at a position of the log.
type world struct {
	names       []string // in the order of their appearance
	collections map[string]*collection
	applied     int // entries of the log
}

// A collection has the keys of its documents in the order of their appearance. A deleted
// one keeps its place, with a nil document.
type collection struct {
	keys []string
	docs map[string]bson.Raw
}

// worldAt is the world before the n-th entry. The log is locked.
func (l *Log) worldAt(n int) *world {
	w := &world{collections: map[string]*collection{}}
	for _, ev := range l.populated {
		w.apply(ev)
	}
	for ; w.applied < n; w.applied++ {
		w.apply(l.entries[w.applied].event)
	}
	return w
}

func (w *world) of(ns string) *collection {
	c := w.collections[ns]
	if c == nil {
		c = &collection{docs: map[string]bson.Raw{}}
		w.collections[ns] = c
		w.names = append(w.names, ns)
	}
	return c
}

func (w *world) forget(ns string) {
	delete(w.collections, ns)
	w.names = slices.DeleteFunc(w.names, func(n string) bool { return n == ns })
}

func (w *world) apply(ev rigatoni.Event) {
	ns := ev.Namespace()
	switch ev.OperationType() {
	case "insert", "replace", "update":
		w.of(ns.String()).put(keyText(ev), ev)
	case "delete":
		w.of(ns.String()).docs[keyText(ev)] = nil
	case "drop":
		w.forget(ns.String())
	case "dropDatabase":
		for _, name := range slices.Clone(w.names) {
			if strings.HasPrefix(name, ns.DB+".") {
				w.forget(name)
			}
		}
	case "rename":
		c := w.of(ns.String())
		w.forget(ns.String())
		w.forget(renamedTo(ev))
		*w.of(renamedTo(ev)) = *c
	}
}

func (c *collection) put(key string, ev rigatoni.Event) {
	before, known := c.docs[key]
	if !known {
		c.keys = append(c.keys, key)
	}
	if full := ev.FullDocument(); full != nil {
		c.docs[key] = full
		return
	}
	if before == nil {
		return // an update of a document that nobody knows of
	}
	d := fields(before)
	for _, e := range fields(ev.UpdateDescription().Lookup("updatedFields").Document()) {
		if i := slices.IndexFunc(d, func(f bson.E) bool { return f.Key == e.Key }); i >= 0 {
			d[i].Value = e.Value
		} else {
			d = append(d, e)
		}
	}
	c.docs[key] = document(d)
}

// has reports whether the key is one of the first n.
func (c *collection) has(key string, n int) bool {
	return c != nil && slices.Contains(c.keys[:min(n, len(c.keys))], key)
}

// keyText is the same for values of _id that are equal.
func keyText(ev rigatoni.Event) string {
	id := ev.DocumentKey().Lookup("_id")
	if f, ok := id.DoubleOK(); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		id = document(bson.D{{Key: "_id", Value: int64(f)}}).Lookup("_id")
	}
	var k keyString
	if k.value(id) {
		return string(k.key)
	}
	return string(byte(id.Type)) + string(id.Value)
}

func renamedTo(ev rigatoni.Event) string {
	to, _ := ev.Raw.Lookup("to").DocumentOK()
	db, _ := to.Lookup("db").StringValueOK()
	coll, _ := to.Lookup("coll").StringValueOK()
	return rigatoni.Namespace{DB: db, Coll: coll}.String()
}

// A copying is the state of a copy, as a position has it.
type copying struct {
	Again       bool            `json:"again,omitempty"`
	Began       json.RawMessage `json:"began"` // the token
	BeganAt     time.Time       `json:"began_at"`
	Collections []toCopy        `json:"collections"` // that are left
	All         int             `json:"all"`         // collections
	Documents   int64           `json:"documents"`   // copied
	Estimated   int64           `json:"estimated"`
}

type toCopy struct {
	Namespace string `json:"ns"`
	Next      int    `json:"next"` // of the collection's keys
}

func (c *copying) text() string {
	if c == nil {
		return ""
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A copier copies the collections of a log, and knows what a position in the copy is.
type copier struct {
	state   *copying // nil: there is nothing to copy
	world   *world
	chunk   int  // documents at once
	resumed bool // an earlier stream may have copied more than the state says
	turn    bool // documents are next, and not events
	last    rigatoni.SnapshotStatus
}

// newCopier begins a copy at a position before the n-th entry.
func (l *Log) newCopier(n int, at rigatoni.Start, pos rigatoni.Position) (copier, error) {
	c := copier{turn: true}
	if cp := at.Checkpoint; cp != nil {
		doc := cp.Extra[rigatoni.ExtraSnapshot]
		if len(doc) == 0 {
			return c, nil
		}
		c.resumed, c.state = true, new(copying)
		if err := json.Unmarshal(doc, c.state); err != nil {
			return c, fmt.Errorf("rigatonitest: the snapshot in the checkpoint: %w", err)
		}
		c.world = l.worldAt(n)
		return c, nil
	}
	if !at.Snapshot {
		return c, nil
	}
	c.world = l.worldAt(n)
	token, err := pos.Token.ExtJSON()
	if err != nil {
		return c, err
	}
	st := &copying{Again: at.SnapshotAgain, Began: token, BeganAt: time.Now().UTC()}
	for _, name := range c.world.names {
		st.Collections = append(st.Collections, toCopy{Namespace: name})
		for _, doc := range c.world.collections[name].docs {
			if doc != nil {
				st.Estimated++
			}
		}
	}
	if st.All = len(st.Collections); st.All > 0 {
		c.state = st
	}
	return c, nil
}

// status is how far the copy has got.
func (c *copier) status() (rigatoni.SnapshotStatus, bool) {
	if c.state == nil {
		return c.last, false
	}
	s := rigatoni.SnapshotStatus{
		CollectionsTotal: c.state.All, CollectionsDone: c.state.All - len(c.state.Collections),
		Documents: c.state.Documents, DocumentsEstimated: c.state.Estimated, Began: c.state.BeganAt,
	}
	for _, left := range c.state.Collections {
		s.Collections = append(s.Collections, rigatoni.CollectionSnapshot{Namespace: parse(left.Namespace)})
	}
	return s, true
}

// fixed is a positioner that was asked beforehand.
type fixed rigatoni.Position

func (p fixed) PositionAfter(rigatoni.Event) (rigatoni.Position, error) {
	return rigatoni.Position(p), nil
}

// positioned is an event whose position is pos with the state of the copy.
func (c *copier) positioned(ev rigatoni.Event, pos rigatoni.Position) rigatoni.Event {
	pos.Snapshot = c.state.text()
	return ev.WithPositioner(fixed(pos))
}

// pass is an event during the copy: nil if the copy has it.
func (c *copier) pass(ev rigatoni.Event) []rigatoni.Event {
	c.world.apply(ev)
	c.world.applied++
	ns, kept := ev.Namespace().String(), true
	i := slices.IndexFunc(c.state.Collections, func(t toCopy) bool { return t.Namespace == ns })
	switch op := ev.OperationType(); {
	case op == "dropDatabase":
		c.forget(func(t toCopy) bool { return strings.HasPrefix(t.Namespace, ev.Namespace().DB+".") })
	case op == "rename":
		c.forget(func(t toCopy) bool { return t.Namespace == renamedTo(ev) })
		for i, t := range c.state.Collections {
			if t.Namespace == ns {
				c.state.Collections[i].Namespace = renamedTo(ev)
			}
		}
	case op == "drop":
		c.forget(func(t toCopy) bool { return t.Namespace == ns })
	case i >= 0 && ev.DocumentKey() != nil && !c.state.Again && !(c.resumed && op == "delete"):
		kept = c.world.collections[ns].has(keyText(ev), c.state.Collections[i].Next)
	}
	pos, err := rigatoni.PositionAfter(ev)
	if err != nil {
		panic(err) // it has a token: see Append
	}
	c.end()
	if !kept {
		return nil
	}
	return []rigatoni.Event{c.positioned(ev, pos)}
}

func (c *copier) forget(which func(toCopy) bool) {
	c.state.Collections = slices.DeleteFunc(slices.Clone(c.state.Collections), which)
}

// end ends the copy if nothing is left.
func (c *copier) end() {
	if c.state != nil && len(c.state.Collections) == 0 {
		c.last, _ = c.status()
		c.state = nil
	}
}

// documents are the next events of documents that are copied, at a position.
func (c *copier) documents(pos rigatoni.Position) (events []rigatoni.Event, err error) {
	at := &c.state.Collections[0]
	coll, ns := c.world.of(at.Namespace), parse(at.Namespace)
	for len(events) < c.chunk && at.Next < len(coll.keys) {
		full := coll.docs[coll.keys[at.Next]]
		at.Next++
		if full == nil {
			continue
		}
		c.state.Documents++
		events = append(events, c.positioned(readEvent(pos, ns, full.Lookup("_id"), full), pos))
	}
	if at.Next < len(coll.keys) {
		return events, nil
	}
	began, err := resumetoken.Parse(c.state.Began)
	if err != nil {
		return nil, err
	}
	c.state.Collections = c.state.Collections[1:]
	c.end()
	pos.Snapshot = c.state.text()
	return append(events, rigatoni.SnapshotEnd{Namespace: ns, Began: began}.Event(fixed(pos))), nil
}

// Snapshot reports how far the copy has got; see [rigatoni.SnapshotReporter].
func (s *stream) Snapshot() (rigatoni.SnapshotStatus, bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.copier.status()
}

// beginCopy begins the copy that a start asks for, or goes on with it. The log is locked.
func (s *stream) beginCopy(at rigatoni.Start, chunk int) (err error) {
	s.copier, err = s.log.newCopier(s.next, at, s.position)
	s.copier.chunk = chunk
	s.position.Snapshot = s.copier.state.text()
	return err
}

// copy returns what comes next while a copy is under way: documents and events in turn.
// The log is locked.
func (s *stream) copy() (events []rigatoni.Event, err error) {
	l := s.log
	if s.copier.turn || s.next == len(l.entries) {
		s.copier.turn = false
		events, err = s.copier.documents(s.position)
		s.position.Snapshot = s.copier.state.text()
		return events, err
	}
	s.copier.turn = true
	for s.next < len(l.entries) && s.copier.state != nil {
		ev := l.entries[s.next].event
		events = append(events, s.copier.pass(ev)...)
		if s.position, err = rigatoni.PositionAfter(ev); err != nil {
			return nil, err
		}
		s.position.Snapshot = s.copier.state.text()
		s.next++
	}
	l.read = max(l.read, s.next)
	return events, nil
}

var _ rigatoni.Snapshotter = (*Source)(nil)
