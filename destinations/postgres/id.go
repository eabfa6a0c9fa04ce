package postgres

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/extjson"
)

// maxID bounds the text of an _id: an entry of a PostgreSQL index holds at most some
// 2,700 bytes. A longer text is cut, and a hash stands for the rest.
const maxID = 1024

// idText is what the column _id has for an _id; the package documentation has its form.
// Two _ids have the same text if and only if MongoDB holds them for equal.
func idText(v bson.RawValue) (string, error) {
	text, err := appendID(make([]byte, 0, 32), v)
	if err != nil || len(text) <= maxID {
		return string(text), err
	}
	sum := sha256.Sum256(text)
	cut := text[:maxID]
	for !utf8.Valid(cut) {
		cut = cut[:len(cut)-1]
	}
	return string(cut) + "…sha256:" + hex.EncodeToString(sum[:]), nil
}

// appendID appends the text of a whole _id, which is plainer than in a document.
func appendID(dst []byte, v bson.RawValue) ([]byte, error) {
	switch v.Type {
	case bson.TypeObjectID:
		if oid, ok := v.ObjectIDOK(); ok {
			return hex.AppendEncode(dst, oid[:]), nil
		}
	case bson.TypeBinary:
		if subtype, data, ok := v.BinaryOK(); ok && isUUID(subtype, data) {
			return appendUUID(dst, data), nil
		}
	case bson.TypeDateTime:
		if text, err := extjson.AppendValue(nil, v, extjson.Simplified); err == nil {
			return append(dst, text[1:len(text)-1]...), nil // without its quotes
		}
	case bson.TypeMinKey:
		return append(dst, "MinKey"...), nil
	case bson.TypeMaxKey:
		return append(dst, "MaxKey"...), nil
	case bson.TypeUndefined:
		return append(dst, "undefined"...), nil
	case bson.TypeDouble, bson.TypeDecimal128:
		if f, ok := asDouble(v); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return append(dst, special(f)...), nil
		}
	}
	return appendPart(dst, v)
}

// appendPart appends a value as JSON.
func appendPart(dst []byte, v bson.RawValue) ([]byte, error) {
	switch v.Type {
	case bson.TypeString, bson.TypeSymbol:
		return appendString(dst, v)
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return appendNumber(dst, v)
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return appendParts(dst, v)
	case bson.TypeBinary:
		return appendBinary(dst, v)
	case bson.TypeCodeWithScope:
		return appendCode(dst, v)
	}
	return extjson.AppendValue(dst, v, extjson.Canonical)
}

func appendParts(dst []byte, v bson.RawValue) ([]byte, error) {
	elements, err := bson.Raw(v.Value).Elements()
	if err != nil || bson.Raw(v.Value).Validate() != nil {
		return dst, errMalformedID
	}
	array := v.Type == bson.TypeArray
	brackets := "{}"
	if array {
		brackets = "[]"
	}
	dst = append(dst, brackets[0])
	for i, e := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		if !array {
			dst = append(appendName(dst, e.Key()), ':')
		}
		if dst, err = appendPart(dst, e.Value()); err != nil {
			return dst, err
		}
	}
	return append(dst, brackets[1]), nil
}

var errMalformedID = fmt.Errorf("its _id is malformed BSON")

// appendName appends the name of a field. One that begins with "$" has that escaped, so
// that a document can't look like a value of another type.
func appendName(dst []byte, name string) []byte {
	if name == "" || name[0] != '$' {
		return appendQuoted(dst, name)
	}
	dst = append(dst, `"\u0024`...)
	return append(appendEscaped(dst, name[1:]), '"')
}

func appendString(dst []byte, v bson.RawValue) ([]byte, error) {
	text, ok := v.StringValueOK()
	if !ok {
		text, ok = v.SymbolOK()
	}
	if !ok {
		return dst, errMalformedID
	}
	return appendQuoted(dst, text), nil
}

func appendQuoted(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// appendEscaped escapes what jsonb escapes, and U+0000; a byte that isn't UTF-8 becomes
// \xff, which no character does.
func appendEscaped(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, s[i])
		case r == '"' || r == '\\':
			dst = append(dst, '\\', s[i])
		case r == '\b':
			dst = append(dst, `\b`...)
		case r == '\f':
			dst = append(dst, `\f`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = append(dst, s[i:i+size]...)
		}
		i += size
	}
	return dst
}

