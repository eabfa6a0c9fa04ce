package mongotest

import (
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A filter is a query, read once and used many times.
type filter struct {
	root node
	// id: the query asks for this _id, among other things perhaps.
	id bson.RawValue
}

// A node is a part of a query.
type node func(doc bson.Raw) bool

// A predicate judges the values that a path leads to.
type predicate func(found []bson.RawValue) bool

// wantedID is the _id that a document must have to match; its type is 0 if the
// query doesn't say.
func (f *filter) wantedID() bson.RawValue { return f.id }

func (f *filter) match(doc bson.Raw) bool { return f.root(doc) }

func compileFilter(query bson.Raw) (*filter, error) {
	root, err := compileQuery(query)
	if err != nil {
		return nil, err
	}
	f := &filter{root: root}
	if v, err := query.LookupErr("_id"); err == nil && !isOperators(v) && v.Type != bson.TypeRegex {
		f.id = v
	}
	return f, nil
}

func compileQuery(query bson.Raw) (node, error) {
	var all []node
	for _, e := range fields(query) {
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
		return nil, failf(codeBadValue, "$where is not allowed in this context")
	case "$expr", "$text", "$jsonSchema", "$alwaysTrue", "$alwaysFalse", "$sampleRate":
		return nil, notImitated("the query operator " + name)
	}
	if strings.HasPrefix(name, "$") {
		return nil, failf(codeBadValue, "unknown top level operator: %s. If you have a field name that starts with a '$' symbol, "+
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
	if v.Type != bson.TypeArray || len(items(v)) == 0 {
		return nil, failf(codeBadValue, "$and/$or/$nor must be a nonempty array")
	}
	var all []node
	for _, item := range items(v) {
		doc, ok := item.DocumentOK()
		if !ok {
			return nil, failf(codeBadValue, "$or/$and/$nor entries need to be full objects")
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

// isOperators tells {$gt: 1} from a document to be equal to.
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
	for _, e := range fields(doc) {
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

// valuesAt are the values that a path leads to in a document; one of type 0
// stands for a place where there could be one and is none. An array on the way
// stands for each of its documents, and for the element that the path numbers.
func valuesAt(doc bson.Raw, path []string) []bson.RawValue { return lookup(nil, doc, path) }

// lookup adds the values that a path leads to.
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
		list := items(v)
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

// anyOf makes a predicate of a judgement on one value: it holds if it does for
// one of the values found, or for one element of one that is an array.
func anyOf(judge func(bson.RawValue) bool) predicate {
	return func(found []bson.RawValue) bool {
		for _, v := range found {
			if judge(v) {
				return true
			}
			if v.Type != bson.TypeArray {
				continue
			}
			for _, item := range items(v) {
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

// equals: null stands for a missing value, too.
func equals(want bson.RawValue) predicate {
	null := want.Type == bson.TypeNull
	return anyOf(func(v bson.RawValue) bool { return null && v.Type == 0 || v.Type != 0 && equal(v, want) })
}
