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

// A mutation is a document that is being updated.
type mutation struct {
	doc  bson.Raw
	diff diff
}

func (m *mutation) run(op updateOp) error {
	if op.from == nil {
		return m.do(op.path, op.run)
	}
	v, err := renamed(m.doc, op.from, op.path)
	switch {
	case err != nil:
		return placed(err, op.from, m.doc)
	case v.Type == 0:
		return nil
	}
	err = m.do(op.path, func(bson.RawValue) (outcome, error) { return outcome{action: set, value: v, always: true}, nil })
	if err != nil {
		return err
	}
	return m.do(op.from, removeField)
}

func (m *mutation) do(path []string, run leaf) error {
	doc, err := m.walkDocument(m.doc, path, nil, run)
	if err != nil {
		return placed(err, path, m.doc)
	}
	m.doc = doc
	return nil
}

func (m *mutation) finish(before bson.Raw) (bson.Raw, *change, error) {
	id, err := m.doc.LookupErr("_id")
	if was := before.Lookup("_id"); was.Type != 0 && (err != nil || !identical(was, id)) {
		return nil, nil, failf(codeImmutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
	}
	if err := checkResult(m.doc); err != nil {
		return nil, nil, err
	}
	return m.doc, m.diff.change(m.doc), nil
}

func checkResult(doc bson.Raw) error {
	if len(doc) > maxDocumentSize {
		return failf(17419, "Resulting document after update is larger than %d", maxDocumentSize)
	}
	return nil
}

// walk does something to the field at the end of a path, and gives the document
// or array with that done.
func (m *mutation) walk(v bson.RawValue, path []string, trail []step, run leaf) (bson.RawValue, error) {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		doc, err := m.walkDocument(v.Document(), path, trail, run)
		return docValue(doc), err
	case bson.TypeArray:
		return m.walkArray(v, path, trail, run)
	}
	return v, blocked(v, path[0], trail, run)
}

// blocked is the error of setting a field where something else is in the way.
func blocked(v bson.RawValue, field string, trail []step, run leaf) error {
	probe, err := run(bson.RawValue{})
	switch {
	case err != nil:
		return err
	case probe.strict:
		return failf(codePathNotViable, "Cannot use the part (%s) of (%s) to traverse the element ({%s: %s})", field, pathMark, trail[len(trail)-1].name, shell(v))
	case probe.action != set:
		return nil
	}
	return failf(codePathNotViable, "Cannot create field '%s' in element {%s: %s}", field, trail[len(trail)-1].name, shell(v))
}

func (m *mutation) walkDocument(doc bson.Raw, path []string, trail []step, run leaf) (bson.Raw, error) {
	trail = append(trail, step{path[0], false})
	all := fields(doc)
	at := slices.IndexFunc(all, func(e bson.RawElement) bool { return e.Key() == path[0] })
	var v bson.RawValue
	var err error
	if at < 0 {
		at = len(all)
		v, err = m.create(path, trail, run)
	} else {
		v, err = m.existing(all[at].Value(), path, trail, run)
	}
	if err != nil {
		return nil, err
	}
	d := newBuilder().elements(all[:at])
	if v.Type != 0 {
		d.value(path[0], v)
	}
	return d.elements(all[min(at+1, len(all)):]).done(), nil
}

func (m *mutation) walkArray(v bson.RawValue, path []string, trail []step, run leaf) (bson.RawValue, error) {
	const longest = 1_500_000
	i, err := strconv.Atoi(path[0])
	if err != nil || i < 0 || i > longest {
		return v, blocked(v, path[0], trail, run)
	}
	trail = append(trail, step{path[0], true})
	list := items(v)
	var item bson.RawValue
	if i < len(list) {
		item, err = m.existing(list[i], path, trail, run)
	} else {
		item, err = m.create(path, trail, run)
	}
	if err != nil || item.Type == 0 {
		return v, err
	}
	for len(list) <= i {
		list = append(list, nullValue)
	}
	list[i] = item
	return arrayOf(list), nil
}

// existing handles a field that is there; it has no value behind that if it is
// removed.
func (m *mutation) existing(old bson.RawValue, path []string, trail []step, run leaf) (bson.RawValue, error) {
	if len(path) > 1 {
		return m.walk(old, path[1:], trail, run)
	}
	out, err := run(old)
	switch {
	case err != nil || out.action == leave:
		return old, err
	case out.action == remove && trail[len(trail)-1].array:
		out.value, out.always = nullValue, true // or those behind it would move
	case out.action == remove:
		m.diff.remove(trail)
		return bson.RawValue{}, nil
	}
	m.log(old, out, trail)
	return out.value, nil
}

