package bsondoc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"math/big"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// typeOrder is the order of types in comparisons. All numbers are one type, and so
// are strings and symbols.
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

// TypeName returns the server's name of a type; "missing" for type 0.
func TypeName(t bson.Type) string { return typeNames[t] }

// TypeByName returns the type that has that name.
func TypeByName(name string) (t bson.Type, ok bool) {
	for t, n := range typeNames {
		if n == name && t != 0 {
			return t, true
		}
	}
	return 0, false
}

// KnownType reports whether there is a type of that number.
func KnownType(t bson.Type) bool { return t != 0 && typeNames[t] != "" }

// Compare returns -1, 0 or +1 by the server's order: by type first, then by value.
func Compare(a, b bson.RawValue) int {
	if c := cmp.Compare(typeOrder[a.Type], typeOrder[b.Type]); c != 0 {
		return c
	}
	switch typeOrder[a.Type] {
	case 3:
		return compareNumbers(a, b)
	case 4:
		return strings.Compare(Text(a), Text(b))
	case 5, 6:
		return CompareDocs(a.Value, b.Value)
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

// SameType reports whether two values are of types that compare by value, as all
// numbers do.
func SameType(a, b bson.RawValue) bool { return typeOrder[a.Type] == typeOrder[b.Type] }

// Equal reports whether two values compare as equal, such as 1 and 1.0.
func Equal(a, b bson.RawValue) bool { return Compare(a, b) == 0 }

// Identical reports whether two values have the same type and the same bytes.
func Identical(a, b bson.RawValue) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }

// IsText reports whether v is a string or a symbol.
func IsText(v bson.RawValue) bool { return typeOrder[v.Type] == 4 }

// Text returns the text of a string or symbol.
func Text(v bson.RawValue) string {
	if v.Type == bson.TypeSymbol {
		return v.Symbol()
	}
	return v.StringValue()
}

// CompareDocs compares documents field by field: by type, then name, then value.
func CompareDocs(a, b bson.Raw) int {
	as, bs := Fields(a), Fields(b)
	for i := range min(len(as), len(bs)) {
		av, bv := as[i].Value(), bs[i].Value()
		if c := cmp.Compare(typeOrder[av.Type], typeOrder[bv.Type]); c != 0 {
			return c
		}
		if c := strings.Compare(as[i].Key(), bs[i].Key()); c != 0 {
			return c
		}
		if c := Compare(av, bv); c != 0 {
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
		ax, _ := Float(a)
		bx, _ := Float(b)
		return cmp.Compare(ax, bx)
	}
	return af.Cmp(bf)
}

// asExact returns a finite number as a fraction.
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

// IsNumber reports whether v is a number of any type.
func IsNumber(v bson.RawValue) bool { return typeOrder[v.Type] == 3 }

// Float returns any number as the nearest double; false if v is no number.
func Float(v bson.RawValue) (float64, bool) {
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

// Int returns a number that has no fraction and fits; false for any other value.
func Int(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return int64(v.Int32()), true
	case bson.TypeInt64:
		return v.Int64(), true
	}
	x, ok := Float(v)
	if !ok || x != math.Trunc(x) || math.Abs(x) >= 1<<63 {
		return 0, false
	}
	return int64(x), true
}

// Int32 returns a 32-bit integer as a value.
func Int32(i int32) bson.RawValue {
	return bson.RawValue{Type: bson.TypeInt32, Value: binary.LittleEndian.AppendUint32(nil, uint32(i))}
}

// Int64 returns a 64-bit integer as a value.
func Int64(i int64) bson.RawValue {
	return bson.RawValue{Type: bson.TypeInt64, Value: binary.LittleEndian.AppendUint64(nil, uint64(i))}
}

// Canonical returns a key that is the same for two values if and only if they are
// [Equal].
func Canonical(v bson.RawValue) string { return string(appendCanonical(nil, v)) }

func appendCanonical(b []byte, v bson.RawValue) []byte {
	b = append(b, byte(typeOrder[v.Type]))
	switch typeOrder[v.Type] {
	case 3:
		if i, ok := Int(v); ok {
			return append(b, "i"+big.NewInt(i).String()+";"...)
		}
		if r, ok := asExact(v); ok {
			return append(b, r.String()+";"...)
		}
		x, _ := Float(v)
		return binary.BigEndian.AppendUint64(append(b, 'f'), math.Float64bits(x))
	case 4:
		return append(append(b, strings.ReplaceAll(Text(v), "\x00", "\x00\x01")...), 0, 0)
	case 5, 6:
		for _, e := range Fields(v.Value) {
			b = append(append(append(b, 1), e.Key()...), 0)
			b = appendCanonical(b, e.Value())
		}
		return append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(v.Value)))
	return append(b, v.Value...)
}
