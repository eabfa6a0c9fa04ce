package query

import (
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

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

func (m *mutation) finish(before bson.Raw) (bson.Raw, *Change, error) {
	id, err := m.doc.LookupErr("_id")
	if was := before.Lookup("_id"); was.Type != 0 && (err != nil || !bsondoc.Identical(was, id)) {
		return nil, nil, cmderr.Errorf(cmderr.ImmutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
	}
	if err := checkResult(m.doc); err != nil {
		return nil, nil, err
	}
	return m.doc, m.diff.change(m.doc), nil
}

// walk runs a leaf on the field at the end of a path, and returns the document or
// array with the result.
func (m *mutation) walk(v bson.RawValue, path []string, trail []step, run leaf) (bson.RawValue, error) {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		doc, err := m.walkDocument(v.Document(), path, trail, run)
		return bsondoc.Value(doc), err
	case bson.TypeArray:
		return m.walkArray(v, path, trail, run)
	}
	return v, blocked(v, path[0], trail, run)
}

// blocked returns the error for a path that leads through a value that is neither
// document nor array.
func blocked(v bson.RawValue, field string, trail []step, run leaf) error {
	probe, err := run(bson.RawValue{})
	switch {
	case err != nil:
		return err
	case probe.strict:
		return cmderr.Errorf(cmderr.PathNotViable, "Cannot use the part (%s) of (%s) to traverse the element ({%s: %s})", field, pathMark, trail[len(trail)-1].name, bsondoc.Shell(v))
	case probe.action != set:
		return nil
	}
	return cmderr.Errorf(cmderr.PathNotViable, "Cannot create field '%s' in element {%s: %s}", field, trail[len(trail)-1].name, bsondoc.Shell(v))
}

func (m *mutation) walkDocument(doc bson.Raw, path []string, trail []step, run leaf) (bson.Raw, error) {
	trail = append(trail, step{path[0], false})
	all := bsondoc.Fields(doc)
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
	d := bsondoc.New().Elements(all[:at])
	if v.Type != 0 {
		d.Value(path[0], v)
	}
	return d.Elements(all[min(at+1, len(all)):]).Done(), nil
}

func (m *mutation) walkArray(v bson.RawValue, path []string, trail []step, run leaf) (bson.RawValue, error) {
	const longest = 1_500_000
	i, err := strconv.Atoi(path[0])
	if err != nil || i < 0 || i > longest {
		return v, blocked(v, path[0], trail, run)
	}
	trail = append(trail, step{path[0], true})
	list := bsondoc.Items(v)
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
		list = append(list, bsondoc.Null)
	}
	list[i] = item
	return bsondoc.Array(list), nil
}

// existing updates a field that exists. The value it returns is missing if the
// field was removed.
func (m *mutation) existing(old bson.RawValue, path []string, trail []step, run leaf) (bson.RawValue, error) {
	if len(path) > 1 {
		return m.walk(old, path[1:], trail, run)
	}
	out, err := run(old)
	switch {
	case err != nil || out.action == leave:
		return old, err
	case out.action == remove && trail[len(trail)-1].array:
		out.value, out.always = bsondoc.Null, true // or the elements after it would move
	case out.action == remove:
		m.diff.remove(trail)
		return bson.RawValue{}, nil
	}
	m.log(old, out, trail)
	return out.value, nil
}

func (m *mutation) log(old bson.RawValue, out outcome, trail []step) {
	switch {
	case !out.always && bsondoc.Identical(old, out.value):
	case out.appended > 0:
		n := len(bsondoc.Items(out.value))
		for i := n - out.appended; i < n; i++ {
			m.diff.set(append(trail, step{strconv.Itoa(i), true}), false)
		}
	default:
		m.diff.set(trail, true)
	}
}

// create adds a field that does not exist, with the documents on its path.
func (m *mutation) create(path []string, trail []step, run leaf) (bson.RawValue, error) {
	out, err := run(bson.RawValue{})
	if err != nil || out.action != set {
		return bson.RawValue{}, err
	}
	v := out.value
	for i := len(path) - 1; i > 0; i-- {
		v = bsondoc.Value(bsondoc.New().Value(path[i], v).Done())
	}
	m.diff.set(trail, false)
	return v, nil
}

// renamed returns the value that a $rename moves, if there is one. Neither source
// nor destination may be inside an array.
func renamed(doc bson.Raw, from, to []string) (bson.RawValue, error) {
	v, array, err := trace(doc, from)
	if err != nil || v.Type == 0 {
		return v, err
	}
	end := "source"
	if array == "" {
		end = "destination"
		from = to
		_, array, _ = trace(doc, to) // a value that blocks it is found when it is set
	}
	if array != "" {
		return v, cmderr.Errorf(cmderr.BadValue, "The %s field cannot be an array element, '%s' in doc with _id: %s has an array field called '%s'",
			end, strings.Join(from, "."), idMark, array)
	}
	return v, nil
}

// trace follows a path to its end, and names the innermost array on its way.
func trace(doc bson.Raw, path []string) (v bson.RawValue, array string, err error) {
	v = bsondoc.Value(doc)
	for i, name := range path {
		n, notIndex := strconv.Atoi(name)
		if v.Type == bson.TypeArray {
			array = path[i-1]
		}
		switch {
		case v.Type == bson.TypeEmbeddedDocument:
			v = v.Document().Lookup(name)
		case v.Type == bson.TypeArray && notIndex == nil && n >= 0:
			if list := bsondoc.Items(v); n < len(list) {
				v = list[n]
			} else {
				v = bson.RawValue{}
			}
		case v.Type == 0:
			return v, array, nil
		default:
			return v, array, cmderr.Errorf(cmderr.PathNotViable, "cannot use the part (%s of %s) to traverse the element ({%s: %s})",
				path[i-1], strings.Join(path, "."), path[i-1], bsondoc.Shell(v))
		}
	}
	return v, array, nil
}

// replaced returns a replacement, with the _id of the document before it unless it
// has one.
func replaced(before, doc bson.Raw) (bson.Raw, error) {
	id, was := doc.Lookup("_id"), before.Lookup("_id")
	if err := CheckID(id); err != nil {
		return nil, err
	}
	switch {
	case was.Type == 0:
		return doc, nil
	case id.Type == 0:
		return bsondoc.New().Value("_id", was).Append(doc).Done(), nil
	case !bsondoc.Equal(id, was):
		return nil, cmderr.Errorf(cmderr.ImmutableField, "After applying the update, the (immutable) field '_id' was found to have been altered to _id: %s", bsondoc.Shell(id))
	}
	return doc, nil
}

// Seed returns the document that an upsert starts from: the fields that its query
// compares for equality.
func Seed(query bson.Raw) (bson.Raw, error) {
	m := &mutation{doc: bsondoc.Empty}
	err := m.seed(query)
	return m.doc, err
}

func (m *mutation) seed(query bson.Raw) error {
	for _, e := range bsondoc.Fields(query) {
		v := e.Value()
		switch {
		case e.Key() == "$and":
			for _, item := range bsondoc.Items(v) {
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
