package query

import (
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// A Change is what an update did to a document, as in the updateDescription of a
// change event.
type Change struct {
	updated   []changedField
	removed   []string
	truncated []bson.Raw
}

type changedField struct {
	path  string
	value bson.RawValue
}

// Empty reports whether the update left the document as it was.
func (ch *Change) Empty() bool {
	return len(ch.updated) == 0 && len(ch.removed) == 0 && len(ch.truncated) == 0
}

// A diff collects changes in the order of the server's oplog: for each document
// first the removed fields, then those with another value, then the new ones,
// then its embedded documents; for each array its elements in order. It holds
// only names: the values are those of the final document.
type diff struct {
	array     bool
	truncated bool // an array: its last elements were removed
	removed   []string
	updated   []string
	inserted  []string
	within    []*diff
	name      string
}

// A step is one document or array on the way to a field.
type step struct {
	name  string // of the field within it
	array bool   // it is an array
}

// at returns the part of the diff for the container of a path's last step, nil if
// the whole container is new.
func (d *diff) at(trail []step) *diff {
	for i, s := range trail {
		d.array = s.array
		if i == len(trail)-1 {
			break
		}
		if slices.Contains(d.updated, s.name) || slices.Contains(d.inserted, s.name) {
			return nil
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

func (d *diff) set(trail []step, existed bool) {
	at, name := d.at(trail), trail[len(trail)-1].name
	switch {
	case at == nil:
	case existed:
		at.updated = append(at.updated, name)
	default:
		at.inserted = append(at.inserted, name)
	}
}

func (d *diff) remove(trail []step) {
	if at := d.at(trail); at != nil {
		at.removed = append(at.removed, trail[len(trail)-1].name)
	}
}

func (d *diff) change(after bson.Raw) *Change {
	ch := &Change{}
	d.flatten(ch, "", bsondoc.Value(after))
	return ch
}

func (d *diff) flatten(ch *Change, prefix string, v bson.RawValue) {
	for _, name := range d.removed {
		ch.removed = append(ch.removed, prefix+name)
	}
	set := slices.Concat(d.updated, d.inserted)
	if d.array {
		d.flattenArray(ch, prefix, bsondoc.Items(v), set)
		return
	}
	for _, name := range set {
		ch.updated = append(ch.updated, changedField{prefix + name, v.Document().Lookup(name)})
	}
	for _, w := range d.within {
		w.flatten(ch, prefix+w.name+".", v.Document().Lookup(w.name))
	}
}

func (d *diff) flattenArray(ch *Change, prefix string, list []bson.RawValue, set []string) {
	if d.truncated {
		ch.truncated = append(ch.truncated, bsondoc.New().Str("field", prefix[:len(prefix)-1]).Int32("newSize", len(list)).Done())
	}
	for i, v := range list {
		name := strconv.Itoa(i)
		if slices.Contains(set, name) {
			ch.updated = append(ch.updated, changedField{prefix + name, v})
		}
		for _, w := range d.within {
			if w.name == name {
				w.flatten(ch, prefix+name+".", v)
			}
		}
	}
}

// Description returns the updateDescription.
func (ch *Change) Description() bson.Raw {
	d := bsondoc.New()
	at := d.Open(bson.TypeEmbeddedDocument, "updatedFields")
	for _, f := range ch.updated {
		d.Value(f.path, f.value)
	}
	return d.Close(at).Strings("removedFields", ch.removed).Docs("truncatedArrays", ch.truncated).Done()
}
