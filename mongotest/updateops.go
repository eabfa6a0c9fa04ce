package mongotest

import (
	"math"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// updateOperators make of an operator's argument what it does to a field. For
// $rename see addRename.
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

// What an operator doesn't know and its error says: the field's name, and the
// document's _id.
const (
	fieldMark = "\x00field"
	idMark    = "\x00id"
)

// placed puts them into the error.
func placed(err error, field string, doc bson.D) error {
	e := *asCommandError(err)
	id := bson.RawValue{}
	if v, ok := fetch(doc, []string{"_id"}); ok {
		if raw, err := rawValue(v); err == nil {
			id = raw
		}
	}
	e.msg = strings.NewReplacer(fieldMark, field, idMark, shell(id)).Replace(e.msg)
	return &e
}

func setField(v bson.RawValue) (leaf, error) {
	value, err := fromRaw(v)
	return func(any, bool) (outcome, error) { return outcome{action: set, value: value}, nil }, err
}

func removeField(_ any, exists bool) (outcome, error) {
	if !exists {
		return outcome{}, nil
	}
	return outcome{action: remove}, nil
}

func arithmetic(name string, arg bson.RawValue) (leaf, error) {
	verb := "increment"
	if name == "$mul" {
		verb = "multiply"
	}
	if !isNumber(arg) {
		return nil, failf(codeTypeMismatch, "Cannot %s with non-numeric argument: {%s: %s}", verb, fieldMark, shell(arg))
	}
	if arg.Type == bson.TypeDecimal128 {
		return nil, notImitated(name + " with a decimal")
	}
	return func(old any, exists bool) (outcome, error) {
		if !exists {
			old = int32(0)
		}
		was, err := rawValue(old)
		switch {
		case err != nil:
			return outcome{}, err
		case !isNumber(was):
			return outcome{}, failf(codeTypeMismatch, "Cannot apply %s to a value of non-numeric type. {_id: %s} has the field '%s' of non-numeric type %s", name, idMark, fieldMark, typeName(was.Type))
		case was.Type == bson.TypeDecimal128:
			return outcome{}, notImitated(name + " of a decimal")
		}
		value, err := compute(name, was, arg)
		return outcome{action: set, value: value}, err
	}, nil
}

// compute adds or multiplies: a double if one of the two is, else an integer as
// long as need be.
func compute(name string, a, b bson.RawValue) (any, error) {
	if a.Type == bson.TypeDouble || b.Type == bson.TypeDouble {
		x, _ := asFloat(a)
		y, _ := asFloat(b)
		if name == "$mul" {
			return x * y, nil
		}
		return x + y, nil
	}
	x, _ := asInt(a)
	y, _ := asInt(b)
	sum, fits := x+y, (x+y > x) == (y > 0)
	if name == "$mul" {
		sum = x * y
		fits = x == 0 || sum/x == y && !(x == -1 && y == math.MinInt64)
	}
	switch {
	case !fits:
		return nil, failf(codeBadValue, "Failed to apply %s operations to current value: the result is no 64-bit integer", name)
	case a.Type == bson.TypeInt32 && b.Type == bson.TypeInt32 && sum == int64(int32(sum)):
		return int32(sum), nil
	}
	return sum, nil
}

func extreme(arg bson.RawValue, sign int) (leaf, error) {
	value, err := fromRaw(arg)
	if err != nil {
		return nil, err
	}
	return func(old any, exists bool) (outcome, error) {
		if exists {
			was, err := rawValue(old)
			if err != nil || compare(arg, was)*sign <= 0 {
				return outcome{}, err
			}
		}
		return outcome{action: set, value: value}, nil
	}, nil
}

func currentDate(arg bson.RawValue) (leaf, error) {
	kind := "date"
	switch arg.Type {
	case bson.TypeBoolean:
	case bson.TypeEmbeddedDocument:
		t, ok := arg.Document().Lookup("$type").StringValueOK()
		if !ok || t != "date" && t != "timestamp" {
			return nil, failf(codeBadValue, "The '$type' string field is required to be 'date' or 'timestamp': {$currentDate: {field : {$type: 'date'}}}")
		}
		kind = t
	default:
		return nil, failf(codeBadValue, "%s is not valid type for $currentDate. Please use a boolean ('true') or a $type expression ({$type: 'timestamp/date'}).", typeName(arg.Type))
	}
	return func(any, bool) (outcome, error) {
		t := now()
		if kind == "timestamp" {
			return outcome{action: set, value: bson.Timestamp{T: uint32(t.Unix()), I: 1}}, nil
		}
		return outcome{action: set, value: bson.NewDateTimeFromTime(t)}, nil
	}, nil
}

// array is a field's value as an array; an empty one if the field is not there.
func array(name string, old any, exists bool) (bson.A, error) {
	if !exists {
		return bson.A{}, nil
	}
	list, ok := old.(bson.A)
	if !ok {
		v, err := rawValue(old)
		if err != nil {
			return nil, err
		}
		switch name {
		case "$push":
			return nil, failf(codeBadValue, "The field '%s' must be an array but is of type %s in document {_id: %s}", fieldMark, typeName(v.Type), idMark)
		case "$addToSet":
			return nil, failf(codeBadValue, "Cannot apply $addToSet to non-array field. Field named '%s' has non-array type %s", fieldMark, typeName(v.Type))
		case "$pop":
			return nil, failf(codeTypeMismatch, "Path '%s' contains an element of non-array type '%s'", fieldMark, typeName(v.Type))
		}
		return nil, failf(codeBadValue, "Cannot apply %s to a non-array value", name)
	}
	return slices.Clone(list), nil
}

// each are the values of a $push or $addToSet, and its modifiers.
func each(name string, arg bson.RawValue) (values bson.A, modifiers bson.Raw, err error) {
	if doc, ok := arg.DocumentOK(); ok {
		if list, err := doc.LookupErr("$each"); err == nil {
			if list.Type != bson.TypeArray {
				return nil, nil, failf(codeBadValue, "The argument to $each in %s must be an array but it was of type: %s", name, typeName(list.Type))
			}
			v, err := fromRaw(list)
			if err != nil {
				return nil, nil, err
			}
			return v.(bson.A), doc, nil
		}
	}
	v, err := fromRaw(arg)
	return bson.A{v}, emptyDoc, err
}

func push(arg bson.RawValue) (leaf, error) {
	values, modifiers, err := each("$push", arg)
	if err != nil {
		return nil, err
	}
	position, limit := -1, math.MaxInt
	hasPosition, hasLimit := false, false
	for _, e := range fields(modifiers) {
		n, isInt := asInt(e.Value())
		switch e.Key() {
		case "$each":
			continue
		case "$position":
			position, hasPosition = int(n), true
		case "$slice":
			limit, hasLimit = int(n), true
		case "$sort":
			return nil, notImitated("$sort in $push")
		default:
			return nil, failf(codeBadValue, "Unrecognized clause in $push: %s", e.Key())
		}
		if !isInt {
			return nil, failf(codeBadValue, "The value for %s must be an integer value but was given type: %s", e.Key(), typeName(e.Value().Type))
		}
	}
	return func(old any, exists bool) (outcome, error) {
		list, err := array("$push", old, exists)
		if err != nil {
			return outcome{}, err
		}
		at := len(list)
		if hasPosition {
			at = within(position, len(list))
		}
		appended := at == len(list)
		list = slices.Insert(list, at, values...)
		if hasLimit {
			before := len(list)
			list = sliced(list, limit)
			appended = appended && len(list) == before
		}
		out := outcome{action: set, value: list}
		if appended && exists {
			if len(values) == 0 {
				return outcome{}, nil
			}
			out.appended = len(values)
		}
		return out, nil
	}, nil
}

// within is where a position is in a list; a negative one counts from the end.
func within(position, n int) int {
	if position < 0 {
		return max(n+position, 0)
	}
	return min(position, n)
}

func sliced(list bson.A, limit int) bson.A {
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
	return func(old any, exists bool) (outcome, error) {
		list, err := array("$addToSet", old, exists)
		if err != nil {
			return outcome{}, err
		}
		had := len(list)
		for _, v := range values {
			known, err := contains(list, v)
			if err != nil {
				return outcome{}, err
			}
			if !known {
				list = append(list, v)
			}
		}
		if exists && len(list) == had {
			return outcome{}, nil
		}
		return outcome{action: set, value: list}, nil
	}, nil
}

func contains(list bson.A, v any) (bool, error) {
	want, err := rawValue(v)
	if err != nil {
		return false, err
	}
	for _, item := range list {
		have, err := rawValue(item)
		if err != nil {
			return false, err
		}
		if equal(have, want) {
			return true, nil
		}
	}
	return false, nil
}

// pull removes the elements that match: a condition, a document's fields, or a
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
		judge = func(v bson.RawValue) bool { return equal(v, arg) }
	}
	return without("$pull", judge), nil
}

