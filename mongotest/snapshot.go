package mongotest

import (
	"slices"
	"sort"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// Reads at a time (the read concern snapshot). Documents are immutable, and each
// oplog entry has the document before it: what a collection was at a time is
// what it is now, with the later entries undone.

// snapshotTime returns the time that a command reads at; the zero time for the
// present.
func (r *request) snapshotTime() bson.Timestamp {
	switch {
	case r.concern.level != "snapshot" || r.inTxn:
		return bson.Timestamp{}
	case r.concern.at.IsZero():
		return r.server.store.lastTime()
	}
	return r.concern.at
}

// readable refuses a time that the store can't go back to. A collection can be
// read since it has its name, and since the oplog begins.
func (st *store) readable(c *collection, at bson.Timestamp) error {
	switch {
	case c != nil && bsondoc.Truth(c.special.Lookup("capped"), false):
		return cmderr.Errorf(cmderr.SnapshotUnavailable, "Reading from capped collections with readConcern snapshot is not supported")
	case c != nil && at.Before(c.since):
		return cmderr.Errorf(cmderr.SnapshotUnavailable, "Unable to read from a snapshot due to pending collection catalog changes; please retry the operation. "+
			"Snapshot timestamp is Timestamp(%d, %d). Collection minimum is Timestamp(%d, %d)", at.T, at.I, c.since.T, c.since.I)
	case at.Before(st.oplog.entries[0].ts):
		return cmderr.Errorf(cmderr.SnapshotTooOld, "Read timestamp Timestamp(%d, %d) is older than the oldest available timestamp.", at.T, at.I)
	}
	return nil
}

// undo returns what the documents that were written after a time were at that
// time, by their ids. A record without a document stands for none.
func (o *oplog) undo(c *collection, at bson.Timestamp) map[string]*record {
	var past map[string]*record
	for _, e := range o.entries[o.since(bson.Timestamp{T: at.T, I: at.I + 1})-o.first:] {
		if e.uuid != c.uuid || e.key == nil {
			continue
		}
		id := bsondoc.Canonical(e.key.Lookup("_id"))
		if past[id] != nil {
			continue // a later change
		}
		if past == nil {
			past = map[string]*record{}
		}
		past[id] = &record{id: id, number: e.number, doc: e.base}
	}
	return past
}

// rewind returns the records of a list, which is sorted, as they were.
// within reports whether the list may have a record.
func rewind(list []*record, past map[string]*record, compare func(a, b *record) int, within func(*record) bool) []*record {
	if len(past) == 0 {
		return list
	}
	out := make([]*record, 0, len(list))
	back := map[string]bool{} // the list has them, as they were
	for _, rec := range list {
		was, changed := past[rec.id]
		switch {
		case !changed:
			out = append(out, rec)
		case was.doc != nil && was.number == rec.number:
			out = append(out, was)
			back[rec.id] = true
		}
	}
	for id, was := range past {
		if was.doc == nil || back[id] || !within(was) {
			continue
		}
		i, _ := slices.BinarySearchFunc(out, was, compare)
		out = slices.Insert(out, i, was)
	}
	return out
}

func byNumber(a, b *record) int { return int(a.number - b.number) }

func byKey(a, b *record) int { return bsondoc.Compare(a.doc.Lookup("_id"), b.doc.Lookup("_id")) }

// sorted returns the records by their _id. The list is made when a command first
// needs it, and kept from then on.
func (c *collection) sorted() []*record {
	if c.inOrder == nil {
		c.inOrder = make([]*record, 0, len(c.byID))
		for rec := range c.all {
			c.inOrder = append(c.inOrder, rec)
		}
		slices.SortFunc(c.inOrder, byKey)
	}
	return c.inOrder
}

// search returns the index in the sorted list of the first _id that is not
// before a value.
func (c *collection) search(id bson.RawValue) int {
	list := c.sorted()
	return sort.Search(len(list), func(i int) bool { return bsondoc.Compare(list[i].doc.Lookup("_id"), id) >= 0 })
}
