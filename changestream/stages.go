package changestream

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// keptFields are the fields that every event keeps: _id is the resume token, and
// a server ends a stream whose stages change it; the others are what the
// pipeline tells events apart by.
var keptFields = []string{"_id", "operationType", "clusterTime", "ns", "documentKey"}

// endings are the operation types that pass every filter. Without an invalidate
// event a stream ends without a sign.
var endings = bson.A{"invalidate", "dropDatabase"}

// A passing is what passes every filter.
type passing struct {
	at      *resumePoint // nil: the stream is opened at a time
	copying bool         // a snapshot must see what becomes of the collections
}

// types are operation types.
func (p passing) types() bson.A {
	if p.copying {
		return append(slices.Clone(endings), "drop", "rename")
	}
	return endings
}

// A stage is a stage of the user's as the server gets it.
type stage func(passing) bson.D

// A stageError is what is wrong with a stage, and reads on from the name of the
// pipeline: "[1]: $group is not possible …".
type stageError struct {
	index   int
	problem string
}

func (e *stageError) Error() string { return fmt.Sprintf("[%d]: %s", e.index, e.problem) }

// compile completes the stages, or says which one can't be.
func (p Pipeline) compile() ([]stage, error) {
	p, err := p.normalized()
	if err != nil {
		return nil, err
	}
	var stages []stage
	for i, doc := range p {
		s, err := compileStage(doc)
		if err != nil {
			return nil, &stageError{i, err.Error()}
		}
		stages = append(stages, s)
	}
	return stages, nil
}

var compilers = map[string]func(name string, spec any) (stage, error){
	"$match":       compileMatch,
	"$redact":      compileRedact,
	"$project":     compileProject,
	"$addFields":   compileSet,
	"$set":         compileSet,
	"$unset":       compileUnset,
	"$replaceRoot": compileReplaceRoot,
	"$replaceWith": compileReplaceWith,
}

func compileStage(doc bson.D) (stage, error) {
	if len(doc) != 1 {
		return nil, fmt.Errorf("a stage is a document with one field, such as {$match: …}; this one has %d", len(doc))
	}
	name := doc[0].Key
	if compile, ok := compilers[name]; ok {
		return compile(name, doc[0].Value)
	}
	if name == "$changeStreamSplitLargeEvent" {
		return nil, errors.New("$changeStreamSplitLargeEvent is not possible, because the parts of an event would be delivered as events; leave it out: events over 16 MB are read in parts anyway, and delivered whole")
	}
	return nil, fmt.Errorf("%s is not possible in a change stream; the stages are %s", name, strings.Join(slices.Sorted(maps.Keys(compilers)), ", "))
}

// always is a stage that doesn't depend on where the stream is opened.
func always(name string, spec any) stage {
	doc := bson.D{{Key: name, Value: spec}}
	return func(passing) bson.D { return doc }
}

// kept returns the kept field that a path is or begins with.
func kept(path string) (field string, ok bool) {
	field, _, _ = strings.Cut(path, ".")
	return field, slices.Contains(keptFields, field)
}

func removes(name, field string) error {
	return fmt.Errorf("%s must not remove %s, which every event keeps; leave the field out of the stage", name, field)
}

func changes(name, field string) error {
	return fmt.Errorf("%s must not change %s, which every event keeps as it is; give the result another name", name, field)
}

func compileSet(name string, spec any) (stage, error) {
	doc, ok := spec.(bson.D)
	if !ok {
		return nil, fmt.Errorf("%s takes a document", name)
	}
	for _, e := range doc {
		if field, ok := kept(e.Key); ok && !isItself(e) {
			return nil, changes(name, field)
		}
	}
	return always(name, doc), nil
}

// isItself reports whether a field is set to its own value.
func isItself(e bson.E) bool { return e.Value == any("$"+e.Key) }

func compileUnset(name string, spec any) (stage, error) {
	paths, ok := spec.(bson.A)
	if !ok {
		paths = bson.A{spec}
	}
	for _, p := range paths {
		path, ok := p.(string)
		if !ok {
			return nil, fmt.Errorf("%s takes the name of a field, or an array of names", name)
		}
		if field, ok := kept(path); ok {
			return nil, removes(name, field)
		}
	}
	return always(name, spec), nil
}

func compileReplaceRoot(name string, spec any) (stage, error) {
	doc, ok := spec.(bson.D)
	if !ok || len(doc) != 1 || doc[0].Key != "newRoot" {
		return nil, fmt.Errorf("%s takes a document with the field newRoot", name)
	}
	root, err := completeRoot(name, doc[0].Value)
	return always(name, bson.D{{Key: "newRoot", Value: root}}), err
}

func compileReplaceWith(name string, spec any) (stage, error) {
	root, err := completeRoot(name, spec)
	return always(name, root), err
}

// completeRoot adds the kept fields to an expression that becomes the event. Only
// of an expression that says which fields its result has can it be known that
// none of them replaces a kept one.
func completeRoot(name string, root any) (any, error) {
	switch root := root.(type) {
	case string:
		if root == "$$ROOT" || root == "$$CURRENT" {
			return root, nil
		}
	case bson.D:
		if len(root) == 1 && root[0].Key == "$mergeObjects" {
			return completeMerge(name, root[0].Value)
		}
		if len(root) == 0 || !strings.HasPrefix(root[0].Key, "$") {
			return withKept(name, root)
		}
	}
	return nil, unnamedFields(name)
}

func unnamedFields(name string) error {
	return fmt.Errorf(`%s must name the fields of the new event, such as {%s: {doc: "$fullDocument"}}, because with any other expression the event could lose its resume token`, name, "$replaceWith")
}

// withKept puts the kept fields before those of a document.
func withKept(name string, doc bson.D) (bson.D, error) {
	var out bson.D
	for _, field := range keptFields {
		out = append(out, bson.E{Key: field, Value: "$" + field})
	}
	for _, e := range doc {
		switch field, ok := kept(e.Key); {
		case !ok:
			out = append(out, e)
		case !isItself(e):
			return nil, changes(name, field)
		}
	}
	return out, nil
}

// completeMerge completes $mergeObjects, whose parts may be $$ROOT and documents
// that name their fields.
func completeMerge(name string, spec any) (any, error) {
	parts, ok := spec.(bson.A)
	if !ok {
		parts = bson.A{spec}
	}
	var out bson.A
	for _, part := range parts {
		part, err := completeRoot(name, part)
		if err != nil {
			return nil, err
		}
		out = append(out, part)
	}
	if len(out) == 0 {
		return nil, unnamedFields(name)
	}
	return bson.D{{Key: "$mergeObjects", Value: out}}, nil
}
