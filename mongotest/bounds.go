package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A scan is the part of a collection that a find reads, and the order in which
// it does: the arguments hint, min and max.
type scan struct {
	hint     bson.RawValue
	min, max bson.Raw
}

// everything reports whether it is the whole collection, in any order.
func (s scan) everything() bool { return s.hint.Type == 0 && s.min == nil && s.max == nil }

func (r *request) scan() (s scan, err error) {
	if s.min, err = r.bound("min"); err != nil {
		return s, err
	}
	if s.max, err = r.bound("max"); err != nil {
		return s, err
	}
	s.hint = r.args["hint"]
	switch s.hint.Type {
	case bson.TypeString, 0:
	case bson.TypeEmbeddedDocument:
		if len(bsondoc.Fields(s.hint.Document())) == 0 {
			s.hint = bson.RawValue{}
		}
	default:
		return s, cmderr.Errorf(cmderr.FailedToParse, "Hint must be a string or an object")
	}
	if s.min != nil && s.max != nil && !sameFields(s.min, s.max) {
		return s, cmderr.Errorf(51176, "min and max must have the same field names")
	}
	return s, nil
}

// bound returns one of the two; nil if there is none.
func (r *request) bound(name string) (bson.Raw, error) {
	v := r.args[name]
	doc, ok := v.DocumentOK()
	switch {
	case v.Type == 0:
		return nil, nil
	case !ok:
		return nil, cmderr.Errorf(cmderr.TypeMismatch, "Expected field %sto be of type object", name)
	case len(bsondoc.Fields(doc)) == 0:
		return nil, nil
	}
	return doc, nil
}

func sameFields(a, b bson.Raw) bool {
	return slices.EqualFunc(bsondoc.Fields(a), bsondoc.Fields(b), func(a, b bson.RawElement) bool { return a.Key() == b.Key() })
}

// checkView refuses what can't be asked of a view.
func (s scan) checkView() error {
	switch {
	case s.min != nil:
		return cmderr.Errorf(cmderr.InvalidOperator, "Option min not supported in aggregation.")
	case s.max != nil:
		return cmderr.Errorf(cmderr.InvalidOperator, "Option max not supported in aggregation.")
	}
	return cmderr.Unsupported("reading through a view")
}

// noPlan returns the error for a query that can't be run. The message of a real
// server also has the filter, where there is one.
func noPlan(ns namespace, code int, why string) error {
	return cmderr.Errorf(code, "error processing query: ns=%sTree: $and\nSort: {}\nProj: {}\n planner returned error :: caused by :: %s", ns, why)
}

// records returns the records to read, in order, as they are or as they were.
func (s scan) records(c *collection, past map[string]*record) ([]*record, error) {
	name, natural, err := c.hinted(s.hint)
	bounded := s.min != nil || s.max != nil
	switch {
	case err != nil:
		return nil, err
	case natural != 0 && bounded:
		return nil, noPlan(c.ns, 291, "min and max are incompatible with $natural")
	case name == "" && bounded:
		return nil, noPlan(c.ns, 51173, "When using min()/max() a hint of which index to use must be provided")
	case name == "_id_":
		return s.between(c, past)
	case bounded:
		return nil, cmderr.Unsupported("min and max of other indexes than that of _id")
	}
	list := make([]*record, 0, len(c.byID))
	for rec := range c.all {
		list = append(list, rec)
	}
	list = rewind(list, past, byNumber, func(*record) bool { return true })
	if natural < 0 {
		slices.Reverse(list)
	}
	return list, nil
}

// hinted returns the name of the index that a hint stands for, or 1 or -1 for
// the natural order.
func (c *collection) hinted(hint bson.RawValue) (name string, natural int, err error) {
	text, isName := hint.StringValueOK()
	key, isKey := hint.DocumentOK()
	if !isName && !isKey {
		return "", 0, nil
	}
	if n, ok := bsondoc.Int(key.Lookup("$natural")); isKey && ok {
		return "", int(n), nil
	}
	for _, ix := range append([]*index{idIndex}, c.indexes...) {
		if isName && ix.name == text || isKey && bsondoc.CompareDocs(ix.key, key) == 0 {
			return ix.name, 0, nil
		}
	}
	return "", 0, noPlan(c.ns, cmderr.BadValue, "hint provided does not correspond to an existing index")
}

// between returns the records from min up to but not including max, by their
// _id. Without max this is the largest value that there is, MaxKey.
func (s scan) between(c *collection, past map[string]*record) ([]*record, error) {
	if s.min == nil && s.max == nil {
		return rewind(c.sorted(), past, byKey, func(*record) bool { return true }), nil
	}
	low, high := bson.RawValue{Type: bson.TypeMinKey}, bson.RawValue{Type: bson.TypeMaxKey}
	for _, b := range []struct {
		doc bson.Raw
		to  *bson.RawValue
	}{{s.min, &low}, {s.max, &high}} {
		if b.doc == nil {
			continue
		}
		if fields := bsondoc.Fields(b.doc); len(fields) != 1 || fields[0].Key() != "_id" {
			return nil, noPlan(c.ns, 51174, "The index chosen is not compatible with min/max")
		}
		*b.to = b.doc.Lookup("_id")
	}
	if bsondoc.Compare(low, high) >= 0 {
		return nil, noPlan(c.ns, 51175, "The value provided for min() does not come before the value provided for max() in the hinted index")
	}
	return rewind(c.sorted()[c.search(low):c.search(high)], past, byKey, func(rec *record) bool {
		id := rec.doc.Lookup("_id")
		return bsondoc.Compare(id, low) >= 0 && bsondoc.Compare(id, high) < 0
	}), nil
}
