package query

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// updateOperators compile an operator's argument. For $rename see addRename.
var updateOperators = map[string]func(bson.RawValue) (leaf, error){
	"$set":         setField,
	"$setOnInsert": setField,
	"$unset":       func(bson.RawValue) (leaf, error) { return removeField, nil },
	"$rename":      nil,
	"$inc":         func(v bson.RawValue) (leaf, error) { return arithmetic("$inc", v) },
	"$mul":         func(v bson.RawValue) (leaf, error) { return arithmetic("$mul", v) },
	"$min":         func(v bson.RawValue) (leaf, error) { return extreme(v, -1) },
	"$max":         func(v bson.RawValue) (leaf, error) { return extreme(v, 1) },
	"$currentDate": currentDate,
	"$push":        push,
	"$addToSet":    addToSet,
	"$pull":        pull,
	"$pullAll":     pullAll,
	"$pop":         pop,
}

// UpdateOperatorNames returns the names of the update operators, sorted.
func UpdateOperatorNames() []string { return slices.Sorted(maps.Keys(updateOperators)) }

// Placeholders in error messages for what an operator doesn't know: the field's
// name, its whole path, and the document's _id.
const (
	fieldMark = "\x00field"
	pathMark  = "\x00path"
	idMark    = "\x00id"
)

// placed replaces the placeholders.
func placed(err error, path []string, doc bson.Raw) error {
	e := *cmderr.From(err)
	e.Msg = strings.NewReplacer(fieldMark, path[len(path)-1], pathMark, strings.Join(path, "."), idMark, bsondoc.Shell(doc.Lookup("_id"))).Replace(e.Msg)
	return &e
}

func setField(v bson.RawValue) (leaf, error) { return setTo(v), nil }

func setTo(v bson.RawValue) leaf {
	return func(bson.RawValue) (outcome, error) { return outcome{action: set, value: v}, nil }
}

func removeField(old bson.RawValue) (outcome, error) {
	if old.Type == 0 {
		return outcome{}, nil
	}
	return outcome{action: remove}, nil
}

func arithmetic(name string, arg bson.RawValue) (leaf, error) {
	verb := "increment"
	if name == "$mul" {
		verb = "multiply"
	}
	if !bsondoc.IsNumber(arg) {
		return nil, cmderr.Errorf(cmderr.TypeMismatch, "Cannot %s with non-numeric argument: {%s: %s}", verb, pathMark, bsondoc.Shell(arg))
	}
	if arg.Type == bson.TypeDecimal128 {
		return nil, cmderr.Unsupported(name + " with a decimal")
	}
	return func(old bson.RawValue) (outcome, error) {
		switch {
		case old.Type == 0:
			old = bsondoc.Int32(0)
		case !bsondoc.IsNumber(old):
			return outcome{}, cmderr.Errorf(cmderr.TypeMismatch, "Cannot apply %s to a value of non-numeric type. {_id: %s} has the field '%s' of non-numeric type %s", name, idMark, fieldMark, bsondoc.TypeName(old.Type))
		case old.Type == bson.TypeDecimal128:
			return outcome{}, cmderr.Unsupported(name + " of a decimal")
		}
		value, err := compute(name, old, arg)
		return outcome{action: set, value: value}, err
	}, nil
}

// compute adds or multiplies. The result is a double if a or b is one, else the
// shortest integer type that holds it and is no shorter than theirs.
func compute(name string, a, b bson.RawValue) (bson.RawValue, error) {
	if a.Type == bson.TypeDouble || b.Type == bson.TypeDouble {
		x, _ := bsondoc.Float(a)
		y, _ := bsondoc.Float(b)
		if name == "$mul" {
			x *= y
		} else {
			x += y
		}
		return bsondoc.New().Float("", x).Only(), nil
	}
	x, _ := bsondoc.Int(a)
	y, _ := bsondoc.Int(b)
	sum, fits := x+y, (x+y > x) == (y > 0)
	if name == "$mul" {
		sum = x * y
		fits = x == 0 || sum/x == y && !(x == -1 && y == math.MinInt64)
	}
	switch {
	case !fits:
		return bson.RawValue{}, cmderr.Errorf(cmderr.BadValue, "Failed to apply %s operations to current value: the result is no 64-bit integer", name)
	case a.Type == bson.TypeInt32 && b.Type == bson.TypeInt32 && sum == int64(int32(sum)):
		return bsondoc.Int32(int32(sum)), nil
	}
	return bsondoc.Int64(sum), nil
}

