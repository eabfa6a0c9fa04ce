package mongotest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An update says how to change a document: by operators, or by replacing it.
type update struct {
	replacement bson.Raw
	ops         []updateOp
}

// An updateOp is one operator on one field.
type updateOp struct {
	name string
	path []string
	arg  bson.RawValue
	run  leaf
}

// A leaf makes a field's new value of its old one.
type leaf func(old any, exists bool) (outcome, error)

// An outcome is what becomes of a field.
type outcome struct {
	action action
	value  any
	// appended are the values that were put at the end of an array, if nothing
	// else was done to it: the oplog names each then, and not the whole array.
	appended int
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
		return nil, notImitated("updates by a pipeline")
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
	return u, u.order()
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
		return placed(err, field, nil)
	}
	u.ops = append(u.ops, updateOp{name, path, arg, run})
	return nil
}

func updatePath(field string) ([]string, error) {
	path := strings.Split(field, ".")
	for _, p := range path {
		switch {
		case p == "":
			return nil, failf(56, "The update path '%s' contains an empty field name, which is not allowed.", field)
		case p == "$" || strings.HasPrefix(p, "$["):
			return nil, notImitated("positional updates, such as of '" + field + "'")
		case p[0] == '$':
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
	if to == field {
		return failf(codeBadValue, "The source and target field for $rename must differ: %s: %s", field, shell(arg))
	}
	u.ops = append(u.ops, updateOp{name: "$rename to", path: target, arg: arg}, updateOp{name: "$rename", path: path, arg: arg})
	return nil
}

// order puts the operators in the order in which a server executes them, which
// is that of their paths, and refuses two that would meet.
func (u *update) order() error {
	for i, a := range u.ops {
		for _, b := range u.ops[:i] {
			n := min(len(a.path), len(b.path))
			if slices.Equal(a.path[:n], b.path[:n]) {
				return failf(codeConflictingOperators, "Updating the path '%s' would create a conflict at '%s'",
					strings.Join(a.path, "."), strings.Join(a.path[:n], "."))
			}
		}
	}
	slices.SortStableFunc(u.ops, func(a, b updateOp) int { return slices.CompareFunc(a.path, b.path, comparePathParts) })
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

// apply gives the new document, and what is new in it; nil for a replacement.
// The document itself stays as it is. insert is for a document that an upsert
// makes.
func (u *update) apply(doc bson.Raw, insert bool) (bson.Raw, *change, error) {
	if u.replacement != nil {
		after, err := replaced(doc, u.replacement)
		return after, nil, err
	}
	tree, err := toTree(doc)
	if err != nil {
		return nil, nil, err
	}
	m := &mutation{tree: tree}
	renames := map[string]any{}
	for _, op := range u.ops {
		if op.name == "$rename" {
			if v, ok := fetch(tree, op.path); ok {
				renames[op.arg.StringValue()] = v
			}
		}
	}
	for _, op := range u.ops {
		if op.name == "$setOnInsert" && !insert {
			continue
		}
		if err := m.run(op, renames); err != nil {
			return nil, nil, err
		}
	}
	return m.finish(doc)
}

// A mutation is a document that is being updated.
type mutation struct {
	tree bson.D
	diff diff
}

func (m *mutation) run(op updateOp, renames map[string]any) error {
	run := op.run
	switch op.name {
	case "$rename to":
		v, ok := renames[strings.Join(op.path, ".")]
		if !ok {
			return nil
		}
		run = func(any, bool) (outcome, error) { return outcome{action: set, value: v}, nil }
	case "$rename":
		run = removeField
	}
	v, err := m.walk(m.tree, op.path, nil, run)
	if err != nil {
		return placed(err, op.path[len(op.path)-1], m.tree)
	}
	m.tree = v.(bson.D)
	return nil
}

func (m *mutation) finish(before bson.Raw) (bson.Raw, *change, error) {
	after, err := bson.Marshal(m.tree)
	if err != nil {
		return nil, nil, err
	}
	id, err := bson.Raw(after).LookupErr("_id")
	if was := before.Lookup("_id"); was.Type != 0 && (err != nil || !identical(was, id)) {
		return nil, nil, failf(codeImmutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
	}
	if len(after) > maxDocumentSize {
		return nil, nil, failf(17419, "Resulting document after update is larger than %d", maxDocumentSize)
	}
	return after, m.diff.change(), nil
}

// walk does something to the field at the end of a path, and gives the document
// or array with that done.
func (m *mutation) walk(container any, path []string, trail []step, run leaf) (any, error) {
	switch c := container.(type) {
	case bson.D:
		i := slices.IndexFunc(c, func(e bson.E) bool { return e.Key == path[0] })
		trail = append(trail, step{path[0], false})
		if i < 0 {
			v, ok, err := m.create(path, trail, run)
			if err != nil || !ok {
				return c, err
			}
			return append(slices.Clip(c), bson.E{Key: path[0], Value: v}), nil
		}
		v, keep, err := m.existing(c[i].Value, path, trail, run)
		if err != nil {
			return nil, err
		}
		if !keep {
			return slices.Delete(slices.Clone(c), i, i+1), nil
		}
		c = slices.Clone(c)
		c[i].Value = v
		return c, nil
	case bson.A:
		return m.walkArray(c, path, trail, run)
	}
	// Something else is in the way.
	probe, err := run(nil, false)
	if err != nil || probe.action != set {
		return container, err
	}
	at := trail[len(trail)-1].name
	v, err := rawValue(container)
	if err != nil {
		return nil, err
	}
	return nil, failf(codePathNotViable, "Cannot create field '%s' in element {%s: %s}", path[0], at, shell(v))
}

func (m *mutation) walkArray(c bson.A, path []string, trail []step, run leaf) (any, error) {
	const longest = 1_500_000
	i, err := strconv.Atoi(path[0])
	if err != nil || i < 0 || i > longest {
		probe, err := run(nil, false)
		if err != nil || probe.action != set {
			return c, err
		}
		v, err := rawValue(c)
		if err != nil {
			return nil, err
		}
		return nil, failf(codePathNotViable, "Cannot create field '%s' in element {%s: %s}", path[0], trail[len(trail)-1].name, shell(v))
	}
	trail = append(trail, step{path[0], true})
	c = slices.Clone(c)
	if i >= len(c) {
		v, ok, err := m.create(path, trail, run)
		if err != nil || !ok {
			return c, err
		}
		for len(c) < i {
			c = append(c, nil)
		}
		return append(c, v), nil
	}
	v, keep, err := m.existing(c[i], path, trail, run)
	if err != nil {
		return nil, err
	}
	if !keep {
		v = nil // an element of an array is not removed: those behind it would move
	}
	c[i] = v
	return c, nil
}

// existing handles a field that is there.
func (m *mutation) existing(old any, path []string, trail []step, run leaf) (v any, keep bool, err error) {
	if len(path) > 1 {
		v, err = m.walk(old, path[1:], trail, run)
		return v, true, err
	}
	out, err := run(old, true)
	if err != nil || out.action == leave {
		return old, true, err
	}
	trail = slices.Clone(trail)
	if out.action == remove {
		if trail[len(trail)-1].array {
			m.diff.set(trail, bson.RawValue{Type: bson.TypeNull}, true)
		} else {
			m.diff.remove(trail)
		}
		return nil, false, nil
	}
	return out.value, true, m.log(old, out, trail)
}

func (m *mutation) log(old any, out outcome, trail []step) error {
	after, err := rawValue(out.value)
	if err != nil {
		return err
	}
	before, err := rawValue(old)
	if err != nil || identical(before, after) {
		return err
	}
	if out.appended > 0 {
		list := items(after)
		for i := len(list) - out.appended; i < len(list); i++ {
			m.diff.set(append(slices.Clone(trail), step{strconv.Itoa(i), true}), list[i], false)
		}
		return nil
	}
	m.diff.set(trail, after, true)
	return nil
}

// create makes a field that is not there, with the documents around it.
func (m *mutation) create(path []string, trail []step, run leaf) (v any, ok bool, err error) {
	out, err := run(nil, false)
	if err != nil || out.action != set {
		return nil, false, err
	}
	v = out.value
	for i := len(path) - 1; i > 0; i-- {
		v = bson.D{{Key: path[i], Value: v}}
	}
	raw, err := rawValue(v)
	if err != nil {
		return nil, false, err
	}
	m.diff.set(slices.Clone(trail), raw, false)
	return v, true, nil
}

// fetch finds a value by its path, without looking into arrays.
func fetch(doc bson.D, path []string) (any, bool) {
	for _, e := range doc {
		if e.Key == path[0] {
			if len(path) == 1 {
				return e.Value, true
			}
			inner, ok := e.Value.(bson.D)
			if !ok {
				return nil, false
			}
			return fetch(inner, path[1:])
		}
	}
	return nil, false
}

// replaced is a replacement with the _id of the document before it.
func replaced(before, doc bson.Raw) (bson.Raw, error) {
	id, was := doc.Lookup("_id"), before.Lookup("_id")
	switch {
	case was.Type == 0:
		return doc, nil
	case id.Type != 0 && !equal(id, was):
		return nil, failf(codeImmutableField, "After applying the update, the (immutable) field '_id' was found to have been altered to _id: %s", shell(id))
	}
	return idFirst(doc, was), nil
}

// idFirst puts the _id at the front of a document.
func idFirst(doc bson.Raw, id bson.RawValue) bson.Raw {
	d := newBuilder().value("_id", id)
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
	m := &mutation{}
	if err := m.seed(query); err != nil {
		return nil, err
	}
	return bson.Marshal(m.tree)
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
		value, err := fromRaw(v)
		if err != nil {
			return err
		}
		path := strings.Split(e.Key(), ".")
		tree, err := m.walk(m.tree, path, nil, func(any, bool) (outcome, error) { return outcome{action: set, value: value}, nil })
		if err != nil {
			return err
		}
		m.tree = tree.(bson.D)
	}
	return nil
}

// now is the time for $currentDate.
var now = time.Now
