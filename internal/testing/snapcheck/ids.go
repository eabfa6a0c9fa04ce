package snapcheck

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// specials are _ids of which there can be few: the ends of the order, and values that
// compare in ways of their own. They are the first slots of each collection.
var specials = []any{
	bson.MinKey{}, bson.MaxKey{}, nil, true, false, math.NaN(), math.Inf(1), math.Inf(-1), "", int64(math.MaxInt64), int64(math.MinInt64),
	bson.D{}, bson.Binary{}, "a\x00b", bson.Timestamp{T: 1, I: 1}, bson.JavaScript("f()"),
}

// idOf returns the _id of a slot of a collection. Numbers that are equal compare as
// one _id, whatever their type: variant chooses among those that there are.
func idOf(slot, variant int) any {
	if slot < len(specials) {
		return specials[slot]
	}
	n := int64(slot)
	switch slot % 11 {
	case 0, 1:
		return number(n-2000, variant)
	case 2:
		return n << 33
	case 3:
		return float64(n) + 0.5
	case 4:
		d, err := bson.ParseDecimal128(fmt.Sprintf("%d.25", n))
		if err != nil {
			panic(err)
		}
		return d
	case 5:
		return fmt.Sprintf("document %d", n)
	case 6, 7:
		var id bson.ObjectID
		binary.BigEndian.PutUint64(id[2:], uint64(n)*0x9E3779B97F4A7C15)
		return id
	case 8:
		return bson.NewDateTimeFromTime(time.UnixMilli(n * 1000))
	case 9:
		return bson.Binary{Subtype: 4, Data: uuid(n)}
	default:
		return bson.D{{Key: "a", Value: fmt.Sprint(n % 7)}, {Key: "b", Value: bson.D{{Key: "c", Value: n}}}}
	}
}

func uuid(n int64) []byte {
	b := make([]byte, 16)
	binary.BigEndian.PutUint64(b, uint64(n)*0xBF58476D1CE4E5B9)
	return b
}

// number is n as one of the four types that have it.
func number(n int64, variant int) any {
	switch variant % 4 {
	case 0:
		return int32(n)
	case 1:
		return n
	case 2:
		return float64(n)
	default:
		d, err := bson.ParseDecimal128(fmt.Sprint(n))
		if err != nil {
			panic(err)
		}
		return d
	}
}

// keyOf names an _id: two that the server takes for one have the same name.
func keyOf(id bson.RawValue) string {
	switch id.Type {
	case bson.TypeInt32:
		return fmt.Sprint("n", id.Int32())
	case bson.TypeInt64:
		return fmt.Sprint("n", id.Int64())
	case bson.TypeDouble:
		f := id.Double()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprint("n", f)
		}
		return "n" + new(big.Rat).SetFloat64(f).RatString()
	case bson.TypeDecimal128:
		if r, ok := new(big.Rat).SetString(id.Decimal128().String()); ok {
			return "n" + r.RatString()
		}
	}
	return string(append([]byte{byte(id.Type)}, id.Value...))
}

// named is an _id for messages.
func named(key string) string {
	if key[0] == 'n' {
		return key[1:]
	}
	return bson.RawValue{Type: bson.Type(key[0]), Value: []byte(key[1:])}.String()
}
