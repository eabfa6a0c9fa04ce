package mongotest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// shell writes a value as error messages of the server do.
func shell(v bson.RawValue) string {
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
		return shellDoc(v.Document())
	case bson.TypeArray:
		var parts []string
		for _, item := range items(v) {
			parts = append(parts, shell(item))
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

func shellDoc(doc bson.Raw) string {
	var parts []string
	for _, e := range fields(doc) {
		parts = append(parts, e.Key()+": "+shell(e.Value()))
	}
	if parts == nil {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// compact is a value as some messages have it, without the spaces.
func compact(v bson.RawValue) string {
	return strings.NewReplacer("{ ", "{", " }", "}", "[ ", "[", " ]", "]").Replace(shell(v))
}
