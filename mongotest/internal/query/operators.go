package query

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// compileOperator compiles one operator of a field. doc is the document that holds
// it, for operators that come in pairs ($regex and $options).
func compileOperator(doc bson.Raw, name string, v bson.RawValue) (predicate, error) {
	switch name {
	case "$eq":
		return equals(v), nil
	case "$ne":
		return not(equals(v)), nil
	case "$gt", "$gte", "$lt", "$lte":
		return compileRange(name, v), nil
	case "$in":
		return compileIn(name, v)
	case "$nin":
		p, err := compileIn(name, v)
		if err != nil {
			return nil, err
		}
		return not(p), nil
	case "$exists":
		return compileExists(v), nil
	case "$type":
		return compileType(v)
	case "$not":
		return compileNot(v)
	case "$all":
		return compileAll(v)
	case "$size":
		return compileSize(v)
	case "$elemMatch":
		return compileElemMatch(v)
	case "$regex":
		return compileRegexOperator(doc, v)
	case "$options":
		if _, err := doc.LookupErr("$regex"); err != nil {
			return nil, cmderr.Errorf(cmderr.BadValue, "$options needs a $regex")
		}
		return func([]bson.RawValue) bool { return true }, nil
	case "$mod":
		return compileMod(v)
	case "$geoWithin", "$geoIntersects", "$near", "$nearSphere", "$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet":
		return nil, cmderr.Unsupported("the query operator " + name)
	}
	return nil, cmderr.Errorf(cmderr.BadValue, "unknown operator: %s", name)
}

// compileRange compiles a comparison, which no value of another type passes.
func compileRange(name string, bound bson.RawValue) predicate {
	return anyOf(func(v bson.RawValue) bool {
		if v.Type == 0 || !bsondoc.SameType(v, bound) || isNaN(v) || isNaN(bound) {
			if v.Type == 0 && bound.Type == bson.TypeNull || isNaN(v) && isNaN(bound) {
				return strings.HasSuffix(name, "e")
			}
			return false
		}
		c := bsondoc.Compare(v, bound)
		switch name {
		case "$gt":
			return c > 0
		case "$gte":
			return c >= 0
		case "$lt":
			return c < 0
		}
		return c <= 0
	})
}

func isNaN(v bson.RawValue) bool {
	x, ok := bsondoc.Float(v)
	return ok && math.IsNaN(x)
}

func compileIn(name string, v bson.RawValue) (predicate, error) {
	if v.Type != bson.TypeArray {
		return nil, cmderr.Errorf(cmderr.BadValue, "%s needs an array", name)
	}
	var all []predicate
	for _, item := range bsondoc.Items(v) {
		if isOperators(item) {
			return nil, cmderr.Errorf(cmderr.BadValue, "cannot nest $ under %s", name)
		}
		p := equals(item)
		if item.Type == bson.TypeRegex {
			var err error
			if p, err = compileRegex(item); err != nil {
				return nil, err
			}
		}
		all = append(all, p)
	}
	return func(found []bson.RawValue) bool {
		return slices.ContainsFunc(all, func(p predicate) bool { return p(found) })
	}, nil
}

func compileExists(v bson.RawValue) predicate {
	exists := func(found []bson.RawValue) bool {
		return slices.ContainsFunc(found, func(v bson.RawValue) bool { return v.Type != 0 })
	}
	if bsondoc.Truth(v, true) && v.Type != bson.TypeNull {
		return exists
	}
	return not(exists)
}

func compileType(v bson.RawValue) (predicate, error) {
	wanted := map[bson.Type]bool{}
	list := []bson.RawValue{v}
	if v.Type == bson.TypeArray {
		list = bsondoc.Items(v)
	}
	for _, item := range list {
		if err := addType(wanted, item); err != nil {
			return nil, err
		}
	}
	return anyOf(func(v bson.RawValue) bool { return v.Type != 0 && wanted[v.Type] }), nil
}

func addType(wanted map[bson.Type]bool, v bson.RawValue) error {
	if name, ok := v.StringValueOK(); ok {
		if name == "number" {
			for _, t := range []bson.Type{bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128} {
				wanted[t] = true
			}
			return nil
		}
		if t, ok := bsondoc.TypeByName(name); ok {
			wanted[t] = true
			return nil
		}
		return cmderr.Errorf(cmderr.BadValue, "Unknown type name alias: %s", name)
	}
	n, ok := bsondoc.Int(v)
	if !ok || !bsondoc.KnownType(bson.Type(n)) && n != -1 {
		return cmderr.Errorf(cmderr.BadValue, "Invalid numerical type code: %d", n)
	}
	wanted[bson.Type(n)] = true
	return nil
}

