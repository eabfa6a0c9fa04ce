package mongotest

import (
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
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
