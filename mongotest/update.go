package mongotest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An update says how to change a document: by operators, by a pipeline, or by
// replacing it.
type update struct {
	replacement bson.Raw
	ops         []updateOp
	pipeline    []stage
}

// An updateOp is one operator on one field.
type updateOp struct {
	name string
	path []string
	run  leaf
	from []string // of a $rename, whose path is where it moves that field
}

// A leaf makes a field's new value of its old one, whose type is 0 if there is
// none.
type leaf func(old bson.RawValue) (outcome, error)

// An outcome is what becomes of a field.
type outcome struct {
	action action
	value  bson.RawValue
	// appended are the values that were put at the end of an array, if nothing
	// else was done to it: the oplog names each then, and not the whole array.
	appended int
	// always: it counts as a change even if the value is as before.
	always bool
	// strict: it is an error, and not nothing to do, if something else is in the
	// way of the field.
	strict bool
}

type action int

const (
	leave action = iota
	set
	remove
)

// compileUpdate reads an update. What it is for is to be known before anything
// is changed, so that a bad update changes nothing.
func compileUpdate(v bson.RawValue) (*update, error) {
	if v.Type == bson.TypeArray {
		return compilePipeline(items(v))
	}
	doc, ok := v.DocumentOK()
	if !ok {
		return nil, failf(codeFailedToParse, "Update argument must be either an object or an array")
	}
	if first, err := doc.IndexErr(0); err != nil || !strings.HasPrefix(first.Key(), "$") {
		return compileReplacement(doc)
	}
	u := &update{}
	for _, e := range fields(doc) {
		if err := u.addOperator(e.Key(), e.Value()); err != nil {
			return nil, err
		}
	}
	// A server executes them in the order of their paths.
	slices.SortStableFunc(u.ops, func(a, b updateOp) int { return slices.CompareFunc(a.path, b.path, comparePathParts) })
	return u, nil
}

// isReplacement reports whether the update replaces the document.
func (u *update) isReplacement() bool { return u.replacement != nil }

// checkStageNames refuses an update by a pipeline that has a stage that does not
// exist, or is not one.
func checkStageNames(list []bson.RawValue) error {
	_, err := pipelineStages(list)
	return err
}

// pipelineStages are the stages of an update by a pipeline. A server looks at
// their names first, and at what they say later.
func pipelineStages(list []bson.RawValue) ([]bson.Raw, error) {
	specs := make([]bson.Raw, len(list))
	for i, item := range list {
		doc, ok := item.DocumentOK()
		if !ok {
			return nil, failf(codeTypeMismatch, "Each element of the 'pipeline' array must be an object")
		}
		if _, err := stageName(doc); err != nil {
			return nil, err
		}
		specs[i] = doc
	}
	return specs, nil
}

func compilePipeline(list []bson.RawValue) (*update, error) {
	specs, err := pipelineStages(list)
	if err != nil {
		return nil, err
	}
	for _, spec := range specs {
		if name, _ := stageName(spec); !slices.Contains(updateStages, name) {
			return nil, failf(codeInvalidOptions, "%s is not allowed to be used within an update",
				strings.Replace(name, "$changeStream", "$_internalChangeStreamOplogMatch", 1))
		}
	}
	stages, err := compileStages(specs, false)
	return &update{pipeline: stages}, err
}

func compileReplacement(doc bson.Raw) (*update, error) {
	for _, e := range fields(doc) {
		if strings.HasPrefix(e.Key(), "$") {
			return nil, failf(codeDollarPrefixedFieldName, "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of "+
				"an update's replacement document. Consider using an aggregation pipeline with $replaceWith.", e.Key(), e.Key())
		}
	}
	return &update{replacement: doc}, nil
}

func (u *update) addOperator(name string, v bson.RawValue) error {
	if _, ok := updateOperators[name]; !ok {
		if name == "$bit" {
			return notImitated("the update operator $bit")
		}
		return failf(codeFailedToParse, "Unknown modifier: %s. Expected a valid update modifier or pipeline-style update specified as an array", name)
	}
	doc, ok := v.DocumentOK()
	if !ok {
		return failf(codeFailedToParse, "Modifiers operate on fields but we found type %s instead. For example: "+
			"{$mod: {<field>: ...}} not {%s: %s}", typeName(v.Type), name, shell(v))
	}
	for _, e := range fields(doc) {
		if err := u.addField(name, e.Key(), e.Value()); err != nil {
			return err
		}
	}
	return nil
}

