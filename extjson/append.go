package extjson

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxDepth bounds how deep documents may nest. encoding/json reads no more than
// 10,000 levels.
const maxDepth = 1000

// Append appends doc to dst in the form m. After an error, what is returned is
// dst as it was.
func Append(dst []byte, doc bson.Raw, m Mode) ([]byte, error) {
	n, err := lengthOf(doc)
	if err == nil && n != len(doc) {
		err = &malformedError{n, "bytes follow the document"}
	}
	if err != nil {
		return dst, err
	}
	out, err := m.appendDocument(dst, doc, false, 0)
	if err != nil {
		return out[:len(dst)], err
	}
	return out, nil
}

// AppendValue appends v to dst in the form m. After an error, what is returned
// is dst as it was.
func AppendValue(dst []byte, v bson.RawValue, m Mode) ([]byte, error) {
	out, n, err := m.appendValue(dst, v.Type, v.Value, 0)
	if err == nil && n != len(v.Value) {
		err = &malformedError{n, "bytes follow the value"}
	}
	if err != nil {
		return out[:len(dst)], err
	}
	return out, nil
}

// A malformedError says where BSON is broken. It quotes nothing of the document.
type malformedError struct {
	at   int
	what string
}

func (e *malformedError) Error() string {
	return fmt.Sprintf("extjson: malformed BSON at byte %d: %s", e.at, e.what)
}

// within moves the offset of an error found in a part to the whole.
func within(err error, offset int) error {
	if m, ok := err.(*malformedError); ok {
		m.at += offset
	}
	return err
}

// lengthOf returns the size of the document that src begins with.
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
func (m Mode) appendDocument(dst, doc []byte, array bool, depth int) ([]byte, error) {
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
		if !first {
			dst = append(dst, ',')
		}
		var n int
		var err error
		if dst, n = appendKey(dst, doc[i:], array); n == 0 {
			return dst, &malformedError{i, "a key has no end"}
		}
		i += n
		if dst, n, err = m.appendValue(dst, t, doc[i:], depth); err != nil {
			return dst, within(err, i)
		}
		i += n
	}
	return dst, &malformedError{len(doc), "a document has no end"}
}

// appendKey appends the key at the start of src, unless it is that of an array,
// and returns its size with the NUL, 0 if it has no end.
func appendKey(dst, src []byte, array bool) ([]byte, int) {
	n := 0
	for n < len(src) && plain[src[n]] {
		n++
	}
	if n == len(src) {
		return dst, 0
	}
	if src[n] == 0 { // most keys, found in one pass
		if !array {
			dst = append(append(append(dst, '"'), src[:n]...), '"', ':')
		}
		return dst, n + 1
	}
	end := bytes.IndexByte(src[n:], 0)
	if end < 0 {
		return dst, 0
	}
	if !array {
		dst = append(appendString(dst, src[:n+end]), ':')
	}
	return dst, n + end + 1
}

// fixedSize is the size of the values of each type that has one size.
var fixedSize = [256]int8{
	bson.TypeDouble: 8, bson.TypeObjectID: 12, bson.TypeBoolean: 1, bson.TypeDateTime: 8,
	bson.TypeInt32: 4, bson.TypeTimestamp: 8, bson.TypeInt64: 8, bson.TypeDecimal128: 16,
}

// appendValue appends the value of type t at the start of src, and returns its size.
func (m Mode) appendValue(dst []byte, t bson.Type, src []byte, depth int) ([]byte, int, error) {
	size := int(fixedSize[t])
	if len(src) < size {
		return dst, 0, &malformedError{0, "it ends inside a value"}
	}
	switch t {
	case bson.TypeString:
		return appendText(dst, src)
	case bson.TypeObjectID:
		return m.appendOID(dst, src), size, nil
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		n, err := lengthOf(src)
		if err != nil {
			return dst, 0, err
		}
		dst, err = m.appendDocument(dst, src[:n], t == bson.TypeArray, depth+1)
		return dst, n, err
	case bson.TypeInt32:
		return m.appendInt(dst, int64(int32(binary.LittleEndian.Uint32(src))), `{"$numberInt":"`), size, nil
	case bson.TypeInt64:
		return m.appendInt(dst, int64(binary.LittleEndian.Uint64(src)), `{"$numberLong":"`), size, nil
	case bson.TypeDouble:
		return m.appendDouble(dst, math.Float64frombits(binary.LittleEndian.Uint64(src))), size, nil
	case bson.TypeDateTime:
		return m.appendDate(dst, int64(binary.LittleEndian.Uint64(src))), size, nil
	case bson.TypeTimestamp:
		return m.appendTimestamp(dst, binary.LittleEndian.Uint64(src)), size, nil
	case bson.TypeBoolean:
		if src[0] > 1 {
			return dst, 0, &malformedError{0, "a boolean is neither true nor false"}
		}
		return strconv.AppendBool(dst, src[0] == 1), size, nil
	case bson.TypeNull:
		return append(dst, "null"...), size, nil
	case bson.TypeBinary:
		return m.appendBinary(dst, src)
	case bson.TypeDecimal128:
		return m.appendDecimal(dst, src), size, nil
	}
	return m.appendRareValue(dst, t, src, depth)
}

// appendRareValue is appendValue for the types that few documents have.
func (m Mode) appendRareValue(dst []byte, t bson.Type, src []byte, depth int) ([]byte, int, error) {
	switch t {
	case bson.TypeMinKey:
		return append(dst, m.choose(`{"$minKey":1}`, `"MinKey"`)...), 0, nil
	case bson.TypeMaxKey:
		return append(dst, m.choose(`{"$maxKey":1}`, `"MaxKey"`)...), 0, nil
	case bson.TypeUndefined:
		return append(dst, m.choose(`{"$undefined":true}`, `null`)...), 0, nil
	case bson.TypeJavaScript:
		return m.appendNamedText(dst, src, `{"$code":`)
	case bson.TypeSymbol:
		return m.appendNamedText(dst, src, `{"$symbol":`)
	case bson.TypeRegex:
		return m.appendRegex(dst, src)
	case bson.TypeDBPointer:
		return m.appendDBPointer(dst, src)
	case bson.TypeCodeWithScope:
		return m.appendCodeWithScope(dst, src, depth)
	}
	return dst, 0, &malformedError{0, "a value has an unknown type"}
}