func pullAll(arg bson.RawValue) (leaf, error) {
	if arg.Type != bson.TypeArray {
		return nil, failf(codeBadValue, "$pullAll requires an array argument but was given a %s", typeName(arg.Type))
	}
	unwanted := items(arg)
	return without("$pullAll", func(v bson.RawValue) bool {
		return slices.ContainsFunc(unwanted, func(u bson.RawValue) bool { return equal(u, v) })
	}), nil
}

func without(name string, unwanted func(bson.RawValue) bool) leaf {
	return func(old any, exists bool) (outcome, error) {
		if !exists {
			return outcome{}, nil
		}
		list, err := array(name, old, true)
		if err != nil {
			return outcome{}, err
		}
		kept := bson.A{}
		for _, item := range list {
			v, err := rawValue(item)
			if err != nil {
				return outcome{}, err
			}
			if !unwanted(v) {
				kept = append(kept, item)
			}
		}
		if len(kept) == len(list) {
			return outcome{}, nil
		}
		return outcome{action: set, value: kept}, nil
	}
}

func pop(arg bson.RawValue) (leaf, error) {
	n, ok := asInt(arg)
	if !ok || n != 1 && n != -1 {
		return nil, failf(codeFailedToParse, "$pop expects 1 or -1, found: %s", shell(arg))
	}
	return func(old any, exists bool) (outcome, error) {
		if !exists {
			return outcome{}, nil
		}
		list, err := array("$pop", old, true)
		if err != nil || len(list) == 0 {
			return outcome{}, err
		}
		if n == 1 {
			return outcome{action: set, value: list[:len(list)-1]}, nil
		}
		return outcome{action: set, value: list[1:]}, nil
	}, nil
}
