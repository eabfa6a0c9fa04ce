package query

import (
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A Projection is a $project or $addFields stage, or the projection of a find. It
// keeps or removes fields, and adds fields computed from literals and others.
type Projection struct {
	root    *shape
	decided bool // whether it is an exclusion
	exclude bool
	keepID  bool
	// add means $addFields, which keeps the fields that it does not name.
	add  bool
	spec bson.Raw // of $addFields, for its errors
	set  []string // its fields' paths
}

// A shape is the projection of one field, or of the fields within it.
type shape struct {
	names  []string // in the order they were given
	within map[string]*shape
	keep   bool
	value  expression // a computed field
}

// CompileProjection compiles a projection by inclusion or exclusion.
func CompileProjection(doc bson.Raw) (*Projection, error) {
	p := &Projection{root: &shape{}, keepID: true}
	err := p.read(p.root, "", doc)
	if !p.decided {
		p.exclude = !p.keepID
	}
	return p, err
}

// compileAddFields compiles $addFields and $set.
func compileAddFields(doc bson.Raw) (*Projection, error) {
	p := &Projection{root: &shape{}, keepID: true, add: true, spec: doc}
	return p, p.read(p.root, "", doc)
}

func (p *Projection) read(s *shape, prefix string, doc bson.Raw) error {
	for _, e := range bsondoc.Fields(doc) {
		v, full := e.Value(), prefix+e.Key()
		_, isBool := v.BooleanOK()
		flag := !p.add && (isBool || bsondoc.IsNumber(v))
		nested, isDoc := v.DocumentOK()
		isDoc = isDoc && !isOperators(v)
		var x expression
		var err error
		switch {
		case isDoc && len(bsondoc.Fields(nested)) == 0 && p.add:
			err = cmderr.Errorf(40180, "an empty object is not a valid value. Found empty object at path %s", full)
		case isDoc && len(bsondoc.Fields(nested)) == 0:
			err = cmderr.Errorf(51270, "An empty sub-projection is not a valid value. Found empty object at path")
		case flag && full == "_id":
			p.keepID = bsondoc.Truth(v, true)
			continue
		case flag:
			err = p.decide(bsondoc.Truth(v, true), e.Key())
		case !isDoc:
			x, err = p.compute(e.Key(), v)
		}
		switch {
		case err != nil || !p.add:
		case prefix != "" && strings.Contains(e.Key(), "."):
			err = cmderr.Errorf(40183, "cannot use dotted field name '%s' in a sub object: %s", e.Key(), bsondoc.ShellDoc(p.spec))
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

// checkPath refuses a field of $addFields that overlaps with another.
func (p *Projection) checkPath(path string) error {
	for _, other := range p.set {
		if path == other || strings.HasPrefix(path, other+".") || strings.HasPrefix(other, path+".") {
			return cmderr.Errorf(40176, "specification contains two conflicting paths. Cannot specify both '%s' and '%s': %s", path, other, bsondoc.ShellDoc(p.spec))
		}
	}
	p.set = append(p.set, path)
	return nil
}

// decide makes the projection an inclusion or an exclusion; it can't be both.
func (p *Projection) decide(include bool, field string) error {
	switch {
	case !p.decided:
		p.decided, p.exclude = true, !include
	case include && p.exclude:
		return cmderr.Errorf(31253, "Cannot do inclusion on field %s in exclusion projection", field)
	case !include && !p.exclude:
		return cmderr.Errorf(31254, "Cannot do exclusion on field %s in inclusion projection", field)
	}
	return nil
}

// compute compiles a value, which only an inclusion or $addFields may have.
// Projections have their own error messages.
func (p *Projection) compute(field string, v bson.RawValue) (expression, error) {
	x, err := compileExpression(v)
	switch {
	case p.add:
		return x, err
	case isOperators(v) && err != nil && cmderr.From(err).Code == cmderr.InvalidOperator:
		return nil, cmderr.Errorf(31325, "Unknown expression %s", v.Document().Index(0).Key())
	case isOperators(v) && p.exclude:
		return nil, cmderr.Errorf(31252, "Cannot use expression other than $meta in exclusion projection")
	case p.exclude:
		return nil, cmderr.Errorf(31310, "Cannot use an expression %s: %s in an exclusion projection", field, bsondoc.Shell(v))
	}
	p.decided = true
	return x, err
}

// at returns the shape at a path, and creates it if necessary.
func (s *shape) at(path []string, full string) (*shape, error) {
	for i, name := range path {
		if name == "" || strings.HasPrefix(name, "$") {
			return nil, cmderr.Errorf(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
		}
		if s.keep || s.value != nil {
			rest := strings.Join(path[i:], ".")
			return nil, cmderr.Errorf(31249, "Path collision at %s remaining portion %s", full, rest)
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
		return nil, cmderr.Errorf(31250, "Path collision at %s", full)
	}
	return s, nil
}

// Apply returns the projection of a document.
func (p *Projection) Apply(doc bson.Raw) (bson.Raw, error) {
	d := bsondoc.New()
	p.fields(d, p.root, doc, doc, true)
	return d.Done(), nil
}

func (p *Projection) fields(d *bsondoc.Builder, s *shape, doc, root bson.Raw, top bool) {
	done := map[string]bool{}
	for _, e := range bsondoc.Fields(doc) {
		name, v := e.Key(), e.Value()
		part := s.within[name]
		done[name] = true
		switch {
		case top && name == "_id" && part == nil && !p.add:
			if p.keepID {
				d.Value(name, v)
			}
		case part == nil:
			if p.exclude || p.add {
				d.Value(name, v)
			}
		case part.value != nil:
			// $addFields sets an existing field in place, and adds others at the end.
			if !p.add {
				done[name] = false
			} else if x := part.value(root); x.Type != 0 {
				d.Value(name, x)
			}
		case part.keep:
			if !p.exclude {
				d.Value(name, v)
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
func (p *Projection) nested(d *bsondoc.Builder, name string, s *shape, v bson.RawValue, root bson.Raw) {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		inner := bsondoc.New()
		p.fields(inner, s, v.Document(), root, false)
		d.Doc(name, inner.Done())
	case bson.TypeArray:
		at := d.Open(bson.TypeArray, name)
		i := 0
		for _, item := range bsondoc.Items(v) {
			before := d.Len()
			p.nested(d, strconv.Itoa(i), s, item, root)
			if d.Len() > before {
				i++
			}
		}
		d.Close(at)
	default:
		switch {
		case s.computes():
			p.made(d, name, s, root)
		case p.exclude:
			d.Value(name, v)
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

// made writes a computed field that the document does not have.
func (p *Projection) made(d *bsondoc.Builder, name string, s *shape, root bson.Raw) {
	if s.value != nil {
		if v := s.value(root); v.Type != 0 {
			d.Value(name, v)
		}
		return
	}
	if s.computes() {
		inner := bsondoc.New()
		p.fields(inner, s, bsondoc.Empty, root, false)
		d.Doc(name, inner.Done())
	}
}
