package mongotest

import (
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A projection is a $project or $addFields stage, or the projection of a find:
// fields kept or left out, and fields made of literals and other fields.
type projection struct {
	root    *shape
	exclude bool
	keepID  bool
	// add: a $addFields, which keeps what it does not name.
	add bool
}

// A shape is what becomes of one field, or of the fields within it.
type shape struct {
	names  []string // in the order they were given
	within map[string]*shape
	keep   bool
	value  expression // a computed field
}

// An expression computes a value; one of type 0 is none.
type expression func(doc bson.Raw) bson.RawValue

func (r *request) projection(field string) (*projection, error) {
	doc, err := r.document(field)
	if err != nil || len(fields(doc)) == 0 {
		return nil, err
	}
	p, err := compileProjection(doc)
	if err != nil {
		return nil, asCommandError(err)
	}
	return p, nil
}

// compileProjection reads an inclusion or an exclusion.
func compileProjection(doc bson.Raw) (*projection, error) {
	p := &projection{root: &shape{}, keepID: true}
	kinds := map[bool]string{}
	if err := p.read(p.root, "", doc, kinds); err != nil {
		return nil, err
	}
	if len(kinds) == 2 {
		if includesFirst(doc) {
			return nil, failf(31254, "Cannot do exclusion on field %s in inclusion projection", kinds[false])
		}
		return nil, failf(31253, "Cannot do inclusion on field %s in exclusion projection", kinds[true])
	}
	_, included := kinds[true]
	p.exclude = !included && (len(kinds) > 0 || !p.keepID)
	return p, nil
}

// includesFirst tells whether the first field of a projection, _id apart, is
// kept.
func includesFirst(doc bson.Raw) bool {
	for _, e := range fields(doc) {
		if e.Key() != "_id" {
			return truth(e.Value(), true)
		}
	}
	return true
}

func (p *projection) read(s *shape, prefix string, doc bson.Raw, kinds map[bool]string) error {
	for _, e := range fields(doc) {
		v, name := e.Value(), e.Key()
		full := prefix + name
		number, isNumber := asFloat(v)
		flag, isBool := v.BooleanOK()
		keep := flag || isNumber && number != 0
		switch nested, isDoc := v.DocumentOK(); {
		case isDoc && len(fields(nested)) > 0 && !isOperators(v):
			inner, err := s.at(strings.Split(name, "."), full)
			if err != nil {
				return err
			}
			if err := p.read(inner, full+".", nested, kinds); err != nil {
				return err
			}
			continue
		case full == "_id" && (isBool || isNumber):
			p.keepID = keep
			continue
		case isBool || isNumber:
			kinds[keep] = full
			leaf, err := s.at(strings.Split(name, "."), full)
			if err != nil {
				return err
			}
			leaf.keep = true
			continue
		}
		kinds[true] = full
		if err := s.compute(full, name, v); err != nil {
			if e := asCommandError(err); e.code == codeInvalidOperator {
				return failf(31325, "Unknown expression %s", v.Document().Index(0).Key())
			}
			return err
		}
	}
	return nil
}

func (s *shape) compute(full, name string, v bson.RawValue) error {
	x, err := compileExpression(v)
	if err != nil {
		return err
	}
	leaf, err := s.at(strings.Split(name, "."), full)
	if err != nil {
		return err
	}
	leaf.value = x
	return nil
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

// compileAddFields reads a $addFields or $set.
func compileAddFields(doc bson.Raw) (*projection, error) {
	p := &projection{root: &shape{}, keepID: true, add: true}
	return p, p.root.readAll("", doc)
}

func (s *shape) readAll(prefix string, doc bson.Raw) error {
	for _, e := range fields(doc) {
		v, name := e.Value(), e.Key()
		if nested, isDoc := v.DocumentOK(); isDoc && len(fields(nested)) > 0 && !isOperators(v) {
			inner, err := s.at(strings.Split(name, "."), prefix+name)
			if err != nil {
				return err
			}
			if err := inner.readAll(prefix+name+".", nested); err != nil {
				return err
			}
			continue
		}
		if err := s.compute(prefix+name, name, v); err != nil {
			return err
		}
	}
	return nil
}

// compileExpression takes literals and field paths.
func compileExpression(v bson.RawValue) (expression, error) {
	switch v.Type {
	case bson.TypeString:
		return compileString(v)
	case bson.TypeArray:
		return compileArray(v)
	case bson.TypeEmbeddedDocument:
	default:
		return func(bson.Raw) bson.RawValue { return v }, nil
	}
	doc := v.Document()
	if !isOperators(v) {
		return compileObject(doc)
	}
	name := doc.Index(0).Key()
	if len(fields(doc)) == 1 && name == "$literal" {
		literal := doc.Index(0).Value()
		return func(bson.Raw) bson.RawValue { return literal }, nil
	}
	if slices.Contains(knownExpressions, name) {
		return nil, notImitated("the expression " + name)
	}
	return nil, failf(codeInvalidOperator, "Unrecognized expression '%s'", name)
}

// knownExpressions exist on a real server, and not here. It names the more
// frequent ones; for the rest the answer is the one for what does not exist.
var knownExpressions = strings.Fields(`$abs $add $allElementsTrue $and $anyElementTrue $arrayElemAt $arrayToObject $ceil $cmp $concat $concatArrays
	$cond $convert $dateAdd $dateFromString $dateToString $dateTrunc $divide $eq $exp $filter $first $floor $getField $gt $gte $ifNull $in
	$indexOfArray $isArray $isNumber $last $let $ln $log $lt $lte $ltrim $map $max $mergeObjects $min $mod $multiply $ne $not $objectToArray $or
	$pow $range $reduce $regexMatch $replaceAll $replaceOne $reverseArray $round $rtrim $setField $size $slice $split $sqrt $strLenCP $substr
	$substrCP $subtract $sum $switch $toBool $toDate $toDouble $toInt $toLong $toLower $toObjectId $toString $toUpper $trim $trunc $type
	$unsetField $year $month $dayOfMonth $hour $minute $second $meta $rand $avg $zip`)

func compileString(v bson.RawValue) (expression, error) {
	s := v.StringValue()
	switch {
	case s == "$$ROOT" || s == "$$CURRENT":
		return func(doc bson.Raw) bson.RawValue {
			return docValue(doc)
		}, nil
	case s == "$$REMOVE":
		return func(bson.Raw) bson.RawValue { return bson.RawValue{} }, nil
	case strings.HasPrefix(s, "$$"):
		return nil, notImitated("the variable " + s)
	case strings.HasPrefix(s, "$"):
		path := strings.Split(s[1:], ".")
		if slices.Contains(path, "") {
			return nil, failf(16872, "'$' by itself is not a valid FieldPath")
		}
		return func(doc bson.Raw) bson.RawValue {
			return follow(docValue(doc), path)
		}, nil
	}
	return func(bson.Raw) bson.RawValue { return v }, nil
}

// follow is a field path's value. Through an array it is the array of what it
// is in each document.
func follow(v bson.RawValue, path []string) bson.RawValue {
	if len(path) == 0 {
		return v
	}
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		next, err := v.Document().LookupErr(path[0])
		if err != nil {
			return bson.RawValue{}
		}
		return follow(next, path[1:])
	case bson.TypeArray:
		var found []bson.RawValue
		for _, item := range items(v) {
			if f := follow(item, path); f.Type != 0 && item.Type == bson.TypeEmbeddedDocument {
				found = append(found, f)
			}
		}
		return arrayOf(found)
	}
	return bson.RawValue{}
}

func compileArray(v bson.RawValue) (expression, error) {
	var parts []expression
	for _, item := range items(v) {
		x, err := compileExpression(item)
		if err != nil {
			return nil, err
		}
		parts = append(parts, x)
	}
	return func(doc bson.Raw) bson.RawValue {
		values := make([]bson.RawValue, len(parts))
		for i, x := range parts {
			if values[i] = x(doc); values[i].Type == 0 {
				values[i].Type = bson.TypeNull
			}
		}
		return arrayOf(values)
	}, nil
}

func compileObject(spec bson.Raw) (expression, error) {
	type part struct {
		name string
		x    expression
	}
	var parts []part
	for _, e := range fields(spec) {
		x, err := compileExpression(e.Value())
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{e.Key(), x})
	}
	return func(doc bson.Raw) bson.RawValue {
		d := newBuilder()
		for _, p := range parts {
			if v := p.x(doc); v.Type != 0 {
				d.value(p.name, v)
			}
		}
		return docValue(d.done())
	}, nil
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
			before := len(d.b)
			p.nested(d, strconv.Itoa(i), s, item, root)
			if len(d.b) > before {
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
