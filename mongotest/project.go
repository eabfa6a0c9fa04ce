package mongotest

import (
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A projection is a $project or $addFields stage, or the projection of a find:
// fields kept or left out, and fields made of literals and other fields.
type projection struct {
	root    *shape
	decided bool // whether it is an exclusion
	exclude bool
	keepID  bool
	// add: a $addFields, which keeps what it does not name.
	add  bool
	spec bson.Raw // of a $addFields, for its errors
	set  []string // its fields' paths
}

// A shape is what becomes of one field, or of the fields within it.
type shape struct {
	names  []string // in the order they were given
	within map[string]*shape
	keep   bool
	value  expression // a computed field
}

// compileProjection reads an inclusion or an exclusion.
func compileProjection(doc bson.Raw) (*projection, error) {
	p := &projection{root: &shape{}, keepID: true}
	err := p.read(p.root, "", doc)
	if !p.decided {
		p.exclude = !p.keepID
	}
	return p, err
}

// compileAddFields reads a $addFields or $set.
func compileAddFields(doc bson.Raw) (*projection, error) {
	p := &projection{root: &shape{}, keepID: true, add: true, spec: doc}
	return p, p.read(p.root, "", doc)
}

func (p *projection) read(s *shape, prefix string, doc bson.Raw) error {
	for _, e := range fields(doc) {
		v, full := e.Value(), prefix+e.Key()
		_, isBool := v.BooleanOK()
		flag := !p.add && (isBool || isNumber(v))
		nested, isDoc := v.DocumentOK()
		isDoc = isDoc && !isOperators(v)
		var x expression
		var err error
		switch {
		case isDoc && len(fields(nested)) == 0 && p.add:
			err = failf(40180, "an empty object is not a valid value. Found empty object at path %s", full)
		case isDoc && len(fields(nested)) == 0:
			err = failf(51270, "An empty sub-projection is not a valid value. Found empty object at path")
		case flag && full == "_id":
			p.keepID = truth(v, true)
			continue
		case flag:
			err = p.decide(truth(v, true), e.Key())
		case !isDoc:
			x, err = p.compute(e.Key(), v)
		}
		switch {
		case err != nil || !p.add:
		case prefix != "" && strings.Contains(e.Key(), "."):
			err = failf(40183, "cannot use dotted field name '%s' in a sub object: %s", e.Key(), shellDoc(p.spec))
		case !isDoc:
			err = p.checkPath(full)
		}
		if err != nil {
			return err
		}
		at, err := s.at(strings.Split(e.Key(), "."), full)
		if err != nil {
			return err
		}
		at.keep, at.value = flag, x
		if isDoc {
			if err := p.read(at, full+".", nested); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPath refuses a field of a $addFields that meets another.
func (p *projection) checkPath(path string) error {
	for _, other := range p.set {
		if path == other || strings.HasPrefix(path, other+".") || strings.HasPrefix(other, path+".") {
			return failf(40176, "specification contains two conflicting paths. Cannot specify both '%s' and '%s': %s", path, other, shellDoc(p.spec))
		}
	}
	p.set = append(p.set, path)
	return nil
}

// decide makes the projection an inclusion or an exclusion; it can't be both.
func (p *projection) decide(include bool, field string) error {
	switch {
	case !p.decided:
		p.decided, p.exclude = true, !include
	case include && p.exclude:
		return failf(31253, "Cannot do inclusion on field %s in exclusion projection", field)
	case !include && !p.exclude:
		return failf(31254, "Cannot do exclusion on field %s in inclusion projection", field)
	}
	return nil
}

// compute compiles a value, which only an inclusion or a $addFields has. A
// projection has its own words for what is wrong.
func (p *projection) compute(field string, v bson.RawValue) (expression, error) {
	x, err := compileExpression(v)
	switch {
	case p.add:
		return x, err
	case isOperators(v) && err != nil && asCommandError(err).code == codeInvalidOperator:
		return nil, failf(31325, "Unknown expression %s", v.Document().Index(0).Key())
	case isOperators(v) && p.exclude:
		return nil, failf(31252, "Cannot use expression other than $meta in exclusion projection")
	case p.exclude:
		return nil, failf(31310, "Cannot use an expression %s: %s in an exclusion projection", field, shell(v))
	}
	p.decided = true
	return x, err
}

// at is the shape at a path, made if need be.
func (s *shape) at(path []string, full string) (*shape, error) {
	for i, name := range path {
		if name == "" || strings.HasPrefix(name, "$") {
			return nil, failf(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
		}
		if s.keep || s.value != nil {
			rest := strings.Join(path[i:], ".")
			return nil, failf(31249, "Path collision at %s remaining portion %s", full, rest)
		}
		if s.within == nil {
			s.within = map[string]*shape{}
		}
		if s.within[name] == nil {
			s.names = append(s.names, name)
			s.within[name] = &shape{}
		}
		s = s.within[name]
	}
	if s.within != nil || s.keep || s.value != nil {
		return nil, failf(31250, "Path collision at %s", full)
	}
	return s, nil
}

func (p *projection) apply(doc bson.Raw) (bson.Raw, error) {
	d := newBuilder()
	p.fields(d, p.root, doc, doc, true)
	return d.done(), nil
}

func (p *projection) fields(d *builder, s *shape, doc, root bson.Raw, top bool) {
	done := map[string]bool{}
	for _, e := range fields(doc) {
		name, v := e.Key(), e.Value()
		part := s.within[name]
		done[name] = true
		switch {
		case top && name == "_id" && part == nil && !p.add:
			if p.keepID {
				d.value(name, v)
			}
		case part == nil:
			if p.exclude || p.add {
				d.value(name, v)
			}
		case part.value != nil:
			// In place if it is there already, for $addFields; else behind.
			if !p.add {
				done[name] = false
			} else if x := part.value(root); x.Type != 0 {
				d.value(name, x)
			}
		case part.keep:
			if !p.exclude {
				d.value(name, v)
			}
		default:
			p.nested(d, name, part, v, root)
		}
	}
	for _, name := range s.names {
		if !done[name] {
			p.made(d, name, s.within[name], root)
		}
	}
}

// nested projects within a document, or each document of an array.
func (p *projection) nested(d *builder, name string, s *shape, v bson.RawValue, root bson.Raw) {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		inner := newBuilder()
		p.fields(inner, s, v.Document(), root, false)
		d.doc(name, inner.done())
	case bson.TypeArray:
		at := d.open(bson.TypeArray, name)
		i := 0
		for _, item := range items(v) {
			before := d.length()
			p.nested(d, strconv.Itoa(i), s, item, root)
			if d.length() > before {
				i++
			}
		}
		d.close(at)
	default:
		switch {
		case s.computes():
			p.made(d, name, s, root)
		case p.exclude:
			d.value(name, v)
		}
	}
}

func (s *shape) computes() bool {
	if s.value != nil {
		return true
	}
	for _, w := range s.within {
		if w.computes() {
			return true
		}
	}
	return false
}

// made writes a computed field where there is nothing.
func (p *projection) made(d *builder, name string, s *shape, root bson.Raw) {
	if s.value != nil {
		if v := s.value(root); v.Type != 0 {
			d.value(name, v)
		}
		return
	}
	if s.computes() {
		inner := newBuilder()
		p.fields(inner, s, emptyDoc, root, false)
		d.doc(name, inner.done())
	}
}
