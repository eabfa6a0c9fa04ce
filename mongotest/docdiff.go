package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// deltaSize is what an oplog entry of changes has around them.
const deltaSize = 15

// pipelineChange is what an update by a pipeline did. Nobody says so: a server
// compares the documents. It is nil if what differs would take no less room in
// the oplog than the new document, which is logged as a replacement then.
func pipelineChange(before, after bson.Raw) *change {
	if identical(docValue(before), docValue(after)) {
		return &change{}
	}
	v := docValue(after)
	d := difference(docValue(before), v)
	if d.size(v)+deltaSize >= len(after) {
		return nil
	}
	return d.change(after)
}

// difference compares two documents, or two arrays.
func difference(before, after bson.RawValue) *diff {
	d := &diff{array: after.Type == bson.TypeArray}
	was, is := fields(before.Value), fields(after.Value)
	var passed []string // fields that are gone, or behind others
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

// compare compares the values of a field.
func (d *diff) compare(name string, before, after bson.RawValue) {
	if identical(before, after) {
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

// size is how many bytes a server reckons that the oplog needs for it; v is the
// document or array as it is now.
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