func (m *mutation) log(old bson.RawValue, out outcome, trail []step) {
	switch {
	case !out.always && identical(old, out.value):
	case out.appended > 0:
		n := len(items(out.value))
		for i := n - out.appended; i < n; i++ {
			m.diff.set(append(trail, step{strconv.Itoa(i), true}), false)
		}
	default:
		m.diff.set(trail, true)
	}
}

// create makes a field that is not there, with the documents around it.
func (m *mutation) create(path []string, trail []step, run leaf) (bson.RawValue, error) {
	out, err := run(bson.RawValue{})
	if err != nil || out.action != set {
		return bson.RawValue{}, err
	}
	v := out.value
	for i := len(path) - 1; i > 0; i-- {
		v = docValue(newBuilder().value(path[i], v).done())
	}
	m.diff.set(trail, false)
	return v, nil
}

// renamed is the value that a $rename moves; none if it is not there. Neither
// end may be within an array.
func renamed(doc bson.Raw, from, to []string) (bson.RawValue, error) {
	v, array, err := trace(doc, from)
	if err != nil || v.Type == 0 {
		return v, err
	}
	end := "source"
	if array == "" {
		end = "destination"
		from = to
		_, array, _ = trace(doc, to) // what is in the way is found when it is set
	}
	if array != "" {
		return v, failf(codeBadValue, "The %s field cannot be an array element, '%s' in doc with _id: %s has an array field called '%s'",
			end, strings.Join(from, "."), idMark, array)
	}
	return v, nil
}

// trace follows a path to its end, and names the innermost array on its way.
func trace(doc bson.Raw, path []string) (v bson.RawValue, array string, err error) {
	v = docValue(doc)
	for i, name := range path {
		n, notIndex := strconv.Atoi(name)
		if v.Type == bson.TypeArray {
			array = path[i-1]
		}
		switch {
		case v.Type == bson.TypeEmbeddedDocument:
			v = v.Document().Lookup(name)
		case v.Type == bson.TypeArray && notIndex == nil && n >= 0:
			if list := items(v); n < len(list) {
				v = list[n]
			} else {
				v = bson.RawValue{}
			}
		case v.Type == 0:
			return v, array, nil
		default:
			return v, array, failf(codePathNotViable, "cannot use the part (%s of %s) to traverse the element ({%s: %s})",
				path[i-1], strings.Join(path, "."), path[i-1], shell(v))
		}
	}
	return v, array, nil
}

// replaced is a replacement, which has the _id of the document before it if it
// has none.
func replaced(before, doc bson.Raw) (bson.Raw, error) {
	id, was := doc.Lookup("_id"), before.Lookup("_id")
	if err := checkID(id); err != nil {
		return nil, err
	}
	switch {
	case was.Type == 0:
		return doc, nil
	case id.Type == 0:
		return newBuilder().value("_id", was).append(doc).done(), nil
	case !equal(id, was):
		return nil, failf(codeImmutableField, "After applying the update, the (immutable) field '_id' was found to have been altered to _id: %s", shell(id))
	}
	return doc, nil
}

// idFirst puts the _id at the front of a document, where it is stored.
func idFirst(doc bson.Raw) bson.Raw {
	if doc.Index(0).Key() == "_id" {
		return doc
	}
	d := newBuilder().value("_id", doc.Lookup("_id"))
	for _, e := range fields(doc) {
		if e.Key() != "_id" {
			d.value(e.Key(), e.Value())
		}
	}
	return d.done()
}

// seed is the document that an upsert begins with: what its query says is
// equal.
func seed(query bson.Raw) (bson.Raw, error) {
	m := &mutation{doc: emptyDoc}
	err := m.seed(query)
	return m.doc, err
}

func (m *mutation) seed(query bson.Raw) error {
	for _, e := range fields(query) {
		v := e.Value()
		switch {
		case e.Key() == "$and":
			for _, item := range items(v) {
				if err := m.seed(item.Document()); err != nil {
					return err
				}
			}
			continue
		case strings.HasPrefix(e.Key(), "$") || v.Type == bson.TypeRegex:
			continue
		case isOperators(v):
			var err error
			if v, err = v.Document().LookupErr("$eq"); err != nil {
				continue
			}
		}
		doc, err := m.walkDocument(m.doc, strings.Split(e.Key(), "."), nil, setTo(v))
		if err != nil {
			return err
		}
		m.doc = doc
	}
	return nil
}
