package bsondoc

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Shell formats a value as the server's error messages do, like the mongo shell.
func Shell(v bson.RawValue) string {
	switch v.Type {
	case 0:
		return "null"
	case bson.TypeDouble:
		s := strconv.FormatFloat(v.Double(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".eIN") {
			s += ".0"
		}
		return s
	case bson.TypeString:
		s := v.StringValue()
		if len(s) >= 160 {
			s = s[:150] + "..."
		}
		return strconv.Quote(s)
	case bson.TypeEmbeddedDocument:
		return ShellDoc(v.Document())
	case bson.TypeArray:
		var parts []string
		for _, item := range Items(v) {
			parts = append(parts, Shell(item))
		}
		if parts == nil {
			return "[]"
		}
		return "[ " + strings.Join(parts, ", ") + " ]"
	case bson.TypeObjectID:
		return "ObjectId('" + v.ObjectID().Hex() + "')"
	case bson.TypeBoolean:
		return strconv.FormatBool(v.Boolean())
	case bson.TypeDateTime:
		return fmt.Sprintf("new Date(%d)", time.Time.UnixMilli(v.Time()))
	case bson.TypeNull:
		return "null"
	case bson.TypeInt32:
		return strconv.Itoa(int(v.Int32()))
	case bson.TypeInt64:
		return strconv.FormatInt(v.Int64(), 10)
	case bson.TypeTimestamp:
		t, i := v.Timestamp()
		return fmt.Sprintf("Timestamp(%d, %d)", t, i)
	case bson.TypeMinKey:
		return "MinKey"
	case bson.TypeMaxKey:
		return "MaxKey"
	}
	return v.String()
}

// ShellDoc is Shell of a document.
func ShellDoc(doc bson.Raw) string {
	var parts []string
	for _, e := range Fields(doc) {
		parts = append(parts, e.Key()+": "+Shell(e.Value()))
	}
	if parts == nil {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// Compact is Shell without the spaces inside brackets, as some messages have it.
func Compact(v bson.RawValue) string {
	return strings.NewReplacer("{ ", "{", " }", "}", "[ ", "[", " ]", "]").Replace(Shell(v))
}
