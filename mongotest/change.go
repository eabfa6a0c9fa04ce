package mongotest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A change is what an update did to a document, as an event's
// updateDescription tells it.
type change struct {
	updated   []changedField
	removed   []string
	truncated []truncation
}

type changedField struct {
	path  string
	value bson.RawValue
}

type truncation struct {
	path string
	size int
}

func (ch *change) empty() bool {
	return len(ch.updated) == 0 && len(ch.removed) == 0 && len(ch.truncated) == 0
}

// A diff collects changes in the server's order, which is that of its oplog:
// of each document first the fields it lost, then those with another value,
// then the new ones, then its documents; of each array its elements in turn.
type diff struct {
	array     bool
	removed   []string
	updated   []named
	inserted  []named
	within    []*diff
	name      string
	truncated int // the new size, and one; 0 if it is as long as before
}

type named struct {
	name  string
	value bson.RawValue
}

// A step is one document or array on the way to a field.
type step struct {
	name  string // of the field within it
	array bool   // it is an array
}

// at is the part of the diff for the container of a path's last step.
func (d *diff) at(trail []step) *diff {
	for i, s := range trail {
		d.array = s.array
		if i == len(trail)-1 {
			break
		}
		n := slices.IndexFunc(d.within, func(w *diff) bool { return w.name == s.name })
		if n < 0 {
			d.within = append(d.within, &diff{name: s.name})
			n = len(d.within) - 1
		}
		d = d.within[n]
	}
	return d
}

func (d *diff) set(trail []step, v bson.RawValue, existed bool) {
	at, f := d.at(trail), named{trail[len(trail)-1].name, v}
	if existed {
		at.updated = append(at.updated, f)
	} else {
		at.inserted = append(at.inserted, f)
	}
}

func (d *diff) remove(trail []step) {
	at := d.at(trail)
	at.removed = append(at.removed, trail[len(trail)-1].name)
}

func (d *diff) change() *change {
	ch := &change{}
	d.flatten(ch, "")
	return ch
}

func (d *diff) flatten(ch *change, prefix string) {
	for _, name := range d.removed {
		ch.removed = append(ch.removed, prefix+name)
	}
	if d.truncated > 0 {
		ch.truncated = append(ch.truncated, truncation{strings.TrimSuffix(prefix, "."), d.truncated - 1})
	}
	if d.array {
		d.flattenArray(ch, prefix)
		return
	}
	for _, f := range slices.Concat(d.updated, d.inserted) {
		ch.updated = append(ch.updated, changedField{prefix + f.name, f.value})
	}
	for _, w := range d.within {
		w.flatten(ch, prefix+w.name+".")
	}
}

func (d *diff) flattenArray(ch *change, prefix string) {
	type element struct {
		n    int
		emit func()
	}
	var all []element
	add := func(name string, emit func()) {
		n, _ := strconv.Atoi(name) // an index, or it would not be here
		all = append(all, element{n, emit})
	}
	for _, f := range slices.Concat(d.updated, d.inserted) {
		add(f.name, func() { ch.updated = append(ch.updated, changedField{prefix + f.name, f.value}) })
	}
	for _, w := range d.within {
		add(w.name, func() { w.flatten(ch, prefix+w.name+".") })
	}
	slices.SortStableFunc(all, func(a, b element) int { return cmp.Compare(a.n, b.n) })
	for _, e := range all {
		e.emit()
	}
}
