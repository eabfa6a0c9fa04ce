package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A stage makes a document of a document; nil if it lets nothing through.
type stage func(doc bson.Raw) (bson.Raw, error)

const splitStage = "$changeStreamSplitLargeEvent"

// stageNames are those of documents one by one, then those of all of them.
var (
	streamStages = []string{"$match", "$project", "$addFields", "$set", "$unset", "$replaceRoot", "$replaceWith", "$redact", splitStage}
	updateStages = streamStages[1:7]
	otherStages  = []string{"$group", "$sort", "$limit", "$skip", "$lookup", "$unwind", "$count", "$out", "$merge", "$facet", "$unionWith", "$sample",
		"$setWindowFields", "$fill", "$densify", "$bucket", "$bucketAuto", "$graphLookup", "$geoNear", "$sortByCount", "$collStats", "$indexStats",
		"$listSessions", "$planCacheStats", "$documents", "$search", "$currentOp", "$listLocalSessions"}
)

func compileStages(specs []bson.Raw, watching bool) ([]stage, error) {
	var stages []stage
	for _, spec := range specs {
		s, err := compileStage(spec, watching)
		if err != nil {
			return nil, err
		}
		stages = append(stages, s)
	}
	return stages, nil
}

func compileStage(spec bson.Raw, watching bool) (stage, error) {
	name, err := stageName(spec)
	switch {
	case err != nil:
		return nil, err
	case name == "$changeStream":
		return nil, failf(codeOnlyFirstStage, "$_internalChangeStreamOplogMatch is only valid as the first stage in a pipeline")
	case slices.Contains(otherStages, name) && watching:
		return nil, failf(codeIllegalOperation, "%s is not permitted in a $changeStream pipeline", strings.Replace(name, "$count", "$group", 1))
	}
	v := spec.Index(0).Value()
	switch name {
	case "$match":
		return matchStage(v)
	case "$project":
		return projectStage(name, v, compileProjection)
	case "$addFields", "$set":
		return projectStage(name, v, compileAddFields)
	case "$unset":
		return unsetStage(v)
	case "$replaceRoot", "$replaceWith":
		return replaceStage(name, v)
	case splitStage:
		return compileSplit(v, watching)
	}
	return nil, notImitated("the stage " + name)
}

// compileSplit checks the stage. What it does is done behind all others, see
// fragments.
func compileSplit(v bson.RawValue, watching bool) (stage, error) {
	spec, ok := v.DocumentOK()
	switch {
	case !ok:
		return nil, failf(7182899, "%s must take a nested object but found: %s: %s", splitStage, splitStage, shell(v))
	case len(fields(spec)) > 0:
		return nil, failf(7182800, "%s spec should be an empty object", splitStage)
	case !watching:
		return nil, failf(codeIllegalOperation, "%s can only be used in a $changeStream pipeline", splitStage)
	}
	return func(doc bson.Raw) (bson.Raw, error) { return doc, nil }, nil
}

// stageName is the name of a stage, if there is one of that name.
func stageName(spec bson.Raw) (string, error) {
	elements := fields(spec)
	if len(elements) != 1 {
		return "", failf(40323, "A pipeline stage specification object must contain exactly one field.")
	}
	name := elements[0].Key()
	if name != "$changeStream" && !slices.Contains(streamStages, name) && !slices.Contains(otherStages, name) {
		return "", failf(codeUnrecognizedStage, "Unrecognized pipeline stage name: '%s'", name)
	}
	return name, nil
}

func matchStage(v bson.RawValue) (stage, error) {
	query, ok := v.DocumentOK()
	if !ok {
		return nil, failf(15959, "the match filter must be an expression in an object")
	}
	f, err := compileFilter(query)
	if err != nil {
		return nil, err
	}
	return func(doc bson.Raw) (bson.Raw, error) {
		if !f.match(doc) {
			return nil, nil
		}
		return doc, nil
	}, nil
}

func projectStage(name string, v bson.RawValue, compile func(bson.Raw) (*projection, error)) (stage, error) {
	spec, ok := v.DocumentOK()
	switch {
	case !ok && name == "$project":
		return nil, failf(15969, "$project specification must be an object")
	case !ok:
		return nil, failf(40272, "%s specification stage must be an object, got %s", name, typeName(v.Type))
	case len(fields(spec)) == 0 && name == "$project":
		return nil, failf(51272, "Invalid $project :: caused by :: projection specification must have at least one field")
	}
	p, err := compile(spec)
	if err != nil {
		return nil, asCommandError(err).prefixed("Invalid " + name + " :: caused by :: ")
	}
	return p.apply, nil
}

