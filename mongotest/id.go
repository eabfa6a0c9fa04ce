package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// checkID refuses what an _id can't be.
func checkID(id bson.RawValue) error {
	switch id.Type {
	case bson.TypeArray, bson.TypeRegex, bson.TypeUndefined:
		return failf(53, "The '_id' value cannot be of type %s", typeName(id.Type))
	}
	if name := dollarField(id); name != "" {
		return failf(codeDollarPrefixedFieldName, "_id fields may not contain '$'-prefixed fields: %s is not valid for storage.", name)
	}
	return nil
}

// dollarField is a field within a value whose name begins with a dollar; empty
// if there is none.
func dollarField(v bson.RawValue) string {
	if v.Type != bson.TypeEmbeddedDocument && v.Type != bson.TypeArray {
		return ""
	}
	for _, e := range fields(v.Value) {
		if strings.HasPrefix(e.Key(), "$") {
			return e.Key()
		}
		if name := dollarField(e.Value()); name != "" {
			return name
		}
	}
	return ""
}

// idFirst puts the _id at the front of a document, where it is stored.
func idFirst(doc bson.Raw) bson.Raw {
	if doc.Index(0).Key() == "_id" {
		return doc
	}
	d := newBuilder().value("_id", doc.Lookup("_id"))
	for _, e := range fields(doc) {
		if e.Key() != "_id" {
			d.value(e.Key(), e.Value())
		}
	}
	return d.done()
}
