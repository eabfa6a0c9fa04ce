package mongotest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"math/big"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// How values compare: by the order of their types first, then by what they are.
// Numbers are one type, and so are strings and symbols.
var typeOrder = map[bson.Type]int{
	bson.TypeMinKey: -1, 0: 0, bson.TypeUndefined: 1, bson.TypeNull: 2,
	bson.TypeInt32: 3, bson.TypeInt64: 3, bson.TypeDouble: 3, bson.TypeDecimal128: 3,
	bson.TypeString: 4, bson.TypeSymbol: 4, bson.TypeEmbeddedDocument: 5, bson.TypeArray: 6, bson.TypeBinary: 7,
	bson.TypeObjectID: 8, bson.TypeBoolean: 9, bson.TypeDateTime: 10, bson.TypeTimestamp: 11, bson.TypeRegex: 12,
	bson.TypeDBPointer: 13, bson.TypeJavaScript: 14, bson.TypeCodeWithScope: 15, bson.TypeMaxKey: 127,
}

var typeNames = map[bson.Type]string{
	0: "missing", bson.TypeDouble: "double", bson.TypeString: "string", bson.TypeEmbeddedDocument: "object", bson.TypeArray: "array",
	bson.TypeBinary: "binData", bson.TypeUndefined: "undefined", bson.TypeObjectID: "objectId", bson.TypeBoolean: "bool",
	bson.TypeDateTime: "date", bson.TypeNull: "null", bson.TypeRegex: "regex", bson.TypeDBPointer: "dbPointer",
	bson.TypeJavaScript: "javascript", bson.TypeSymbol: "symbol", bson.TypeCodeWithScope: "javascriptWithScope",
	bson.TypeInt32: "int", bson.TypeTimestamp: "timestamp", bson.TypeInt64: "long", bson.TypeDecimal128: "decimal",
	bson.TypeMinKey: "minKey", bson.TypeMaxKey: "maxKey",
}

func typeName(t bson.Type) string { return typeNames[t] }

func compare(a, b bson.RawValue) int {
	if c := cmp.Compare(typeOrder[a.Type], typeOrder[b.Type]); c != 0 {
		return c
	}
	switch typeOrder[a.Type] {
	case 3:
		return compareNumbers(a, b)
	case 4:
		return strings.Compare(text(a), text(b))
	case 5, 6:
		return compareDocs(a.Value, b.Value)
	}
	switch a.Type {
	case bson.TypeBinary:
		return compareBinary(a.Value, b.Value)
	case bson.TypeDateTime:
		return cmp.Compare(a.DateTime(), b.DateTime())
	case bson.TypeTimestamp:
		return cmp.Compare(binary.LittleEndian.Uint64(a.Value), binary.LittleEndian.Uint64(b.Value))
	}
	return bytes.Compare(a.Value, b.Value)
}

func equal(a, b bson.RawValue) bool { return compare(a, b) == 0 }

// identical tells whether two values are the same down to their types.
func identical(a, b bson.RawValue) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }

func text(v bson.RawValue) string {
	if v.Type == bson.TypeSymbol {
		return v.Symbol()
	}
	return v.StringValue()
}

// compareDocs compares field by field: type, then name, then value.
func compareDocs(a, b bson.Raw) int {
	as, bs := fields(a), fields(b)
	for i := range min(len(as), len(bs)) {
		av, bv := as[i].Value(), bs[i].Value()
		if c := cmp.Compare(typeOrder[av.Type], typeOrder[bv.Type]); c != 0 {
			return c
		}
		if c := strings.Compare(as[i].Key(), bs[i].Key()); c != 0 {
			return c
		}
		if c := compare(av, bv); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// compareBinary compares by length, then subtype, then the bytes.
func compareBinary(a, b []byte) int {
	if c := cmp.Compare(binary.LittleEndian.Uint32(a), binary.LittleEndian.Uint32(b)); c != 0 {
		return c
	}
	return bytes.Compare(a[4:], b[4:])
}

func compareNumbers(a, b bson.RawValue) int {
	if a.Type == bson.TypeInt32 && b.Type == bson.TypeInt32 {
		return cmp.Compare(a.Int32(), b.Int32())
	}
	af, aExact := asExact(a)
	bf, bExact := asExact(b)
	if !aExact || !bExact { // NaN and the infinities
		ax, _ := asFloat(a)
		bx, _ := asFloat(b)
		return cmp.Compare(ax, bx)
	}
	return af.Cmp(bf)
}

// asExact is a finite number as a fraction.
func asExact(v bson.RawValue) (*big.Rat, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return new(big.Rat).SetInt64(int64(v.Int32())), true
	case bson.TypeInt64:
		return new(big.Rat).SetInt64(v.Int64()), true
	case bson.TypeDouble:
		r := new(big.Rat).SetFloat64(v.Double())
		return r, r != nil
	case bson.TypeDecimal128:
		coef, exp, err := v.Decimal128().BigInt()
		if err != nil {
			return nil, false
		}
		r := new(big.Rat).SetInt(coef)
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exp, -exp))), nil))
		if exp < 0 {
			return r.Quo(r, scale), true
		}
		return r.Mul(r, scale), true
	}
	return nil, false
}

func isNumber(v bson.RawValue) bool { return typeOrder[v.Type] == 3 }

// asFloat is any number, as near as a double can be.
func asFloat(v bson.RawValue) (float64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return float64(v.Int32()), true
	case bson.TypeInt64:
		return float64(v.Int64()), true
	case bson.TypeDouble:
		return v.Double(), true
	case bson.TypeDecimal128:
		d := v.Decimal128()
		if d.IsNaN() {
			return math.NaN(), true
		}
		if sign := d.IsInf(); sign != 0 {
			return math.Inf(sign), true
		}
		r, _ := asExact(v)
		x, _ := r.Float64()
		return x, true
	}
	return 0, false
}

// asInt is a number without a fraction.
func asInt(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return int64(v.Int32()), true
	case bson.TypeInt64:
		return v.Int64(), true
	}
	x, ok := asFloat(v)
	if !ok || x != math.Trunc(x) || math.Abs(x) >= 1<<63 {
		return 0, false
	}
	return int64(x), true
}

func intValue(i int32) bson.RawValue {
	return bson.RawValue{Type: bson.TypeInt32, Value: binary.LittleEndian.AppendUint32(nil, uint32(i))}
}

func longValue(i int64) bson.RawValue {
	return bson.RawValue{Type: bson.TypeInt64, Value: binary.LittleEndian.AppendUint64(nil, uint64(i))}
}

// canonical is the same for two values exactly if they are equal.
func canonical(v bson.RawValue) string { return string(appendCanonical(nil, v)) }

func appendCanonical(b []byte, v bson.RawValue) []byte {
	b = append(b, byte(typeOrder[v.Type]))
	switch typeOrder[v.Type] {
	case 3:
		if i, ok := asInt(v); ok {
			return append(b, "i"+big.NewInt(i).String()+";"...)
		}
		if r, ok := asExact(v); ok {
			return append(b, r.String()+";"...)
		}
		x, _ := asFloat(v)
		return binary.BigEndian.AppendUint64(append(b, 'f'), math.Float64bits(x))
	case 4:
		return append(append(b, strings.ReplaceAll(text(v), "\x00", "\x00\x01")...), 0, 0)
	case 5, 6:
		for _, e := range fields(v.Value) {
			b = append(append(append(b, 1), e.Key()...), 0)
			b = appendCanonical(b, e.Value())
		}
		return append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(v.Value)))
	return append(b, v.Value...)
}
