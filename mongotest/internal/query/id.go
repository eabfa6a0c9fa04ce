package query

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// CheckID reports why a value can't be an _id. It accepts a missing one.
func CheckID(id bson.RawValue) error {
	switch id.Type {
	case bson.TypeArray, bson.TypeRegex, bson.TypeUndefined:
		return cmderr.Errorf(53, "The '_id' value cannot be of type %s", bsondoc.TypeName(id.Type))
	}
	if name := dollarField(id); name != "" {
		return cmderr.Errorf(cmderr.DollarPrefixedFieldName, "_id fields may not contain '$'-prefixed fields: %s is not valid for storage.", name)
	}
	return nil
}

// dollarField returns the name of a field within v that begins with a dollar, or
// "".
func dollarField(v bson.RawValue) string {
	if v.Type != bson.TypeEmbeddedDocument && v.Type != bson.TypeArray {
		return ""
	}
	for _, e := range bsondoc.Fields(v.Value) {
		if strings.HasPrefix(e.Key(), "$") {
			return e.Key()
		}
		if name := dollarField(e.Value()); name != "" {
			return name
		}
	}
	return ""
}

// IDFirst returns the document as it is stored: with the _id in front.
func IDFirst(doc bson.Raw) bson.Raw {
	if doc.Index(0).Key() == "_id" {
		return doc
	}
	d := bsondoc.New().Value("_id", doc.Lookup("_id"))
	for _, e := range bsondoc.Fields(doc) {
		if e.Key() != "_id" {
			d.Value(e.Key(), e.Value())
		}
	}
	return d.Done()
}