func compileNot(v bson.RawValue) (predicate, error) {
	if v.Type != bson.TypeRegex && !isOperators(v) {
		return nil, cmderr.Errorf(cmderr.BadValue, "$not needs a regex or a document")
	}
	p, err := compileField(v)
	if err != nil {
		return nil, err
	}
	return not(p), nil
}

func compileAll(v bson.RawValue) (predicate, error) {
	if v.Type != bson.TypeArray {
		return nil, cmderr.Errorf(cmderr.BadValue, "$all needs an array")
	}
	var all []predicate
	for _, item := range bsondoc.Items(v) {
		if isOperators(item) {
			return nil, cmderr.Unsupported("the query operator $all with operators in it")
		}
		p, err := compileField(item)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return func([]bson.RawValue) bool { return false }, nil
	}
	return allOf(all), nil
}

func compileSize(v bson.RawValue) (predicate, error) {
	n, ok := bsondoc.Int(v)
	if !ok || n < 0 {
		return nil, cmderr.Errorf(cmderr.BadValue, "Failed to parse $size. Expected a non-negative number in: $size: %s", v)
	}
	return func(found []bson.RawValue) bool {
		return slices.ContainsFunc(found, func(v bson.RawValue) bool {
			return v.Type == bson.TypeArray && int64(len(bsondoc.Items(v))) == n
		})
	}, nil
}

func compileElemMatch(v bson.RawValue) (predicate, error) {
	doc, ok := v.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.BadValue, "$elemMatch needs an Object")
	}
	var judge func(bson.RawValue) bool
	first, err := doc.IndexErr(0)
	if err == nil && isOperators(v) && !slices.Contains([]string{"$and", "$or", "$nor", "$where", "$expr"}, first.Key()) {
		p, err := compileField(v)
		if err != nil {
			return nil, err
		}
		// Arrays within the array are not searched.
		judge = func(item bson.RawValue) bool { return item.Type != bson.TypeArray && p([]bson.RawValue{item}) }
	} else {
		n, err := compileQuery(doc)
		if err != nil {
			return nil, err
		}
		judge = func(item bson.RawValue) bool {
			return (item.Type == bson.TypeEmbeddedDocument || item.Type == bson.TypeArray) && n(item.Value)
		}
	}
	return func(found []bson.RawValue) bool {
		return slices.ContainsFunc(found, func(v bson.RawValue) bool {
			return v.Type == bson.TypeArray && slices.ContainsFunc(bsondoc.Items(v), judge)
		})
	}, nil
}

func compileRegexOperator(doc bson.Raw, v bson.RawValue) (predicate, error) {
	pattern, options := "", ""
	switch v.Type {
	case bson.TypeRegex:
		pattern, options = v.Regex()
	case bson.TypeString:
		pattern = v.StringValue()
	default:
		return nil, cmderr.Errorf(cmderr.BadValue, "$regex has to be a string")
	}
	if o, err := doc.LookupErr("$options"); err == nil {
		s, ok := o.StringValueOK()
		if !ok {
			return nil, cmderr.Errorf(cmderr.BadValue, "$options has to be a string")
		}
		options = s
	}
	return regexPredicate(pattern, options)
}

func compileRegex(v bson.RawValue) (predicate, error) {
	pattern, options := v.Regex()
	p, err := regexPredicate(pattern, options)
	if err != nil {
		return nil, err
	}
	same := equals(v)
	return func(found []bson.RawValue) bool { return p(found) || same(found) }, nil
}

// regexPredicate compiles a pattern in the syntax that Go and the server have in
// common, and refuses any other.
func regexPredicate(pattern, options string) (predicate, error) {
	if strings.Trim(options, "ims") != "" {
		return nil, cmderr.Unsupported("regular expressions with the options " + options)
	}
	if options != "" {
		pattern = "(?" + options + ")" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, cmderr.Unsupported("this regular expression: " + err.Error())
	}
	return anyOf(func(v bson.RawValue) bool { return bsondoc.IsText(v) && re.MatchString(bsondoc.Text(v)) }), nil
}

func compileMod(v bson.RawValue) (predicate, error) {
	list := bsondoc.Items(v)
	if v.Type != bson.TypeArray || len(list) != 2 {
		return nil, cmderr.Errorf(cmderr.BadValue, "malformed mod, not an array of two numbers")
	}
	divisor, ok1 := bsondoc.Int(list[0])
	rest, ok2 := bsondoc.Int(list[1])
	if !ok1 || !ok2 || divisor == 0 {
		return nil, cmderr.Errorf(cmderr.BadValue, "divisor cannot be 0 and both must be whole numbers")
	}
	return anyOf(func(v bson.RawValue) bool {
		x, ok := bsondoc.Float(v)
		return ok && !math.IsNaN(x) && math.Abs(x) < 1<<63 && int64(x)%divisor == rest
	}), nil
}