// appendNumber appends a number by its value, whatever its type is.
func appendNumber(dst []byte, v bson.RawValue) ([]byte, error) {
	switch v.Type {
	case bson.TypeInt32:
		if n, ok := v.Int32OK(); ok {
			return strconv.AppendInt(dst, int64(n), 10), nil
		}
		return dst, errMalformedID
	case bson.TypeInt64:
		if n, ok := v.Int64OK(); ok {
			return strconv.AppendInt(dst, n, 10), nil
		}
		return dst, errMalformedID
	}
	if f, ok := asDouble(v); ok {
		return appendDouble(dst, f), nil
	}
	d, ok := v.Decimal128OK()
	if !ok {
		return dst, errMalformedID
	}
	return appendDecimal(dst, d)
}

// asDouble is a double, or a decimal that is exactly one.
func asDouble(v bson.RawValue) (float64, bool) {
	if f, ok := v.DoubleOK(); ok {
		return f, true
	}
	d, ok := v.Decimal128OK()
	switch {
	case !ok:
		return 0, false
	case d.IsNaN():
		return math.NaN(), true
	case d.IsInf() != 0:
		return math.Inf(d.IsInf()), true
	}
	text := d.String()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f == 0 && !isZero(d) {
		return 0, false // beyond the doubles, where no decimal is one
	}
	exact, _ := new(big.Rat).SetString(text)
	return f, exact.Cmp(new(big.Rat).SetFloat64(f)) == 0
}

func isZero(d bson.Decimal128) bool {
	coef, _, err := d.BigInt()
	return err == nil && coef.Sign() == 0
}

// twoTo63 is the first double above those that a 64 bit integer can be.
const twoTo63 = 1 << 63

func appendDouble(dst []byte, f float64) []byte {
	switch {
	case f == math.Trunc(f) && f >= -twoTo63 && f < twoTo63:
		return strconv.AppendInt(dst, int64(f), 10)
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(append(append(dst, `{"$numberDouble":"`...), special(f)...), `"}`...)
	case math.Abs(f) >= twoTo63: // 20 digits or more could be an objectId's
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func special(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return "NaN"
}

// appendDecimal appends a decimal that is no double: as an integer if it is one of 64
// bits, otherwise its digits and exponent, without zeros at the end.
func appendDecimal(dst []byte, d bson.Decimal128) ([]byte, error) {
	coef, exp, err := d.BigInt()
	if err != nil {
		return dst, errMalformedID
	}
	ten, rest := big.NewInt(10), new(big.Int)
	for {
		shorter, r := new(big.Int).QuoRem(coef, ten, rest)
		if r.Sign() != 0 || coef.Sign() == 0 {
			break
		}
		coef, exp = shorter, exp+1
	}
	if exp >= 0 && exp < 20 {
		whole := new(big.Int).Mul(coef, new(big.Int).Exp(ten, big.NewInt(int64(exp)), nil))
		if whole.IsInt64() {
			return whole.Append(dst, 10), nil
		}
	}
	return fmt.Appendf(dst, `{"$numberDecimal":"%sE%+d"}`, coef, exp), nil
}

func isUUID(subtype byte, data []byte) bool { return subtype == bson.TypeBinaryUUID && len(data) == 16 }

func appendUUID(dst, data []byte) []byte {
	return fmt.Appendf(dst, "%x-%x-%x-%x-%x", data[:4], data[4:6], data[6:8], data[8:10], data[10:16])
}

// appendBinary appends binary data. Of the old subtype it keeps the length within, which
// Extended JSON leaves out.
func appendBinary(dst []byte, v bson.RawValue) ([]byte, error) {
	if len(v.Value) < 5 {
		return dst, errMalformedID
	}
	subtype, data := v.Value[4], v.Value[5:]
	if isUUID(subtype, data) {
		return append(appendUUID(append(dst, `{"$uuid":"`...), data), `"}`...), nil
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, `{"$binary":{"base64":"`...), data)
	return fmt.Appendf(dst, `","subType":"%02x"}}`, subtype), nil
}

// appendCode appends code with its scope, a document.
func appendCode(dst []byte, v bson.RawValue) ([]byte, error) {
	code, scope, ok := v.CodeWithScopeOK()
	if !ok {
		return dst, errMalformedID
	}
	dst = appendQuoted(append(dst, `{"$code":`...), code)
	dst, err := appendParts(append(dst, `,"$scope":`...), bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: scope})
	return append(dst, '}'), err
}
