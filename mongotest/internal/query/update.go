package query

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// An Update is a compiled update: operators, a pipeline, or a replacement.
type Update struct {
	replacement bson.Raw
	ops         []updateOp
	pipeline    []Stage
}

// An updateOp is one operator on one field.
type updateOp struct {
	name string
	path []string
	run  leaf
	from []string // of a $rename: the source; path is the destination
}

// A leaf computes the outcome for a field from its old value, whose type is 0 if
// the field does not exist.
type leaf func(old bson.RawValue) (outcome, error)

// An outcome is what an operator does to a field.
type outcome struct {
	action action
	value  bson.RawValue
	// appended is the number of values that were appended to an array, if nothing
	// else was changed: the oplog then has those elements, not the whole array.
	appended int
	// always means that it counts as a change even if the value is the same.
	always bool
	// strict means that a path which leads through a value that is neither document
	// nor array is an error, not a field that does not exist.
	strict bool
}

type action int

const (
	leave action = iota
	set
	remove
)

// CompileUpdate compiles an update, so that an invalid one fails before any
// document is changed.
func CompileUpdate(v bson.RawValue) (*Update, error) {
	if v.Type == bson.TypeArray {
		return compilePipeline(bsondoc.Items(v))
	}
	doc, ok := v.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Update argument must be either an object or an array")
	}
	if first, err := doc.IndexErr(0); err != nil || !strings.HasPrefix(first.Key(), "$") {
		return compileReplacement(doc)
	}
	u := &Update{}
	for _, e := range bsondoc.Fields(doc) {
		if err := u.addOperator(e.Key(), e.Value()); err != nil {
			return nil, err
		}
	}
	// The server applies them in the order of their paths.
	slices.SortStableFunc(u.ops, func(a, b updateOp) int { return slices.CompareFunc(a.path, b.path, comparePathParts) })
	return u, nil
}

// IsReplacement reports whether the update replaces the document.
func (u *Update) IsReplacement() bool { return u.replacement != nil }

// CheckStageNames refuses an update by a pipeline in which an element is no stage
// or names a stage that does not exist.
func CheckStageNames(list []bson.RawValue) error {
	_, err := pipelineStages(list)
	return err
}

// pipelineStages returns the stages of an update by a pipeline. The server checks
// all their names first, and their contents later.
func pipelineStages(list []bson.RawValue) ([]bson.Raw, error) {
	specs := make([]bson.Raw, len(list))
	for i, item := range list {
		doc, ok := item.DocumentOK()
		if !ok {
			return nil, cmderr.Errorf(cmderr.TypeMismatch, "Each element of the 'pipeline' array must be an object")
		}
		if _, err := StageName(doc); err != nil {
			return nil, err
		}
		specs[i] = doc
	}
	return specs, nil
}

func compilePipeline(list []bson.RawValue) (*Update, error) {
	specs, err := pipelineStages(list)
	if err != nil {
		return nil, err
	}
	for _, spec := range specs {
		if name, _ := StageName(spec); !slices.Contains(updateStages, name) {
			return nil, cmderr.Errorf(cmderr.InvalidOptions, "%s is not allowed to be used within an update",
				strings.Replace(name, "$changeStream", "$_internalChangeStreamOplogMatch", 1))
		}
	}
	stages, err := CompileStages(specs, false)
	return &Update{pipeline: stages}, err
}

func compileReplacement(doc bson.Raw) (*Update, error) {
	for _, e := range bsondoc.Fields(doc) {
		if strings.HasPrefix(e.Key(), "$") {
			return nil, cmderr.Errorf(cmderr.DollarPrefixedFieldName, "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of "+
				"an update's replacement document. Consider using an aggregation pipeline with $replaceWith.", e.Key(), e.Key())
		}
	}
	return &Update{replacement: doc}, nil
}

func (u *Update) addOperator(name string, v bson.RawValue) error {
	if _, ok := updateOperators[name]; !ok {
		if name == "$bit" {
			return cmderr.Unsupported("the update operator $bit")
		}
		return cmderr.Errorf(cmderr.FailedToParse, "Unknown modifier: %s. Expected a valid update modifier or pipeline-style update specified as an array", name)
	}
	doc, ok := v.DocumentOK()
	if !ok {
		return cmderr.Errorf(cmderr.FailedToParse, "Modifiers operate on fields but we found type %s instead. For example: "+
			"{$mod: {<field>: ...}} not {%s: %s}", bsondoc.TypeName(v.Type), name, bsondoc.Shell(v))
	}
	for _, e := range bsondoc.Fields(doc) {
		if err := u.addField(name, e.Key(), e.Value()); err != nil {
			return err
		}
	}
	return nil
}

func (u *Update) addField(name, field string, arg bson.RawValue) error {
	path, err := updatePath(field)
	if err != nil {
		return err
	}
	if name == "$rename" {
		return u.addRename(field, path, arg)
	}
	run, err := updateOperators[name](arg)
	if err != nil {
		return placed(err, path, bsondoc.Empty)
	}
	return u.add(updateOp{name: name, path: path, run: run})
}

func updatePath(field string) ([]string, error) {
	path := strings.Split(field, ".")
	for i, p := range path {
		switch {
		case p == "":
			return nil, cmderr.Errorf(56, "The update path '%s' contains an empty field name, which is not allowed.", field)
		case p == "$" || strings.HasPrefix(p, "$["):
			return nil, cmderr.Unsupported("positional updates, such as of '" + field + "'")
		case i == 0 && p[0] == '$':
			return nil, cmderr.Errorf(cmderr.DollarPrefixedFieldName, "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of "+
				"an update's replacement document. Consider using an aggregation pipeline with $replaceWith.", p, field)
		}
	}
	return path, nil
}

func (u *Update) addRename(field string, path []string, arg bson.RawValue) error {
	to, ok := arg.StringValueOK()
	if !ok {
		return cmderr.Errorf(cmderr.BadValue, "The 'to' field for $rename must be a string: %s: %s", field, bsondoc.Shell(arg))
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
		return cmderr.Errorf(cmderr.BadValue, "The source and target field for $rename must differ: %s: %s", field, bsondoc.Shell(arg))
	case slices.Equal(path[:n], target[:n]):
		return cmderr.Errorf(cmderr.BadValue, "The source and target field for $rename must not be on the same path: %s: %s", field, bsondoc.Shell(arg))
	}
	return u.add(updateOp{name: "$rename", path: target, from: path})
}

// add refuses an operator on a path that overlaps with another's.
func (u *Update) add(op updateOp) error {
	for _, other := range u.ops {
		if n := min(len(op.path), len(other.path)); slices.Equal(op.path[:n], other.path[:n]) {
			return cmderr.Errorf(cmderr.ConflictingOperators, "Updating the path '%s' would create a conflict at '%s'",
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

// Apply returns the new document and what changed in it. The change is nil for a
// replacement, whose _id is not necessarily in front (see [IDFirst]). insert says
// that doc is the [Seed] of an upsert.
func (u *Update) Apply(doc bson.Raw, insert bool) (bson.Raw, *Change, error) {
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

// run runs an update by a pipeline.
func (u *Update) run(doc bson.Raw) (bson.Raw, *Change, error) {
	made, err := doc, error(nil)
	for _, s := range u.pipeline {
		if made, err = s(made); err != nil {
			return nil, nil, err
		}
	}
	if err := CheckSize(made, len(made)); err != nil {
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