func extreme(arg bson.RawValue, sign int) (leaf, error) {
	return func(old bson.RawValue) (outcome, error) {
		if old.Type != 0 && bsondoc.Compare(arg, old)*sign <= 0 {
			return outcome{}, nil
		}
		return outcome{action: set, value: arg}, nil
	}, nil
}

func currentDate(arg bson.RawValue) (leaf, error) {
	kind := "date"
	switch arg.Type {
	case bson.TypeBoolean:
	case bson.TypeEmbeddedDocument:
		t, ok := arg.Document().Lookup("$type").StringValueOK()
		if !ok || t != "date" && t != "timestamp" {
			return nil, cmderr.Errorf(cmderr.BadValue, "The '$type' string field is required to be 'date' or 'timestamp': {$currentDate: {field : {$type: 'date'}}}")
		}
		kind = t
	default:
		return nil, cmderr.Errorf(cmderr.BadValue, "%s is not valid type for $currentDate. Please use a boolean ('true') or a $type expression ({$type: 'timestamp/date'}).", bsondoc.TypeName(arg.Type))
	}
	return func(bson.RawValue) (outcome, error) {
		d, t := bsondoc.New(), time.Now()
		if kind == "timestamp" {
			d.Timestamp("", bson.Timestamp{T: uint32(t.Unix()), I: 1})
		} else {
			d.Date("", t)
		}
		return outcome{action: set, value: d.Only()}, nil
	}, nil
}

// array returns a field's value as an array, an empty one if the field does not
// exist.
func array(name string, old bson.RawValue) ([]bson.RawValue, error) {
	switch {
	case old.Type == 0 || old.Type == bson.TypeArray:
		return bsondoc.Items(old), nil
	case name == "$push":
		return nil, cmderr.Errorf(cmderr.BadValue, "The field '%s' must be an array but is of type %s in document {_id: %s}", pathMark, bsondoc.TypeName(old.Type), idMark)
	case name == "$addToSet":
		return nil, cmderr.Errorf(cmderr.BadValue, "Cannot apply $addToSet to non-array field. Field named '%s' has non-array type %s", fieldMark, bsondoc.TypeName(old.Type))
	case name == "$pop":
		return nil, cmderr.Errorf(cmderr.TypeMismatch, "Path '%s' contains an element of non-array type '%s'", pathMark, bsondoc.TypeName(old.Type))
	}
	return nil, cmderr.Errorf(cmderr.BadValue, "Cannot apply $pull to a non-array value")
}

// each returns the values of a $push or $addToSet, and its modifiers.
func each(name string, arg bson.RawValue) (values []bson.RawValue, modifiers bson.Raw, err error) {
	if doc, ok := arg.DocumentOK(); ok {
		if list, err := doc.LookupErr("$each"); err == nil {
			if list.Type != bson.TypeArray {
				return nil, nil, cmderr.Errorf(cmderr.BadValue, "The argument to $each in %s must be an array but it was of type: %s", name, bsondoc.TypeName(list.Type))
			}
			return bsondoc.Items(list), doc, nil
		}
	}
	return []bson.RawValue{arg}, bsondoc.Empty, nil
}

func push(arg bson.RawValue) (leaf, error) {
	values, modifiers, err := each("$push", arg)
	if err != nil {
		return nil, err
	}
	position, limit := -1, math.MaxInt
	hasPosition, hasLimit := false, false
	for _, e := range bsondoc.Fields(modifiers) {
		n, isInt := bsondoc.Int(e.Value())
		switch e.Key() {
		case "$each":
			continue
		case "$position":
			position, hasPosition = int(n), true
		case "$slice":
			limit, hasLimit = int(n), true
		case "$sort":
			return nil, cmderr.Unsupported("$sort in $push")
		default:
			return nil, cmderr.Errorf(cmderr.BadValue, "Unrecognized clause in $push: %s", e.Key())
		}
		if !isInt {
			return nil, cmderr.Errorf(cmderr.BadValue, "The value for %s must be an integer value but was given type: %s", e.Key(), bsondoc.TypeName(e.Value().Type))
		}
	}
	return func(old bson.RawValue) (outcome, error) {
		list, err := array("$push", old)
		if err != nil {
			return outcome{}, err
		}
		had, at := len(list), len(list)
		if hasPosition {
			at = within(position, had)
		}
		list = slices.Insert(list, at, values...)
		n := len(list)
		if hasLimit {
			list = sliced(list, limit)
		}
		out := outcome{action: set, value: bsondoc.Array(list), always: true}
		switch {
		case old.Type == 0 || len(list) < n:
		case len(values) == 0:
			return outcome{}, nil
		case had > 0 && (!hasPosition || position > had):
			out.appended = len(values)
		}
		return out, nil
	}, nil
}

