package mongotest

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// A writer changes the store for one command, while the caller holds the
// store's lock. Each change enters the oplog at once, with a time of its own;
// in a transaction it is kept until the commit.
type writer struct {
	st  *store
	txn *transaction
}

// write runs a command's changes under the lock.
func (r *request) write(f func(*writer) error) error {
	st := r.server.store
	st.mu.Lock()
	defer st.mu.Unlock()
	return f(&writer{st: st, txn: r.txn})
}

// read is write for commands that change nothing.
func (r *request) read(f func(*writer) error) error { return r.write(f) }

// collection returns nil if there is none of that name.
func (w *writer) collection(ns namespace) *collection {
	if w.txn != nil {
		return w.txn.collection(w.st, ns)
	}
	return w.st.colls[ns]
}

// ensure creates the collection unless it exists.
func (w *writer) ensure(ns namespace) *collection {
	if c := w.collection(ns); c != nil {
		return c
	}
	return w.create(ns, false)
}

func (w *writer) create(ns namespace, images bool) *collection {
	return w.add(newCollection(ns, images))
}

// add adds a new collection.
func (w *writer) add(c *collection) *collection {
	ns := c.ns
	w.st.colls[ns] = c
	w.st.order = append(w.st.order, ns)
	w.st.dbs[ns.db] = true
	w.describe(c, opCreate, bsondoc.New().Append(c.options()).Doc("idIndex", idIndex.spec).Done())
	c.since = w.st.oplog.last().ts
	if w.txn != nil {
		return w.txn.collection(w.st, ns)
	}
	return c
}

// log adds an entry. A collection that is created in a transaction is visible
// to all at once, unlike on a real server.
func (w *writer) log(e *entry) {
	e.ts, e.wall = w.st.tick(), time.Now()
	if !slices.Contains(expandedKinds, e.kind) && !e.view { // most streams have no events of these
		e.oversize, w.st.oversizeNext = w.st.oversizeNext, false
	}
	w.st.oplog.append(e)
}

// describe logs a change of a collection itself.
func (w *writer) describe(c *collection, kind string, description bson.Raw) {
	w.log(&entry{kind: kind, ns: c.ns, uuid: c.uuid, description: description})
}

func (w *writer) document(c *collection, e *entry, rec *record, base bson.Raw) {
	e.ns, e.uuid, e.number, e.base = c.ns, c.uuid, rec.number, base
	if c.images {
		e.before = base
	}
	if w.txn != nil {
		w.txn.changes = append(w.txn.changes, e)
		return
	}
	w.log(e)
}

func (w *writer) insert(c *collection, doc bson.Raw) error {
	if id := bsondoc.Canonical(doc.Lookup("_id")); c.byID[id] == nil {
		if err := w.free(c, id, nil); err != nil {
			return err
		}
	}
	if err := c.add(doc); err != nil {
		return err
	}
	rec := c.byID[bsondoc.Canonical(doc.Lookup("_id"))]
	w.document(c, &entry{kind: opInsert, key: documentKey(doc), doc: doc}, rec, nil)
	return nil
}

// update replaces the document of a record. Without a change it is a replace,
// which is logged with the document as given.
func (w *writer) update(c *collection, rec *record, doc bson.Raw, ch *query.Change) error {
	base := rec.doc
	if err := c.set(rec, query.IDFirst(doc)); err != nil {
		return err
	}
	e := &entry{kind: opReplace, key: documentKey(base), doc: doc, change: ch}
	if ch != nil {
		e.kind, e.doc = opUpdate, rec.doc
	}
	w.document(c, e, rec, base)
	return nil
}

func (w *writer) delete(c *collection, rec *record) {
	c.remove(rec)
	w.document(c, &entry{kind: opDelete, key: documentKey(rec.doc)}, rec, rec.doc)
}

func (w *writer) drop(c *collection) {
	w.unlink(c.ns)
	w.log(&entry{kind: opDrop, ns: c.ns, uuid: c.uuid})
}

func (w *writer) unlink(ns namespace) {
	delete(w.st.colls, ns)
	w.st.order = slices.DeleteFunc(w.st.order, func(n namespace) bool { return n == ns })
}

func (w *writer) rename(c *collection, to namespace) {
	description := bsondoc.New()
	to.field("to", description)
	if target := w.st.colls[to]; target != nil {
		description.Binary("dropTarget", bson.TypeBinaryUUID, target.uuid[:])
		w.unlink(to)
	}
	e := &entry{kind: opRename, ns: c.ns, uuid: c.uuid, to: to, description: description.Done()}
	w.unlink(c.ns)
	c.ns = to
	w.st.colls[to] = c
	w.st.order = append(w.st.order, to)
	w.log(e)
	c.since = e.ts
}

// matching returns the records that match a filter. It finds one by its _id
// without a scan.
func (c *collection) matching(f *query.Filter) []*record {
	var out []*record
	if id := f.ID(); id.Type != 0 {
		if rec := c.byID[bsondoc.Canonical(id)]; rec != nil && f.Match(rec.doc) {
			out = append(out, rec)
		}
		return out
	}
	c.all(func(rec *record) bool {
		if f.Match(rec.doc) {
			out = append(out, rec)
		}
		return true
	})
	return out
}
