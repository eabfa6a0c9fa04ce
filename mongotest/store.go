package mongotest

import (
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// A store is all the data there is, in memory, under one lock: a server for
// tests has few clients, and commands that run one after the other are easy to
// be right about.
type store struct {
	mu    sync.Mutex
	colls map[namespace]*collection
	order []namespace // in the order of their creation
	// dbs are the databases that have been made, and not dropped since, also
	// those without collections.
	dbs   map[string]bool
	oplog oplog
	txns  []*transaction // those that are open, and some that were

	// oversizeNext: the next change's events are to be too large.
	oversizeNext bool
}

// A collection holds documents in the order of their insertion.
type collection struct {
	ns      namespace
	uuid    [16]byte
	images  bool // the oplog gets documents as they were before a change
	records []*record
	byID    map[string]*record
	indexes []*index
	removed int // how many of records are
}

type record struct {
	doc     bson.Raw
	id      string
	removed bool
}

func newStore(max int) *store {
	st := &store{colls: map[namespace]*collection{}, dbs: map[string]bool{}, oplog: oplog{max: max, grown: make(chan struct{})}}
	st.oplog.append(&entry{ts: st.tick(), wall: time.Now(), kind: opNoop, note: "initiating set"})
	st.oplog.append(&entry{ts: st.tick(), wall: time.Now(), kind: opNoop, note: "new primary"})
	return st
}

// tick is the time of the next change: later than every one before.
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

// lastWritten is how long ago the newest entry was written.
func (st *store) lastWritten() time.Duration {
	st.mu.Lock()
	defer st.mu.Unlock()
	return time.Since(st.oplog.last().wall)
}

func newCollection(ns namespace, images bool) *collection {
	return &collection{ns: ns, uuid: newUUID(), images: images, byID: map[string]*record{}}
}

// all are the documents that are there, in order.
func (c *collection) all(yield func(*record) bool) {
	for _, rec := range c.records {
		if !rec.removed && !yield(rec) {
			return
		}
	}
}

// add puts a document at the end. Its _id and its unique keys must be free.
func (c *collection) add(doc bson.Raw) error {
	rec := &record{doc: doc, id: bsondoc.Canonical(doc.Lookup("_id"))}
	if c.byID[rec.id] != nil {
		return duplicate(c.ns, idIndex, doc, rec.id)
	}
	if err := c.index(rec); err != nil {
		return err
	}
	c.byID[rec.id] = rec
	c.records = append(c.records, rec)
	return nil
}

// set gives a record another document, with the same _id.
func (c *collection) set(rec *record, doc bson.Raw) error {
	before := rec.doc
	c.unindex(rec)
	rec.doc = doc
	if err := c.index(rec); err != nil {
		rec.doc = before
		_ = c.index(rec) // it was there a moment ago
		return err
	}
	return nil
}

func (c *collection) remove(rec *record) {
	c.unindex(rec)
	delete(c.byID, rec.id)
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

// copy is what a transaction works on.
func (c *collection) copy() *collection {
	out := &collection{ns: c.ns, uuid: c.uuid, images: c.images, byID: map[string]*record{}}
	for _, ix := range c.indexes {
		out.indexes = append(out.indexes, ix.empty())
	}
	c.all(func(rec *record) bool {
		_ = out.add(rec.doc) // free here because it is there
		return true
	})
	return out
}

// documentKey is how events name a document.
func documentKey(doc bson.Raw) bson.Raw {
	return bsondoc.New().Value("_id", doc.Lookup("_id")).Done()
}
