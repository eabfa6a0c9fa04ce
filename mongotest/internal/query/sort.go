package query

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// An Order is a compiled sort specification; an empty one keeps the order as it
// is.
type Order []sortKey

// A sortKey is one field of a sort.
type sortKey struct {
	Path       []string
	Descending bool
}

// CompileSort compiles a sort specification.
func CompileSort(doc bson.Raw) (Order, error) {
	var keys Order
	for _, e := range bsondoc.Fields(doc) {
		n, ok := bsondoc.Int(e.Value())
		switch {
		case !ok && e.Value().Type == bson.TypeEmbeddedDocument:
			return nil, cmderr.Unsupported("a sort by " + bsondoc.Shell(e.Value()))
		case !ok:
			return nil, cmderr.Errorf(15974, "Illegal key in $sort specification: %s: %s", e.Key(), bsondoc.Shell(e.Value()))
		case n != 1 && n != -1:
			return nil, cmderr.Errorf(15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)")
		}
		keys = append(keys, sortKey{strings.Split(e.Key(), "."), n < 0})
	}
	return keys, nil
}

// Sort sorts documents in place. Those that compare as equal keep their order.
func (keys Order) Sort(docs []bson.Raw) {
	if len(keys) == 0 {
		return
	}
	if keys[0].Path[0] == "$natural" {
		if keys[0].Descending {
			slices.Reverse(docs)
		}
		return
	}
	slices.SortStableFunc(docs, func(a, b bson.Raw) int {
		for _, k := range keys {
			c := bsondoc.Compare(k.of(a), k.of(b))
			if k.Descending {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

// of returns the value that a document is sorted by: the least element of an
// array, or the largest in a descending sort.
func (k sortKey) of(doc bson.Raw) (best bson.RawValue) {
	for _, v := range ValuesAt(doc, k.Path) {
		for _, item := range bsondoc.Spread(v) {
			if best.Type == 0 || (bsondoc.Compare(item, best) > 0) == k.Descending {
				best = item
			}
		}
	}
	if best.Type == 0 {
		return bsondoc.Null
	}
	return best
}
