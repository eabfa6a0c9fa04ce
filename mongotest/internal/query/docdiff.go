package query

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// deltaSize is the size of an oplog entry without its changes.
const deltaSize = 15

// pipelineChange returns what an update by a pipeline changed, which a server
// finds by comparing the documents. It is nil if the changes need as much room in
// the oplog as the new document: the server logs a replacement then.
func pipelineChange(before, after bson.Raw) *Change {
	if bsondoc.Identical(bsondoc.Value(before), bsondoc.Value(after)) {
		return &Change{}
	}
	v := bsondoc.Value(after)
	d := difference(bsondoc.Value(before), v)
	if d.size(v)+deltaSize >= len(after) {
		return nil
	}
	return d.change(after)
}

// difference compares two documents, or two arrays.
func difference(before, after bson.RawValue) *diff {
	d := &diff{array: after.Type == bson.TypeArray}
	was, is := bsondoc.Fields(before.Value), bsondoc.Fields(after.Value)
	var passed []string // fields that were removed, or moved behind others
	for len(was) > 0 && len(is) > 0 {
		if was[0].Key() == is[0].Key() {
			d.compare(is[0].Key(), was[0].Value(), is[0].Value())
			is = is[1:]
		} else {
			passed = append(passed, was[0].Key())
		}
		was = was[1:]
	}
	for _, e := range is {
		d.inserted = append(d.inserted, e.Key())
	}
	if d.array {
		d.truncated = len(was) > 0
		return d
	}
	for _, e := range was {
		d.removed = append(d.removed, e.Key())
	}
	slices.Sort(passed)
	for _, name := range passed {
		if !slices.Contains(d.inserted, name) {
			d.removed = append(d.removed, name)
		}
	}
	return d
}

// compare adds the difference between two values of a field.
func (d *diff) compare(name string, before, after bson.RawValue) {
	if bsondoc.Identical(before, after) {
		return
	}
	if before.Type == after.Type && (after.Type == bson.TypeEmbeddedDocument || after.Type == bson.TypeArray) {
		if w := difference(before, after); w.size(after) < len(after.Value) {
			w.name = name
			d.within = append(d.within, w)
			return
		}
	}
	d.updated = append(d.updated, name)
}

// size returns the server's estimate of the bytes that the oplog needs for the
// diff; v is the document or array after the update.
func (d *diff) size(v bson.RawValue) int {
	const section = 8 // of the removed, the updated and the inserted fields
	n, each := 5, 2
	set := slices.Concat(d.updated, d.inserted)
	if d.array {
		n, each = 9, 3
	} else {
		for _, names := range [][]string{d.removed, d.updated, d.inserted} {
			n += section * min(len(names), 1)
		}
	}
	if d.truncated {
		n += 7
	}
	for _, name := range d.removed {
		n += len(name) + 3
	}
	for _, name := range set {
		n += len(name) + each + len(bson.Raw(v.Value).Lookup(name).Value)
	}
	for _, w := range d.within {
		n += len(w.name) + 3 + w.size(bson.Raw(v.Value).Lookup(w.name))
	}
	return n
}
