package mongotest

import (
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// A store holds all the data, in memory, under one lock. A test server has few
// clients, and commands that run one at a time are easy to get right.
type store struct {
	mu    sync.Mutex
	colls map[namespace]*collection
	order []namespace // in the order of their creation
	// dbs are the databases that were created and not dropped, also those
	// without collections.
	dbs   map[string]bool
	oplog oplog
	txns  []*transaction // the open ones, and some that have ended
	name  string         // of the server

	// oversizeNext means that the next change's events count as too large.
	oversizeNext bool
}

// A collection holds documents in the order of their insertion.
type collection struct {
	ns      namespace
	uuid    [16]byte
	images  bool // the oplog records the document before a change
	records []*record
	byID    map[string]*record
	indexes []*index
	removed int // the number of removed records

	since   bson.Timestamp // when it got its name
	numbers int64          // the number of the newest record
	inOrder []*record      // by their _id; nil until somebody reads them so
	special bson.Raw       // further options, of a capped collection or a time series' buckets
}

// A record keeps its number as long as its document exists.
type record struct {
	doc     bson.Raw
	id      string
	number  int64
	removed bool
}

func newStore(name string, max int) *store {
	st := &store{name: name, colls: map[namespace]*collection{}, dbs: map[string]bool{}, oplog: oplog{max: max, grown: make(chan struct{})}}
	st.oplog.append(&entry{ts: st.tick(), wall: time.Now(), kind: opNoop, note: "initiating set"})
	st.oplog.append(&entry{ts: st.tick(), wall: time.Now(), kind: opNoop, note: "new primary"})
	return st
}

// tick returns the time of the next change, later than all before.
func (st *store) tick() bson.Timestamp {
	now := bson.Timestamp{T: uint32(time.Now().Unix()), I: 1}
	if len(st.oplog.entries) > 0 {
		if last := st.oplog.last().ts; now.T <= last.T {
			now = bson.Timestamp{T: last.T, I: last.I + 1}
		}
	}
	return now
}

func (st *store) lastTime() bson.Timestamp {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.oplog.last().ts
}

func (st *store) noop(note string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.oplog.append(&entry{ts: st.tick(), wall: time.Now(), kind: opNoop, note: note})
}

func (st *store) noopIfIdle(since time.Duration) {
	if st.lastWritten() >= since {
		st.noop("periodic noop")
	}
}

// lastWritten returns the age of the newest entry.
func (st *store) lastWritten() time.Duration {
	st.mu.Lock()
	defer st.mu.Unlock()
	return time.Since(st.oplog.last().wall)
}

func newCollection(ns namespace, images bool) *collection {
	return &collection{ns: ns, uuid: newUUID(), images: images, byID: map[string]*record{}}
}

// all iterates over the existing records, in order.
func (c *collection) all(yield func(*record) bool) {
	for _, rec := range c.records {
		if !rec.removed && !yield(rec) {
			return
		}
	}
}

// add appends a document. Its _id and its unique keys must be free.
func (c *collection) add(doc bson.Raw) error {
	rec := &record{doc: doc, id: bsondoc.Canonical(doc.Lookup("_id"))}
	if c.byID[rec.id] != nil {
		return duplicate(c.ns, idIndex, doc, rec.id)
	}
	if err := c.index(rec); err != nil {
		return err
	}
	c.numbers++
	rec.number = c.numbers
	if c.inOrder != nil {
		c.inOrder = slices.Insert(c.inOrder, c.search(doc.Lookup("_id")), rec)
	}
	c.byID[rec.id] = rec
	c.records = append(c.records, rec)
	return nil
}

// set replaces the document of a record by one with the same _id.
func (c *collection) set(rec *record, doc bson.Raw) error {
	before := rec.doc
	c.unindex(rec)
	rec.doc = doc
	if err := c.index(rec); err != nil {
		rec.doc = before
		_ = c.index(rec) // it had these keys a moment ago
		return err
	}
	return nil
}

func (c *collection) remove(rec *record) {
	c.unindex(rec)
	delete(c.byID, rec.id)
	if c.inOrder != nil {
		i := c.search(rec.doc.Lookup("_id"))
		c.inOrder = slices.Delete(c.inOrder, i, i+1)
	}
	rec.removed = true
	c.removed++
	if c.removed > 100 && c.removed > len(c.byID) {
		kept := make([]*record, 0, len(c.byID))
		c.all(func(rec *record) bool {
			kept = append(kept, rec)
			return true
		})
		c.records, c.removed = kept, 0
	}
}

// copy returns a copy for a transaction to work on.
func (c *collection) copy() *collection {
	out := &collection{ns: c.ns, uuid: c.uuid, images: c.images, since: c.since, special: c.special, byID: map[string]*record{}}
	for _, ix := range c.indexes {
		out.indexes = append(out.indexes, ix.empty())
	}
	c.all(func(rec *record) bool {
		_ = out.add(rec.doc) // its keys are unique there, so also here
		return true
	})
	return out
}

// documentKey returns the key that identifies a document in events.
func documentKey(doc bson.Raw) bson.Raw {
	return bsondoc.New().Value("_id", doc.Lookup("_id")).Done()
}
