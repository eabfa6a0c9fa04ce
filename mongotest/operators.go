package mongotest

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// compileOperator reads one operator of a field; doc is the document that it
// stands in, for those that come in twos.
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
			return nil, failf(codeBadValue, "$options needs a $regex")
		}
		return func([]bson.RawValue) bool { return true }, nil
	case "$mod":
		return compileMod(v)
	case "$geoWithin", "$geoIntersects", "$near", "$nearSphere", "$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet":
		return nil, notImitated("the query operator " + name)
	}
	return nil, failf(codeBadValue, "unknown operator: %s", name)
}

// compileRange: values of other types are neither larger nor smaller.
func compileRange(name string, bound bson.RawValue) predicate {
	return anyOf(func(v bson.RawValue) bool {
		if v.Type == 0 || typeOrder[v.Type] != typeOrder[bound.Type] || isNaN(v) || isNaN(bound) {
			if v.Type == 0 && bound.Type == bson.TypeNull || isNaN(v) && isNaN(bound) {
				return strings.HasSuffix(name, "e")
			}
			return false
		}
		c := compare(v, bound)
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
	x, ok := asFloat(v)
	return ok && math.IsNaN(x)
}

func compileIn(name string, v bson.RawValue) (predicate, error) {
	if v.Type != bson.TypeArray {
		return nil, failf(codeBadValue, "%s needs an array", name)
	}
	var all []predicate
	for _, item := range items(v) {
		if isOperators(item) {
			return nil, failf(codeBadValue, "cannot nest $ under %s", name)
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
	if truth(v, true) && v.Type != bson.TypeNull {
		return exists
	}
	return not(exists)
}

func compileType(v bson.RawValue) (predicate, error) {
	wanted := map[bson.Type]bool{}
	list := []bson.RawValue{v}
	if v.Type == bson.TypeArray {
		list = items(v)
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
		for t, n := range typeNames {
			if n == name && t != 0 {
				wanted[t] = true
				return nil
			}
		}
		return failf(codeBadValue, "Unknown type name alias: %s", name)
	}
	n, ok := asInt(v)
	if _, known := typeNames[bson.Type(n)]; !ok || n == 0 || !known && n != -1 {
		return failf(codeBadValue, "Invalid numerical type code: %d", n)
	}
	wanted[bson.Type(n)] = true
	return nil
}

func compileNot(v bson.RawValue) (predicate, error) {
	if v.Type != bson.TypeRegex && !isOperators(v) {
		return nil, failf(codeBadValue, "$not needs a regex or a document")
	}
	p, err := compileField(v)
	if err != nil {
		return nil, err
	}
	return not(p), nil
}

func compileAll(v bson.RawValue) (predicate, error) {
	if v.Type != bson.TypeArray {
		return nil, failf(codeBadValue, "$all needs an array")
	}
	var all []predicate
	for _, item := range items(v) {
		if isOperators(item) {
			return nil, notImitated("the query operator $all with operators in it")
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
	n, ok := asInt(v)
	if !ok || n < 0 {
		return nil, failf(codeBadValue, "Failed to parse $size. Expected a non-negative number in: $size: %s", v)
	}
	return func(found []bson.RawValue) bool {
		return slices.ContainsFunc(found, func(v bson.RawValue) bool {
			return v.Type == bson.TypeArray && int64(len(items(v))) == n
		})
	}, nil
}

func compileElemMatch(v bson.RawValue) (predicate, error) {
	doc, ok := v.DocumentOK()
	if !ok {
		return nil, failf(codeBadValue, "$elemMatch needs an Object")
	}
	var judge func(bson.RawValue) bool
	first, err := doc.IndexErr(0)
	if err == nil && isOperators(v) && !slices.Contains([]string{"$and", "$or", "$nor", "$where", "$expr"}, first.Key()) {
		p, err := compileField(v)
		if err != nil {
			return nil, err
		}
		// An array is not looked into here.
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
			return v.Type == bson.TypeArray && slices.ContainsFunc(items(v), judge)
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
		return nil, failf(codeBadValue, "$regex has to be a string")
	}
	if o, err := doc.LookupErr("$options"); err == nil {
		s, ok := o.StringValueOK()
		if !ok {
			return nil, failf(codeBadValue, "$options has to be a string")
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

// regexPredicate takes the patterns that Go's regular expressions and the
// server's have in common, and says so of the others.
func regexPredicate(pattern, options string) (predicate, error) {
	if strings.Trim(options, "ims") != "" {
		return nil, notImitated("regular expressions with the options " + options)
	}
	if options != "" {
		pattern = "(?" + options + ")" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, notImitated("this regular expression: " + err.Error())
	}
	return anyOf(func(v bson.RawValue) bool { return typeOrder[v.Type] == 4 && re.MatchString(text(v)) }), nil
}

func compileMod(v bson.RawValue) (predicate, error) {
	list := items(v)
	if v.Type != bson.TypeArray || len(list) != 2 {
		return nil, failf(codeBadValue, "malformed mod, not an array of two numbers")
	}
	divisor, ok1 := asInt(list[0])
	rest, ok2 := asInt(list[1])
	if !ok1 || !ok2 || divisor == 0 {
		return nil, failf(codeBadValue, "divisor cannot be 0 and both must be whole numbers")
	}
	return anyOf(func(v bson.RawValue) bool {
		x, ok := asFloat(v)
		return ok && !math.IsNaN(x) && math.Abs(x) < 1<<63 && int64(x)%divisor == rest
	}), nil
}