func unsetStage(v bson.RawValue) (stage, error) {
	list := []bson.RawValue{v}
	switch {
	case v.Type == bson.TypeArray:
		list = items(v)
	case v.Type != bson.TypeString:
		return nil, failf(31002, "$unset specification must be a string or an array")
	}
	if len(list) == 0 {
		return nil, failf(31119, "$unset specification must be a string or an array with at least one field")
	}
	spec := newBuilder()
	for _, item := range list {
		name, ok := item.StringValueOK()
		if !ok {
			return nil, failf(31002, "$unset specification must be a string or an array containing only string values")
		}
		spec.value(name, bson.RawValue{Type: bson.TypeBoolean, Value: []byte{0}})
	}
	p, err := compileProjection(spec.done())
	if err != nil {
		return nil, asCommandError(err).prefixed("Invalid $unset :: caused by :: ")
	}
	return p.apply, nil
}

func replaceStage(name string, v bson.RawValue) (stage, error) {
	what := "'replacement document'"
	if name == "$replaceRoot" {
		what = "'newRoot' expression"
		spec, ok := v.DocumentOK()
		if !ok {
			return nil, failf(40229, "expected an object as specification for $replaceRoot stage, got %s", typeName(v.Type))
		}
		for _, e := range fields(spec) {
			if e.Key() != "newRoot" {
				return nil, failf(codeUnknownField, "BSON field '$replaceRoot.%s' is an unknown field.", e.Key())
			}
		}
		if v = spec.Lookup("newRoot"); v.Type == 0 {
			return nil, missingField("$replaceRoot", "newRoot")
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
				text = compact(out)
			}
			return nil, failf(40228, "%s  must evaluate to an object, but resulting value was: %s. Type of resulting value: '%s'. Input document: %s",
				what, text, typeName(out.Type), compact(docValue(doc)))
		}
		return out.Document(), nil
	}, nil
}

// runStage runs one stage over a list of documents.
func runStage(docs []bson.Raw, spec bson.Raw) ([]bson.Raw, error) {
	name, v := "", bson.RawValue{}
	if elements := fields(spec); len(elements) == 1 {
		name, v = elements[0].Key(), elements[0].Value()
	}
	switch name {
	case "$sort":
		doc, ok := v.DocumentOK()
		if !ok {
			return nil, failf(15973, "the $sort key specification must be an object")
		}
		order, err := compileSort(doc)
		order.sort(docs)
		return docs, err
	case "$skip", "$limit":
		n, ok := asInt(v)
		if !ok || n < 0 || n == 0 && name == "$limit" {
			return nil, failf(15957, "the %s must be a positive number", name[1:])
		}
		at := int(min(n, int64(len(docs))))
		if name == "$skip" {
			return docs[at:], nil
		}
		return docs[:at], nil
	case "$count":
		field, ok := v.StringValueOK()
		if !ok || field == "" {
			return nil, failf(40156, "the count field must be a non-empty string")
		}
		return counted(docs, newBuilder(), field), nil
	case "$group":
		return groupCount(docs, v)
	}
	s, err := compileStage(spec, false)
	if err != nil {
		return nil, err
	}
	var out []bson.Raw
	for _, doc := range docs {
		if doc, err = s(doc); err != nil {
			return nil, asCommandError(err).prefixed("PlanExecutor error during aggregation :: caused by :: ")
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
	return out, nil
}

func counted(docs []bson.Raw, d *builder, field string) []bson.Raw {
	if len(docs) == 0 {
		return nil
	}
	return []bson.Raw{d.int32(field, len(docs)).done()}
}

// groupCount is the one $group there is: with which drivers count documents.
func groupCount(docs []bson.Raw, v bson.RawValue) ([]bson.Raw, error) {
	spec, ok := v.DocumentOK()
	if !ok {
		return nil, failf(15947, "a group's fields must be specified in an object")
	}
	elements := fields(spec)
	one := newBuilder().value("$sum", intValue(1)).done()
	if len(elements) != 2 || elements[0].Key() != "_id" || !isNumber(elements[0].Value()) && elements[0].Value().Type != bson.TypeNull ||
		elements[1].Value().Type != bson.TypeEmbeddedDocument || compareDocs(elements[1].Value().Document(), one) != 0 {
		return nil, notImitated("$group but for counting: {$group: {_id: 1, n: {$sum: 1}}}")
	}
	return counted(docs, newBuilder().value("_id", elements[0].Value()), elements[1].Key()), nil
}