// within returns a position as an index of a list of n; a negative one counts from
// the end.
func within(position, n int) int {
	if position < 0 {
		return max(n+position, 0)
	}
	return min(position, n)
}

func sliced(list []bson.RawValue, limit int) []bson.RawValue {
	if limit < 0 {
		return list[max(len(list)+limit, 0):]
	}
	return list[:min(limit, len(list))]
}

func addToSet(arg bson.RawValue) (leaf, error) {
	values, _, err := each("$addToSet", arg)
	if err != nil {
		return nil, err
	}
	return func(old bson.RawValue) (outcome, error) {
		list, err := array("$addToSet", old)
		if err != nil {
			return outcome{}, err
		}
		had := len(list)
		for _, v := range values {
			if !contains(list, v) {
				list = append(list, v)
			}
		}
		if old.Type != 0 && len(list) == had {
			return outcome{}, nil
		}
		return outcome{action: set, value: bsondoc.Array(list)}, nil
	}, nil
}

func contains(list []bson.RawValue, v bson.RawValue) bool {
	return slices.ContainsFunc(list, func(item bson.RawValue) bool { return bsondoc.Equal(item, v) })
}

// pull removes the elements that match a condition, a document's fields, or a
// value.
func pull(arg bson.RawValue) (leaf, error) {
	var judge func(bson.RawValue) bool
	switch doc, isDoc := arg.DocumentOK(); {
	case isDoc && !isOperators(arg):
		n, err := compileQuery(doc)
		if err != nil {
			return nil, err
		}
		judge = func(v bson.RawValue) bool { return v.Type == bson.TypeEmbeddedDocument && n(v.Value) }
	case isDoc || arg.Type == bson.TypeRegex:
		p, err := compileField(arg)
		if err != nil {
			return nil, err
		}
		judge = func(v bson.RawValue) bool { return p([]bson.RawValue{v}) }
	default:
		judge = func(v bson.RawValue) bool { return bsondoc.Equal(v, arg) }
	}
	return without(judge), nil
}

func pullAll(arg bson.RawValue) (leaf, error) {
	if arg.Type != bson.TypeArray {
		return nil, cmderr.Errorf(cmderr.BadValue, "$pullAll requires an array argument but was given a %s", bsondoc.TypeName(arg.Type))
	}
	unwanted := bsondoc.Items(arg)
	return without(func(v bson.RawValue) bool { return contains(unwanted, v) }), nil
}

func without(unwanted func(bson.RawValue) bool) leaf {
	return func(old bson.RawValue) (outcome, error) {
		list, err := array("$pull", old)
		if err != nil || old.Type == 0 {
			return outcome{strict: true}, err
		}
		had := len(list)
		if list = slices.DeleteFunc(list, unwanted); len(list) == had {
			return outcome{}, nil
		}
		return outcome{action: set, value: bsondoc.Array(list)}, nil
	}
}

func pop(arg bson.RawValue) (leaf, error) {
	n, ok := bsondoc.Int(arg)
	if !ok || n != 1 && n != -1 {
		return nil, cmderr.Errorf(cmderr.FailedToParse, "$pop expects 1 or -1, found: %s", bsondoc.Shell(arg))
	}
	return func(old bson.RawValue) (outcome, error) {
		list, err := array("$pop", old)
		if err != nil || len(list) == 0 {
			return outcome{strict: true}, err
		}
		if n == 1 {
			list = list[:len(list)-1]
		} else {
			list = list[1:]
		}
		return outcome{action: set, value: bsondoc.Array(list)}, nil
	}, nil
}
