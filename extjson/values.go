package extjson

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// choose returns what is written in Extended JSON, or else in the simplified form.
func (m Mode) choose(extended, simplified string) string {
	if m == Simplified {
		return simplified
	}
	return extended
}

// open begins an object that names the type of its value. The simplified form
// has the value alone.
func (m Mode) open(dst []byte, name string) []byte {
	if m == Simplified {
		return dst
	}
	return append(dst, name...)
}

func (m Mode) close(dst []byte) []byte {
	if m == Simplified {
		return dst
	}
	return append(dst, '}')
}

func (m Mode) appendInt(dst []byte, v int64, name string) []byte {
	if m != Canonical {
		return strconv.AppendInt(dst, v, 10)
	}
	return append(strconv.AppendInt(append(dst, name...), v, 10), `"}`...)
}

func (m Mode) appendDouble(dst []byte, v float64) []byte {
	if special := specialNumber(v); special != "" { // JSON has no such numbers
		dst = append(m.open(dst, `{"$numberDouble":`), '"')
		return m.close(append(append(dst, special...), '"'))
	}
	if m == Canonical {
		return append(appendFloat(append(dst, `{"$numberDouble":"`...), v), `"}`...)
	}
	return appendFloat(dst, v)
}

func specialNumber(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return ""
}

// appendFloat appends v so that it stays a double when it is read again.
func appendFloat(dst []byte, v float64) []byte {
	start := len(dst)
	dst = strconv.AppendFloat(dst, v, 'G', -1, 64)
	if !bytes.ContainsAny(dst[start:], "E.") {
		dst = append(dst, ".0"...)
	}
	return dst
}

func (m Mode) appendDecimal(dst, src []byte) []byte {
	d := bson.NewDecimal128(binary.LittleEndian.Uint64(src[8:]), binary.LittleEndian.Uint64(src))
	dst = append(m.open(dst, `{"$numberDecimal":`), '"')
	return m.close(append(append(dst, d.String()...), '"'))
}

func (m Mode) appendTimestamp(dst []byte, v uint64) []byte {
	dst = append(m.open(dst, `{"$timestamp":`), `{"t":`...)
	dst = append(strconv.AppendUint(dst, v>>32, 10), `,"i":`...)
	return m.close(append(strconv.AppendUint(dst, v&math.MaxUint32, 10), '}'))
}

func (m Mode) appendOID(dst, src []byte) []byte {
	dst = append(m.open(dst, `{"$oid":`), '"')
	return m.close(append(appendHex(dst, src[:12]), '"'))
}

const hexDigits = "0123456789abcdef"

func appendHex(dst, src []byte) []byte {
	for _, b := range src {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

func (m Mode) appendBinary(dst, src []byte) ([]byte, int, error) {
	subtype, data, n, err := binaryOf(src)
	if err != nil {
		return dst, 0, err
	}
	if m == Simplified {
		return appendSimpleBinary(dst, subtype, data), n, nil
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, `{"$binary":{"base64":"`...), data)
	dst = append(dst, `","subType":"`...)
	dst = append(dst, hexDigits[subtype>>4], hexDigits[subtype&15])
	return append(dst, `"}}`...), n, nil
}

func appendSimpleBinary(dst []byte, subtype byte, data []byte) []byte {
	dst = append(dst, '"')
	if subtype != bson.TypeBinaryUUID || len(data) != 16 {
		return append(base64.StdEncoding.AppendEncode(dst, data), '"')
	}
	dst = appendHex(dst, data[:4])
	for i := 4; i < 10; i += 2 {
		dst = appendHex(append(dst, '-'), data[i:i+2])
	}
	return append(appendHex(append(dst, '-'), data[10:]), '"')
}

// binaryOf reads the binary data at the start of src, and its size.
func binaryOf(src []byte) (subtype byte, data []byte, size int, err error) {
	if len(src) < 5 {
		return 0, nil, 0, &malformedError{0, "it ends inside binary data"}
	}
	n := int64(int32(binary.LittleEndian.Uint32(src)))
	if n < 0 || n > int64(len(src)-5) {
		return 0, nil, 0, &malformedError{0, "the length of binary data is wrong"}
	}
	subtype, data = src[4], src[5:5+n]
	if subtype == bson.TypeBinaryBinaryOld && n > 4 {
		inner := int64(int32(binary.LittleEndian.Uint32(data)))
		if inner < 0 || inner > n-4 {
			return 0, nil, 0, &malformedError{5, "the length of binary data is wrong"}
		}
		data = data[4 : 4+inner]
	}
	return subtype, data, 5 + int(n), nil
}

func (m Mode) appendRegex(dst, src []byte) ([]byte, int, error) {
	pattern := bytes.IndexByte(src, 0)
	if pattern < 0 {
		return dst, 0, &malformedError{0, "a regular expression has no end"}
	}
	options := bytes.IndexByte(src[pattern+1:], 0)
	if options < 0 {
		return dst, 0, &malformedError{pattern + 1, "the options of a regular expression have no end"}
	}
	dst = append(m.open(dst, `{"$regularExpression":`), `{"pattern":`...)
	dst = appendString(dst, src[:pattern])
	letters := []rune(string(src[pattern+1 : pattern+1+options]))
	slices.Sort(letters) // the specification requires alphabetical order
	dst = appendString(append(dst, `,"options":`...), []byte(string(letters)))
	return m.close(append(dst, '}')), pattern + options + 2, nil
}

func (m Mode) appendDBPointer(dst, src []byte) ([]byte, int, error) {
	dst = append(m.open(dst, `{"$dbPointer":`), `{"$ref":`...)
	dst, n, err := appendText(dst, src)
	if err != nil {
		return dst, 0, err
	}
	if len(src) < n+12 {
		return dst, 0, &malformedError{n, "it ends inside a value"}
	}
	dst = m.appendOID(append(dst, `,"$id":`...), src[n:])
	return m.close(append(dst, '}')), n + 12, nil
}

func (m Mode) appendCodeWithScope(dst, src []byte, depth int) ([]byte, int, error) {
	total, err := lengthOf(src)
	if err != nil {
		return dst, 0, err
	}
	dst = append(dst, m.choose(`{"$code":`, `{"code":`)...)
	dst, n, err := appendText(dst, src[4:total])
	if err != nil {
		return dst, 0, within(err, 4)
	}
	dst = append(dst, m.choose(`,"$scope":`, `,"scope":`)...)
	scope := src[4+n : total]
	size, err := lengthOf(scope)
	if err == nil && size != len(scope) {
		err = &malformedError{0, "the scope of code has a wrong length"}
	}
	if err == nil {
		dst, err = m.appendDocument(dst, scope, false, depth+1)
	}
	return append(dst, '}'), total, within(err, 4+n)
}
