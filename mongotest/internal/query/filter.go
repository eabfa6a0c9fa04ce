package query

import (
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A Filter is a compiled query.
type Filter struct {
	root node
	// id is the _id that the query asks for, if it does.
	id bson.RawValue
}

// A node is a part of a query.
type node func(doc bson.Raw) bool

// A predicate reports whether the values at a path match.
type predicate func(found []bson.RawValue) bool

// ID returns the _id that a document must have to match, so that it can be found
// without a scan. Its type is 0 if the query doesn't name one.
func (f *Filter) ID() bson.RawValue { return f.id }

// Match reports whether a document matches.
func (f *Filter) Match(doc bson.Raw) bool { return f.root(doc) }

// CompileFilter compiles a query; an empty one matches every document.
func CompileFilter(query bson.Raw) (*Filter, error) {
	root, err := compileQuery(query)
	if err != nil {
		return nil, err
	}
	f := &Filter{root: root}
	if v, err := query.LookupErr("_id"); err == nil && !isOperators(v) && v.Type != bson.TypeRegex {
		f.id = v
	}
	return f, nil
}

func compileQuery(query bson.Raw) (node, error) {
	var all []node
	for _, e := range bsondoc.Fields(query) {
		n, err := compileClause(e.Key(), e.Value())
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return and(all), nil
}

func and(all []node) node {
	if len(all) == 1 {
		return all[0]
	}
	return func(doc bson.Raw) bool {
		for _, n := range all {
			if !n(doc) {
				return false
			}
		}
		return true
	}
}

func or(all []node) node {
	return func(doc bson.Raw) bool {
		for _, n := range all {
			if n(doc) {
				return true
			}
		}
		return false
	}
}

func compileClause(name string, v bson.RawValue) (node, error) {
	switch name {
	case "$and", "$or", "$nor":
		return compileLogical(name, v)
	case "$comment":
		return and(nil), nil
	case "$where":
		return nil, cmderr.Errorf(cmderr.BadValue, "$where is not allowed in this context")
	case "$expr", "$text", "$jsonSchema", "$alwaysTrue", "$alwaysFalse", "$sampleRate":
		return nil, cmderr.Unsupported("the query operator " + name)
	}
	if strings.HasPrefix(name, "$") {
		return nil, cmderr.Errorf(cmderr.BadValue, "unknown top level operator: %s. If you have a field name that starts with a '$' symbol, "+
			"consider using $getField or $setField.", name)
	}
	p, err := compileField(v)
	if err != nil {
		return nil, err
	}
	path := strings.Split(name, ".")
	return func(doc bson.Raw) bool { return p(lookup(nil, doc, path)) }, nil
}

func compileLogical(name string, v bson.RawValue) (node, error) {
	if v.Type != bson.TypeArray || len(bsondoc.Items(v)) == 0 {
		return nil, cmderr.Errorf(cmderr.BadValue, "$and/$or/$nor must be a nonempty array")
	}
	var all []node
	for _, item := range bsondoc.Items(v) {
		doc, ok := item.DocumentOK()
		if !ok {
			return nil, cmderr.Errorf(cmderr.BadValue, "$or/$and/$nor entries need to be full objects")
		}
		n, err := compileQuery(doc)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	switch name {
	case "$and":
		return and(all), nil
	case "$or":
		return or(all), nil
	}
	some := or(all)
	return func(doc bson.Raw) bool { return !some(doc) }, nil
}

// isOperators reports whether v holds operators, such as {$gt: 1}; any other
// document is a value to compare with.
func isOperators(v bson.RawValue) bool {
	doc, ok := v.DocumentOK()
	if !ok {
		return false
	}
	first, err := doc.IndexErr(0)
	if err != nil {
		return false
	}
	key := first.Key()
	return strings.HasPrefix(key, "$") && key != "$ref" && key != "$id" && key != "$db"
}

func compileField(v bson.RawValue) (predicate, error) {
	if v.Type == bson.TypeRegex {
		return compileRegex(v)
	}
	if !isOperators(v) {
		return equals(v), nil
	}
	var all []predicate
	doc := v.Document()
	for _, e := range bsondoc.Fields(doc) {
		p, err := compileOperator(doc, e.Key(), e.Value())
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return allOf(all), nil
}

func allOf(ps []predicate) predicate {
	return func(found []bson.RawValue) bool {
		for _, p := range ps {
			if !p(found) {
				return false
			}
		}
		return true
	}
}

// ValuesAt returns the values at a path in a document; one of type 0 stands for a
// missing field. In an array on the path, each of its documents is searched, and
// the element whose index the path names.
func ValuesAt(doc bson.Raw, path []string) []bson.RawValue { return lookup(nil, doc, path) }

// lookup appends the values at a path.
func lookup(found []bson.RawValue, doc bson.Raw, path []string) []bson.RawValue {
	v, err := doc.LookupErr(path[0])
	if err != nil {
		return append(found, bson.RawValue{})
	}
	return lookupIn(found, v, path[1:])
}

func lookupIn(found []bson.RawValue, v bson.RawValue, path []string) []bson.RawValue {
	if len(path) == 0 {
		return append(found, v)
	}
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return lookup(found, v.Document(), path)
	case bson.TypeArray:
		list := bsondoc.Items(v)
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(list) {
			found = lookupIn(found, list[i], path[1:])
		}
		for _, item := range list {
			if doc, ok := item.DocumentOK(); ok {
				found = lookup(found, doc, path)
			}
		}
		return found
	}
	return append(found, bson.RawValue{})
}

// anyOf returns a predicate that is true if judge is for one of the values, or for
// an element of one that is an array.
func anyOf(judge func(bson.RawValue) bool) predicate {
	return func(found []bson.RawValue) bool {
		for _, v := range found {
			if judge(v) {
				return true
			}
			if v.Type != bson.TypeArray {
				continue
			}
			for _, item := range bsondoc.Items(v) {
				if judge(item) {
					return true
				}
			}
		}
		return false
	}
}

func not(p predicate) predicate {
	return func(found []bson.RawValue) bool { return !p(found) }
}

// equals returns a predicate for one value; null also matches a missing field.
func equals(want bson.RawValue) predicate {
	null := want.Type == bson.TypeNull
	return anyOf(func(v bson.RawValue) bool { return null && v.Type == 0 || v.Type != 0 && bsondoc.Equal(v, want) })
}