func (u *update) addField(name, field string, arg bson.RawValue) error {
	path, err := updatePath(field)
	if err != nil {
		return err
	}
	if name == "$rename" {
		return u.addRename(field, path, arg)
	}
	run, err := updateOperators[name](arg)
	if err != nil {
		return placed(err, path, emptyDoc)
	}
	return u.add(updateOp{name: name, path: path, run: run})
}

func updatePath(field string) ([]string, error) {
	path := strings.Split(field, ".")
	for i, p := range path {
		switch {
		case p == "":
			return nil, failf(56, "The update path '%s' contains an empty field name, which is not allowed.", field)
		case p == "$" || strings.HasPrefix(p, "$["):
			return nil, notImitated("positional updates, such as of '" + field + "'")
		case i == 0 && p[0] == '$':
			return nil, failf(codeDollarPrefixedFieldName, "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of "+
				"an update's replacement document. Consider using an aggregation pipeline with $replaceWith.", p, field)
		}
	}
	return path, nil
}

func (u *update) addRename(field string, path []string, arg bson.RawValue) error {
	to, ok := arg.StringValueOK()
	if !ok {
		return failf(codeBadValue, "The 'to' field for $rename must be a string: %s: %s", field, shell(arg))
	}
	target, err := updatePath(to)
	if err != nil {
		return err
	}
	nothing := func(bson.RawValue) (outcome, error) { return outcome{}, nil }
	if err := u.add(updateOp{name: "$rename", path: path, run: nothing}); err != nil {
		return err
	}
	switch n := min(len(path), len(target)); {
	case to == field:
		return failf(codeBadValue, "The source and target field for $rename must differ: %s: %s", field, shell(arg))
	case slices.Equal(path[:n], target[:n]):
		return failf(codeBadValue, "The source and target field for $rename must not be on the same path: %s: %s", field, shell(arg))
	}
	return u.add(updateOp{name: "$rename", path: target, from: path})
}

// add refuses an operator on a path that meets another's.
func (u *update) add(op updateOp) error {
	for _, other := range u.ops {
		if n := min(len(op.path), len(other.path)); slices.Equal(op.path[:n], other.path[:n]) {
			return failf(codeConflictingOperators, "Updating the path '%s' would create a conflict at '%s'",
				strings.Join(op.path, "."), strings.Join(op.path[:n], "."))
		}
	}
	u.ops = append(u.ops, op)
	return nil
}

func comparePathParts(a, b string) int {
	m, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	if err1 == nil && err2 == nil {
		return cmp.Compare(m, n)
	}
	return strings.Compare(a, b)
}

// apply gives the new document, and what is new in it; nil for a replacement,
// whose _id may be anywhere. insert is for a document that an upsert makes.
func (u *update) apply(doc bson.Raw, insert bool) (bson.Raw, *change, error) {
	if u.replacement != nil {
		after, err := replaced(doc, u.replacement)
		return after, nil, err
	}
	if u.pipeline != nil {
		return u.run(doc)
	}
	m := &mutation{doc: doc}
	for _, op := range u.ops {
		if op.name == "$setOnInsert" && !insert {
			continue
		}
		if err := m.run(op); err != nil {
			return nil, nil, err
		}
	}
	return m.finish(doc)
}

// run runs the pipeline.
func (u *update) run(doc bson.Raw) (bson.Raw, *change, error) {
	made, err := doc, error(nil)
	for _, s := range u.pipeline {
		if made, err = s(made); err != nil {
			return nil, nil, err
		}
	}
	if err := checkSize(made, len(made)); err != nil {
		return nil, nil, err
	}
	after, err := replaced(doc, made)
	if err != nil {
		return nil, nil, err
	}
	if err := checkResult(after); err != nil {
		return nil, nil, err
	}
	return after, pipelineChange(doc, made), nil
}
