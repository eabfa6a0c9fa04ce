package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An expression computes a value; one of type 0 is none.
type expression func(doc bson.Raw) bson.RawValue

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
		return func(doc bson.Raw) bson.RawValue { return docValue(doc) }, nil
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
