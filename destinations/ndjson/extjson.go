package ndjson

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxDepth bounds how deep documents may nest. The server itself refuses more
// than 250 levels, and encoding/json reads no more than 10,000.
const maxDepth = 1000

// A malformedError says where BSON is broken. It quotes nothing of the document.
type malformedError struct {
	at   int
	what string
}

func (e *malformedError) Error() string {
	return fmt.Sprintf("malformed BSON at byte %d: %s", e.at, e.what)
}

// format is one of the two forms of Extended JSON v2.
type format struct{ canonical bool }

// appendEvent appends doc as Extended JSON v2 to dst: the bytes that
// bson.MarshalExtJSON(doc, canonical, false) writes, at a fifth of the time,
// because it is one walk over the BSON without a value reader and writer in
// between. After an error dst is as it was.
//
// It differs from the driver in two things. The namespace of a DBPointer is
// escaped, as any string is (the driver writes it as it is, and a quote in it
// makes invalid JSON). And documents that nest deeper than maxDepth are an
// error (the driver's recursion has no bound).
func (f format) appendEvent(dst []byte, doc bson.Raw) ([]byte, error) {
	n, err := lengthOf(doc)
	if err == nil && n != len(doc) {
		err = &malformedError{n, "bytes follow the document"}
	}
	if err != nil {
		return dst, err
	}
	out, err := f.appendDocument(dst, doc, false, 0)
	if err != nil {
		return out[:len(dst)], err
	}
	return out, nil
}

// lengthOf is the size of the document that src begins with.
func lengthOf(src []byte) (int, error) {
	if len(src) < 5 {
		return 0, &malformedError{0, "it ends inside a document"}
	}
	n := int64(int32(binary.LittleEndian.Uint32(src)))
	if n < 5 || n > int64(len(src)) {
		return 0, &malformedError{0, "a document's length is wrong"}
	}
	return int(n), nil
}

// appendDocument appends doc, whose length has been checked, as an object or,
// without its keys, as an array.
func (f format) appendDocument(dst, doc []byte, array bool, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, &malformedError{0, "it nests deeper than " + strconv.Itoa(maxDepth) + " levels"}
	}
	brackets := "{}"
	if array {
		brackets = "[]"
	}
	dst = append(dst, brackets[0])
	for i, first := 4, true; i < len(doc); first = false {
		t := bson.Type(doc[i])
		i++
		if t == 0 {
			if i != len(doc) {
				return dst, &malformedError{i, "a document ends before its length"}
			}
			return append(dst, brackets[1]), nil
		}
		key := cstring(doc[i:])
		if key < 0 {
			return dst, &malformedError{i, "a key has no end"}
		}
		if !first {
			dst = append(dst, ',')
		}
		if !array {
			dst = append(appendString(dst, doc[i:i+key]), ':')
		}
		i += key + 1
		var n int
		var err error
		if dst, n, err = f.appendValue(dst, t, doc[i:], depth); err != nil {
			return dst, within(err, i)
		}
		i += n
	}
	return dst, &malformedError{len(doc), "a document has no end"}
}

// cstring is the index of the NUL that ends the string at the start of src, or
// -1. Keys are short, and for them a loop beats bytes.IndexByte.
func cstring(src []byte) int {
	for i, b := range src {
		if b == 0 {
			return i
		}
		if i == 16 {
			if n := bytes.IndexByte(src[i:], 0); n >= 0 {
				return i + n
			}
			return -1
		}
	}
	return -1
}

// within moves the place of an error found in a part to the whole.
func within(err error, offset int) error {
	if m, ok := err.(*malformedError); ok {
		m.at += offset
	}
	return err
}

// fixedSize is how long the values of a type are, for types that have one size.
var fixedSize = [256]int8{
	bson.TypeDouble: 8, bson.TypeObjectID: 12, bson.TypeBoolean: 1, bson.TypeDateTime: 8,
	bson.TypeInt32: 4, bson.TypeTimestamp: 8, bson.TypeInt64: 8, bson.TypeDecimal128: 16,
}

