package changestream

import (
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// compileProject completes a projection: one that says what to include also
// includes the kept fields, whole.
func compileProject(name string, spec any) (stage, error) {
	doc, ok := spec.(bson.D)
	if !ok {
		return nil, fmt.Errorf("%s takes a document", name)
	}
	out := bson.D{}
	var named []string
	for _, e := range doc {
		field, ok := kept(e.Key)
		switch {
		case !ok:
			out = append(out, e)
		case excludes(e.Value):
			return nil, removes(name, field)
		case !includes(e.Value) && !isItself(e):
			return nil, changes(name, field)
		case !slices.Contains(named, field):
			named = append(named, field)
		}
	}
	if including(doc) {
		named = keptFields
	}
	for _, field := range named {
		out = append(out, bson.E{Key: field, Value: true})
	}
	return always(name, out), nil
}

// including reports whether a projection says what to include, rather than what
// to exclude. The server refuses a mixture, except that _id may be in both.
func including(doc bson.D) bool {
	for _, e := range doc {
		if e.Key == "_id" {
			continue
		}
		if nested, ok := e.Value.(bson.D); ok && len(nested) > 0 && !isOperator(nested) {
			return including(nested)
		}
		return !excludes(e.Value)
	}
	return len(doc) > 0
}

// isOperator reports whether a document is an expression: {$add: …}.
func isOperator(doc bson.D) bool { return len(doc) > 0 && doc[0].Key != "" && doc[0].Key[0] == '$' }

// includes reports whether a value in a projection includes a field, or only
// fields inside of it.
func includes(v any) bool {
	nested, ok := v.(bson.D)
	if !ok {
		on, isFlag := flagOf(v)
		return isFlag && on
	}
	return len(nested) > 0 && !isOperator(nested) && !slices.ContainsFunc(nested, func(e bson.E) bool { return !includes(e.Value) })
}

// excludes reports whether a value in a projection excludes a field, or some of
// the fields inside of it.
func excludes(v any) bool {
	nested, ok := v.(bson.D)
	if !ok {
		on, isFlag := flagOf(v)
		return isFlag && !on
	}
	return !isOperator(nested) && slices.ContainsFunc(nested, func(e bson.E) bool { return excludes(e.Value) })
}

// flagOf reads what the server takes for a yes or a no: booleans and numbers.
func flagOf(v any) (on, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case int32:
		return v != 0, true
	case int64:
		return v != 0, true
	case float64:
		return v != 0, true
	case bson.Decimal128:
		n, _, err := v.BigInt() // IsZero is about the bits
		return err != nil || n.Sign() != 0, true
	}
	return false, false
}
