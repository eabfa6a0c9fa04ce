package query

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// An expression computes a value; type 0 means that it has none.
type expression func(doc bson.Raw) bson.RawValue

// compileExpression compiles literals and field paths.
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
	if len(bsondoc.Fields(doc)) == 1 && name == "$literal" {
		literal := doc.Index(0).Value()
		return func(bson.Raw) bson.RawValue { return literal }, nil
	}
	if slices.Contains(knownExpressions, name) {
		return nil, cmderr.Unsupported("the expression " + name)
	}
	return nil, cmderr.Errorf(cmderr.InvalidOperator, "Unrecognized expression '%s'", name)
}

// knownExpressions are the more frequent ones that a real server has and this
// package does not. Rarer ones are refused as if they did not exist.
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
		return func(doc bson.Raw) bson.RawValue { return bsondoc.Value(doc) }, nil
	case s == "$$REMOVE":
		return func(bson.Raw) bson.RawValue { return bson.RawValue{} }, nil
	case strings.HasPrefix(s, "$$"):
		return nil, cmderr.Unsupported("the variable " + s)
	case strings.HasPrefix(s, "$"):
		path := strings.Split(s[1:], ".")
		if slices.Contains(path, "") {
			return nil, cmderr.Errorf(16872, "'$' by itself is not a valid FieldPath")
		}
		return func(doc bson.Raw) bson.RawValue {
			return follow(bsondoc.Value(doc), path)
		}, nil
	}
	return func(bson.Raw) bson.RawValue { return v }, nil
}

// follow returns a field path's value. Below an array it is the array of the
// values in each of its documents.
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
		for _, item := range bsondoc.Items(v) {
			if f := follow(item, path); f.Type != 0 && item.Type == bson.TypeEmbeddedDocument {
				found = append(found, f)
			}
		}
		return bsondoc.Array(found)
	}
	return bson.RawValue{}
}

func compileArray(v bson.RawValue) (expression, error) {
	var parts []expression
	for _, item := range bsondoc.Items(v) {
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
		return bsondoc.Array(values)
	}, nil
}

func compileObject(spec bson.Raw) (expression, error) {
	type part struct {
		name string
		x    expression
	}
	var parts []part
	for _, e := range bsondoc.Fields(spec) {
		x, err := compileExpression(e.Value())
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{e.Key(), x})
	}
	return func(doc bson.Raw) bson.RawValue {
		d := bsondoc.New()
		for _, p := range parts {
			if v := p.x(doc); v.Type != 0 {
				d.Value(p.name, v)
			}
		}
		return bsondoc.Value(d.Done())
	}, nil
}