// appendValue appends the value of type t at the start of src, and tells its size.
func (f format) appendValue(dst []byte, t bson.Type, src []byte, depth int) ([]byte, int, error) {
	size := int(fixedSize[t])
	if len(src) < size {
		return dst, 0, &malformedError{0, "it ends inside a value"}
	}
	switch t {
	case bson.TypeString:
		return appendText(dst, src, "", "")
	case bson.TypeObjectID:
		return appendOID(dst, src), size, nil
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		n, err := lengthOf(src)
		if err != nil {
			return dst, 0, err
		}
		dst, err = f.appendDocument(dst, src[:n], t == bson.TypeArray, depth+1)
		return dst, n, err
	case bson.TypeInt32:
		return f.appendInt(dst, int64(int32(binary.LittleEndian.Uint32(src))), `{"$numberInt":"`), size, nil
	case bson.TypeInt64:
		return f.appendInt(dst, int64(binary.LittleEndian.Uint64(src)), `{"$numberLong":"`), size, nil
	case bson.TypeDouble:
		return f.appendDouble(dst, math.Float64frombits(binary.LittleEndian.Uint64(src))), size, nil
	case bson.TypeDateTime:
		return f.appendDate(dst, int64(binary.LittleEndian.Uint64(src))), size, nil
	case bson.TypeTimestamp:
		return appendTimestamp(dst, binary.LittleEndian.Uint64(src)), size, nil
	case bson.TypeBoolean:
		if src[0] > 1 {
			return dst, 0, &malformedError{0, "a boolean is neither true nor false"}
		}
		return strconv.AppendBool(dst, src[0] == 1), size, nil
	case bson.TypeNull:
		return append(dst, "null"...), size, nil
	case bson.TypeBinary:
		return appendBinary(dst, src)
	case bson.TypeDecimal128:
		d := bson.NewDecimal128(binary.LittleEndian.Uint64(src[8:]), binary.LittleEndian.Uint64(src))
		dst = append(append(dst, `{"$numberDecimal":"`...), d.String()...)
		return append(dst, `"}`...), size, nil
	case bson.TypeMinKey:
		return append(dst, `{"$minKey":1}`...), size, nil
	case bson.TypeMaxKey:
		return append(dst, `{"$maxKey":1}`...), size, nil
	case bson.TypeUndefined:
		return append(dst, `{"$undefined":true}`...), size, nil
	case bson.TypeJavaScript:
		return appendText(dst, src, `{"$code":`, "}")
	case bson.TypeSymbol:
		return appendText(dst, src, `{"$symbol":`, "}")
	case bson.TypeRegex:
		return appendRegex(dst, src)
	case bson.TypeDBPointer:
		return appendDBPointer(dst, src)
	case bson.TypeCodeWithScope:
		return f.appendCodeWithScope(dst, src, depth)
	}
	return dst, 0, &malformedError{0, "a value has an unknown type"}
}

// text is the string value at the start of src, and its size.
func text(src []byte) ([]byte, int, error) {
	if len(src) < 5 {
		return nil, 0, &malformedError{0, "it ends inside a string"}
	}
	n := int64(int32(binary.LittleEndian.Uint32(src)))
	if n < 1 || n > int64(len(src)-4) {
		return nil, 0, &malformedError{0, "a string's length is wrong"}
	}
	end := 4 + int(n)
	if src[end-1] != 0 {
		return nil, 0, &malformedError{end - 1, "a string has no end"}
	}
	return src[4 : end-1], end, nil
}

func appendText(dst, src []byte, before, after string) ([]byte, int, error) {
	s, n, err := text(src)
	if err != nil {
		return dst, 0, err
	}
	dst = appendString(append(dst, before...), s)
	return append(dst, after...), n, nil
}

func (f format) appendInt(dst []byte, v int64, name string) []byte {
	if !f.canonical {
		return strconv.AppendInt(dst, v, 10)
	}
	return append(strconv.AppendInt(append(dst, name...), v, 10), `"}`...)
}

func (f format) appendDouble(dst []byte, v float64) []byte {
	special := ""
	switch {
	case math.IsNaN(v):
		special = "NaN"
	case math.IsInf(v, 1):
		special = "Infinity"
	case math.IsInf(v, -1):
		special = "-Infinity"
	}
	named := f.canonical || special != "" // JSON has no such numbers
	if named {
		dst = append(dst, `{"$numberDouble":"`...)
	}
	start := len(dst)
	if special != "" {
		dst = append(dst, special...)
	} else if dst = strconv.AppendFloat(dst, v, 'G', -1, 64); !bytes.ContainsAny(dst[start:], "E.") {
		dst = append(dst, ".0"...) // so that it stays a double when read again
	}
	if named {
		dst = append(dst, `"}`...)
	}
	return dst
}

func appendTimestamp(dst []byte, v uint64) []byte {
	dst = strconv.AppendUint(append(dst, `{"$timestamp":{"t":`...), v>>32, 10)
	dst = strconv.AppendUint(append(dst, `,"i":`...), v&math.MaxUint32, 10)
	return append(dst, "}}"...)
}

