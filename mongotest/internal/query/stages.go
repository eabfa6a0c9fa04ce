package query

import (
	"math/rand/v2"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A Stage transforms a document. It returns nil for one that it filters out.
type Stage func(doc bson.Raw) (bson.Raw, error)

// SplitStage is the stage that splits large change events. Here it is only checked:
// its caller splits, after all other stages.
const SplitStage = "$changeStreamSplitLargeEvent"

var (
	// StreamStages are the stages that a change stream may have: those that handle
	// documents one by one.
	StreamStages = []string{"$match", "$project", "$addFields", "$set", "$unset", "$replaceRoot", "$replaceWith", "$redact", SplitStage}
	updateStages = StreamStages[1:7]
	otherStages  = []string{"$group", "$sort", "$limit", "$skip", "$lookup", "$unwind", "$count", "$out", "$merge", "$facet", "$unionWith", "$sample",
		"$setWindowFields", "$fill", "$densify", "$bucket", "$bucketAuto", "$graphLookup", "$geoNear", "$sortByCount", "$collStats", "$indexStats",
		"$listSessions", "$planCacheStats", "$documents", "$search", "$currentOp", "$listLocalSessions"}
)

// CompileStages compiles stages that handle documents one by one. watching says
// that they are the stages of a change stream, which may have others than updates
// and aggregations.
func CompileStages(specs []bson.Raw, watching bool) ([]Stage, error) {
	var stages []Stage
	for _, spec := range specs {
		s, err := compileStage(spec, watching)
		if err != nil {
			return nil, err
		}
		stages = append(stages, s)
	}
	return stages, nil
}

func compileStage(spec bson.Raw, watching bool) (Stage, error) {
	name, err := StageName(spec)
	switch {
	case err != nil:
		return nil, err
	case name == "$changeStream":
		return nil, cmderr.Errorf(cmderr.OnlyFirstStage, "$_internalChangeStreamOplogMatch is only valid as the first stage in a pipeline")
	case slices.Contains(otherStages, name) && watching:
		return nil, cmderr.Errorf(cmderr.IllegalOperation, "%s is not permitted in a $changeStream pipeline", strings.Replace(name, "$count", "$group", 1))
	}
	v := spec.Index(0).Value()
	switch name {
	case "$match":
		return matchStage(v)
	case "$project":
		return projectStage(name, v, CompileProjection)
	case "$addFields", "$set":
		return projectStage(name, v, compileAddFields)
	case "$unset":
		return unsetStage(v)
	case "$replaceRoot", "$replaceWith":
		return replaceStage(name, v)
	case SplitStage:
		return compileSplit(v, watching)
	}
	return nil, cmderr.Unsupported("the stage " + name)
}

// compileSplit checks the stage.
func compileSplit(v bson.RawValue, watching bool) (Stage, error) {
	spec, ok := v.DocumentOK()
	switch {
	case !ok:
		return nil, cmderr.Errorf(7182899, "%s must take a nested object but found: %s: %s", SplitStage, SplitStage, bsondoc.Shell(v))
	case len(bsondoc.Fields(spec)) > 0:
		return nil, cmderr.Errorf(7182800, "%s spec should be an empty object", SplitStage)
	case !watching:
		return nil, cmderr.Errorf(cmderr.IllegalOperation, "%s can only be used in a $changeStream pipeline", SplitStage)
	}
	return func(doc bson.Raw) (bson.Raw, error) { return doc, nil }, nil
}

// StageName returns the name of a stage; an error if no stage has that name.
func StageName(spec bson.Raw) (string, error) {
	elements := bsondoc.Fields(spec)
	if len(elements) != 1 {
		return "", cmderr.Errorf(40323, "A pipeline stage specification object must contain exactly one field.")
	}
	name := elements[0].Key()
	if name != "$changeStream" && !slices.Contains(StreamStages, name) && !slices.Contains(otherStages, name) {
		return "", cmderr.Errorf(cmderr.UnrecognizedStage, "Unrecognized pipeline stage name: '%s'", name)
	}
	return name, nil
}

func matchStage(v bson.RawValue) (Stage, error) {
	query, ok := v.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(15959, "the match filter must be an expression in an object")
	}
	f, err := CompileFilter(query)
	if err != nil {
		return nil, err
	}
	return func(doc bson.Raw) (bson.Raw, error) {
		if !f.Match(doc) {
			return nil, nil
		}
		return doc, nil
	}, nil
}

