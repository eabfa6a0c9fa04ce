package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A sortOrder is what documents are sorted by; an empty one leaves them as they
// are.
type sortOrder []sortKey

// A sortKey is one field of a sort.
type sortKey struct {
	path       []string
	descending bool
}

// compileSort reads a sort specification.
func compileSort(doc bson.Raw) (sortOrder, error) {
	var keys sortOrder
	for _, e := range fields(doc) {
		n, ok := asInt(e.Value())
		switch {
		case !ok && e.Value().Type == bson.TypeEmbeddedDocument:
			return nil, notImitated("a sort by " + shell(e.Value()))
		case !ok:
			return nil, failf(15974, "Illegal key in $sort specification: %s: %s", e.Key(), shell(e.Value()))
		case n != 1 && n != -1:
			return nil, failf(15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)")
		}
		keys = append(keys, sortKey{strings.Split(e.Key(), "."), n < 0})
	}
	return keys, nil
}

func (keys sortOrder) sort(docs []bson.Raw) {
	if len(keys) == 0 {
		return
	}
	if keys[0].path[0] == "$natural" {
		if keys[0].descending {
			slices.Reverse(docs)
		}
		return
	}
	slices.SortStableFunc(docs, func(a, b bson.Raw) int {
		for _, k := range keys {
			c := compare(k.of(a), k.of(b))
			if k.descending {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

// of is the value that a document sorts by: the least of an array, or the
// largest in a descending sort.
func (k sortKey) of(doc bson.Raw) (best bson.RawValue) {
	for _, v := range valuesAt(doc, k.path) {
		for _, item := range spread(v) {
			if best.Type == 0 || (compare(item, best) > 0) == k.descending {
				best = item
			}
		}
	}
	if best.Type == 0 {
		return nullValue
	}
	return best
}