func appendOID(dst, src []byte) []byte {
	dst = append(dst, `{"$oid":"`...)
	for _, b := range src[:12] {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return append(dst, `"}`...)
}

func appendBinary(dst, src []byte) ([]byte, int, error) {
	if len(src) < 5 {
		return dst, 0, &malformedError{0, "it ends inside binary data"}
	}
	n := int64(int32(binary.LittleEndian.Uint32(src)))
	if n < 0 || n > int64(len(src)-5) {
		return dst, 0, &malformedError{0, "the length of binary data is wrong"}
	}
	subtype, data := src[4], src[5:5+n]
	if subtype == bson.TypeBinaryBinaryOld && n > 4 {
		inner := int64(int32(binary.LittleEndian.Uint32(data)))
		if inner < 0 || inner > n-4 {
			return dst, 0, &malformedError{5, "the length of binary data is wrong"}
		}
		data = data[4 : 4+inner]
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, `{"$binary":{"base64":"`...), data)
	dst = append(dst, `","subType":"`...)
	dst = append(dst, hexDigits[subtype>>4], hexDigits[subtype&15])
	return append(dst, `"}}`...), 5 + int(n), nil
}

func appendRegex(dst, src []byte) ([]byte, int, error) {
	pattern := cstring(src)
	if pattern < 0 {
		return dst, 0, &malformedError{0, "a regular expression has no end"}
	}
	options := cstring(src[pattern+1:])
	if options < 0 {
		return dst, 0, &malformedError{pattern + 1, "the options of a regular expression have no end"}
	}
	dst = appendString(append(dst, `{"$regularExpression":{"pattern":`...), src[:pattern])
	letters := []rune(string(src[pattern+1 : pattern+1+options]))
	slices.Sort(letters) // the specification asks for alphabetical order
	dst = appendString(append(dst, `,"options":`...), []byte(string(letters)))
	return append(dst, "}}"...), pattern + options + 2, nil
}

func appendDBPointer(dst, src []byte) ([]byte, int, error) {
	dst, n, err := appendText(dst, src, `{"$dbPointer":{"$ref":`, `,"$id":`)
	if err != nil {
		return dst, 0, err
	}
	if len(src) < n+12 {
		return dst, 0, &malformedError{n, "it ends inside a value"}
	}
	dst = appendOID(dst, src[n:])
	return append(dst, "}}"...), n + 12, nil
}

func (f format) appendCodeWithScope(dst, src []byte, depth int) ([]byte, int, error) {
	total, err := lengthOf(src)
	if err != nil {
		return dst, 0, err
	}
	dst, n, err := appendText(dst, src[4:total], `{"$code":`, `,"$scope":`)
	if err != nil {
		return dst, 0, within(err, 4)
	}
	scope := src[4+n : total]
	size, err := lengthOf(scope)
	if err == nil && size != len(scope) {
		err = &malformedError{0, "the scope of code has a wrong length"}
	}
	if err == nil {
		dst, err = f.appendDocument(dst, scope, false, depth+1)
	}
	return append(dst, '}'), total, within(err, 4+n)
}

const hexDigits = "0123456789abcdef"

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (set [256]bool) {
	for b := ' '; b < utf8.RuneSelf; b++ {
		set[b] = b != '"' && b != '\\'
	}
	return set
}()

// appendString appends s as a JSON string, as the driver does: a byte that is
// no UTF-8 becomes \ufffd, and U+2028 and U+2029, at which some readers break
// lines, are escaped.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		size := 1
		if s[i] >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRune(s[i:])
			if !(r == utf8.RuneError && size == 1) && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
		}
		dst = appendEscape(append(dst, s[done:i]...), s[i:i+size])
		i += size
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}

// appendEscape appends the escape of what stands for itself in no JSON string.
func appendEscape(dst, s []byte) []byte {
	switch b := s[0]; {
	case len(s) > 1: // U+2028, U+2029
		return append(dst, '\\', 'u', '2', '0', '2', hexDigits[s[len(s)-1]&15])
	case b >= utf8.RuneSelf:
		return append(dst, `\ufffd`...)
	case b == '"' || b == '\\':
		return append(dst, '\\', b)
	case b == '\n':
		return append(dst, `\n`...)
	case b == '\r':
		return append(dst, `\r`...)
	case b == '\t':
		return append(dst, `\t`...)
	case b == '\b':
		return append(dst, `\b`...)
	case b == '\f':
		return append(dst, `\f`...)
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
	}
}