func projectStage(name string, v bson.RawValue, compile func(bson.Raw) (*Projection, error)) (Stage, error) {
	spec, ok := v.DocumentOK()
	switch {
	case !ok && name == "$project":
		return nil, cmderr.Errorf(15969, "$project specification must be an object")
	case !ok:
		return nil, cmderr.Errorf(40272, "%s specification stage must be an object, got %s", name, bsondoc.TypeName(v.Type))
	case len(bsondoc.Fields(spec)) == 0 && name == "$project":
		return nil, cmderr.Errorf(51272, "Invalid $project :: caused by :: projection specification must have at least one field")
	}
	p, err := compile(spec)
	if err != nil {
		return nil, cmderr.From(err).Prefixed("Invalid " + name + " :: caused by :: ")
	}
	return p.Apply, nil
}

func unsetStage(v bson.RawValue) (Stage, error) {
	list := []bson.RawValue{v}
	switch {
	case v.Type == bson.TypeArray:
		list = bsondoc.Items(v)
	case v.Type != bson.TypeString:
		return nil, cmderr.Errorf(31002, "$unset specification must be a string or an array")
	}
	if len(list) == 0 {
		return nil, cmderr.Errorf(31119, "$unset specification must be a string or an array with at least one field")
	}
	spec := bsondoc.New()
	for _, item := range list {
		name, ok := item.StringValueOK()
		if !ok {
			return nil, cmderr.Errorf(31002, "$unset specification must be a string or an array containing only string values")
		}
		spec.Value(name, bson.RawValue{Type: bson.TypeBoolean, Value: []byte{0}})
	}
	p, err := CompileProjection(spec.Done())
	if err != nil {
		return nil, cmderr.From(err).Prefixed("Invalid $unset :: caused by :: ")
	}
	return p.Apply, nil
}

func replaceStage(name string, v bson.RawValue) (Stage, error) {
	what := "'replacement document'"
	if name == "$replaceRoot" {
		what = "'newRoot' expression"
		spec, ok := v.DocumentOK()
		if !ok {
			return nil, cmderr.Errorf(40229, "expected an object as specification for $replaceRoot stage, got %s", bsondoc.TypeName(v.Type))
		}
		for _, e := range bsondoc.Fields(spec) {
			if e.Key() != "newRoot" {
				return nil, cmderr.Errorf(cmderr.UnknownField, "BSON field '$replaceRoot.%s' is an unknown field.", e.Key())
			}
		}
		if v = spec.Lookup("newRoot"); v.Type == 0 {
			return nil, cmderr.Missing("$replaceRoot", "newRoot")
		}
	}
	x, err := compileExpression(v)
	if err != nil {
		return nil, err
	}
	return func(doc bson.Raw) (bson.Raw, error) {
		out := x(doc)
		if out.Type != bson.TypeEmbeddedDocument {
			text := "MISSING"
			if out.Type != 0 {
				text = bsondoc.Compact(out)
			}
			return nil, cmderr.Errorf(40228, "%s  must evaluate to an object, but resulting value was: %s. Type of resulting value: '%s'. Input document: %s",
				what, text, bsondoc.TypeName(out.Type), bsondoc.Compact(bsondoc.Value(doc)))
		}
		return out.Document(), nil
	}, nil
}

