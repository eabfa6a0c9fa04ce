package mongotest

import (
	"cmp"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// maxEventSize is the size up to which events are not split.
const maxEventSize = bsondoc.MaxInternalSize - 8<<10

// splits reports whether the last of a stream's stages is the one that splits
// large events.
func splits(stages []bson.Raw) (bool, error) {
	for i, spec := range stages {
		if spec.Index(0).Key() == query.SplitStage {
			if i < len(stages)-1 {
				return false, cmderr.Errorf(7182802, "%s must be the last stage in the pipeline", query.SplitStage)
			}
			return true, nil
		}
	}
	return false, nil
}

// fragments returns the parts of an event that is split; none if it is small
// enough, or if the stream doesn't split.
func (s *stream) fragments(ev *event, doc, token bson.Raw) ([]output, error) {
	all := bySize(doc)
	if !s.split || len(all) == 0 || len(doc) <= maxEventSize && !ev.oversize() {
		return nil, nil
	}
	var parts []*fragment
	for len(all) > 0 {
		d := s.tokenOf(ev, s.format)
		d.IsFragment, d.Fragment = true, len(parts)
		part, _, err := encode(d)
		if err != nil {
			return nil, err
		}
		f := &fragment{token: part, limit: maxEventSize - len(token)}
		if all, err = f.fill(all, ev.oversize()); err != nil {
			return nil, err
		}
		parts = append(parts, f)
	}
	var out []output
	for i, f := range parts {
		d := bsondoc.New().Doc("_id", f.token).Doc("splitEvent", bsondoc.New().Int32("fragment", i+1).Int32("of", len(parts)).Done())
		out = append(out, output{doc: d.Elements(f.fields).Done(), token: f.token, at: ev.entry.ts})
	}
	return out, nil
}

// bySize returns an event's fields without _id, the smallest first.
func bySize(doc bson.Raw) []bson.RawElement {
	all := slices.DeleteFunc(bsondoc.Fields(doc), func(e bson.RawElement) bool { return e.Key() == "_id" })
	slices.SortFunc(all, func(a, b bson.RawElement) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a.Key(), b.Key()))
	})
	return all
}

// A fragment is one part of a large event.
type fragment struct {
	token  bson.Raw
	fields []bson.RawElement
	limit  int // of its size
}

// fill adds fields as long as they fit, at least one, and returns the others.
// With leave it does not take the last one, however small.
func (f *fragment) fill(all []bson.RawElement, leave bool) (rest []bson.RawElement, err error) {
	// What a real server counts: the token and splitEvent, and the token again,
	// as the sort key.
	const around = 67
	size := around + 2*len(f.token)
	for n, field := range all {
		if n > 0 && (size+len(field) > f.limit || leave && n == len(all)-1) {
			return all[n:], nil
		}
		if size += len(field); size > f.limit {
			return nil, cmderr.Errorf(7182500, "Splitting change event failed: fragment size %d is greater than maximum allowed fragment size %d", size, f.limit)
		}
		f.fields = append(f.fields, field)
	}
	return nil, nil
}