// RunStage runs one stage of an aggregation over documents. Besides each [Stage]
// there are $sort, $skip, $limit, $count, $sample and the $group that drivers
// count with.
func RunStage(docs []bson.Raw, spec bson.Raw) ([]bson.Raw, error) {
	name, v := "", bson.RawValue{}
	if elements := bsondoc.Fields(spec); len(elements) == 1 {
		name, v = elements[0].Key(), elements[0].Value()
	}
	switch name {
	case "$sort":
		doc, ok := v.DocumentOK()
		if !ok {
			return nil, cmderr.Errorf(15973, "the $sort key specification must be an object")
		}
		order, err := CompileSort(doc)
		order.Sort(docs)
		return docs, err
	case "$skip", "$limit":
		n, ok := bsondoc.Int(v)
		if !ok || n < 0 || n == 0 && name == "$limit" {
			return nil, cmderr.Errorf(15957, "the %s must be a positive number", name[1:])
		}
		at := int(min(n, int64(len(docs))))
		if name == "$skip" {
			return docs[at:], nil
		}
		return docs[:at], nil
	case "$count":
		field, ok := v.StringValueOK()
		if !ok || field == "" {
			return nil, cmderr.Errorf(40156, "the count field must be a non-empty string")
		}
		return counted(docs, bsondoc.New(), field), nil
	case "$group":
		return groupCount(docs, v)
	case "$sample":
		return sample(docs, v)
	case "$collStats":
		return nil, cmderr.Errorf(cmderr.OnlyFirstStage, "$collStats is only valid as the first stage in a pipeline")
	}
	s, err := compileStage(spec, false)
	if err != nil {
		return nil, err
	}
	var out []bson.Raw
	for _, doc := range docs {
		if doc, err = s(doc); err != nil {
			return nil, cmderr.From(err).Prefixed("PlanExecutor error during aggregation :: caused by :: ")
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
	return out, nil
}

// sample returns documents that are chosen at random.
func sample(docs []bson.Raw, v bson.RawValue) ([]bson.Raw, error) {
	spec, ok := v.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(28745, "the $sample stage specification must be an object")
	}
	size := -1.0
	for _, e := range bsondoc.Fields(spec) {
		if e.Key() != "size" {
			return nil, cmderr.Errorf(28748, "unrecognized option to $sample: %s", e.Key())
		}
		switch size, ok = bsondoc.Float(e.Value()); {
		case !ok:
			return nil, cmderr.Errorf(28746, "size argument to $sample must be a number")
		case size < 0:
			return nil, cmderr.Errorf(28747, "size argument to $sample must not be negative")
		}
	}
	if size < 0 {
		return nil, cmderr.Errorf(28749, "$sample stage must specify a size")
	}
	docs = slices.Clone(docs)
	rand.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
	return docs[:int(min(size, float64(len(docs))))], nil
}

func counted(docs []bson.Raw, d *bsondoc.Builder, field string) []bson.Raw {
	if len(docs) == 0 {
		return nil
	}
	return []bson.Raw{d.Int32(field, len(docs)).Done()}
}

// groupCount is the only supported $group: the one with which drivers count
// documents.
func groupCount(docs []bson.Raw, v bson.RawValue) ([]bson.Raw, error) {
	spec, ok := v.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(15947, "a group's fields must be specified in an object")
	}
	elements := bsondoc.Fields(spec)
	one := bsondoc.New().Value("$sum", bsondoc.Int32(1)).Done()
	if len(elements) != 2 || elements[0].Key() != "_id" || !bsondoc.IsNumber(elements[0].Value()) && elements[0].Value().Type != bson.TypeNull ||
		elements[1].Value().Type != bson.TypeEmbeddedDocument || bsondoc.CompareDocs(elements[1].Value().Document(), one) != 0 {
		return nil, cmderr.Unsupported("$group except for counting: {$group: {_id: 1, n: {$sum: 1}}}")
	}
	return counted(docs, bsondoc.New().Value("_id", elements[0].Value()), elements[1].Key()), nil
}
