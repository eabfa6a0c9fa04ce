package resumetoken

import (
	"bytes"
	"encoding/binary"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A keyWriter writes a KeyString, the inverse of keyReader.
type keyWriter struct {
	key  []byte
	bits bitWriter
	err  error
}

func (w *keyWriter) fail(what string) {
	if w.err == nil {
		w.err = malformed(what)
	}
}

func (w *keyWriter) byte(b byte) { w.key = append(w.key, b) }

// uint64 writes eight bytes, each xor mask.
func (w *keyWriter) uint64(u uint64, mask byte) { w.uint(8, u, mask) }

// uint writes the last n bytes of u, each xor mask.
func (w *keyWriter) uint(n int, u uint64, mask byte) {
	for n--; n >= 0; n-- {
		w.byte(byte(u>>(8*n)) ^ mask)
	}
}

func (w *keyWriter) bool(b bool) {
	if b {
		w.byte(ksTrue)
	} else {
		w.byte(ksFalse)
	}
}

func (w *keyWriter) int32(i int32) {
	w.bits.write(bitsInt, 2)
	w.whole(int64(i))
}

func (w *keyWriter) uuid(u UUID) {
	w.key = append(append(w.key, ksBinData, byte(len(u)), bson.TypeBinaryUUID), u[:]...)
}

func (w *keyWriter) document(doc bson.Raw) {
	if doc.Validate() != nil {
		w.fail("it has a document that is broken")
		return
	}
	w.byte(ksObject)
	w.object(doc, 1)
}

// text writes a string, with zero bytes as 00 FF.
func (w *keyWriter) text(s string) {
	for i := range len(s) {
		w.byte(s[i])
		if s[i] == 0 {
			w.byte(0xFF)
		}
	}
	w.byte(0)
}

func (w *keyWriter) cstring(s string) { w.key = append(append(w.key, s...), 0) }

// object writes the elements of a document and its end, each with its generic
// type before its name.
func (w *keyWriter) object(doc bson.Raw, depth int) {
	elements, err := doc.Elements()
	if err != nil {
		w.fail("it has a document that is broken")
	}
	for _, e := range elements {
		at := len(w.key)
		w.byte(0)
		w.cstring(e.Key())
		ctype := len(w.key)
		w.value(e.Value(), depth)
		if w.err != nil {
			return
		}
		w.key[at] = generic(w.key[ctype])
	}
	w.byte(0)
}

func (w *keyWriter) array(values bson.RawArray, depth int) {
	items, err := values.Values()
	if err != nil {
		w.fail("it has an array that is broken")
	}
	for _, v := range items {
		w.value(v, depth)
	}
	w.byte(0)
}

func (w *keyWriter) value(v bson.RawValue, depth int) {
	if depth > maxDepth {
		w.fail("its documents are nested too deeply")
	}
	if w.err != nil {
		return
	}
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		w.number(v)
	case bson.TypeEmbeddedDocument:
		w.byte(ksObject)
		w.object(v.Document(), depth+1)
	case bson.TypeArray:
		w.byte(ksArray)
		w.array(v.Array(), depth+1)
	case bson.TypeString, bson.TypeSymbol:
		w.stringOrSymbol(v)
	case bson.TypeCodeWithScope:
		code, scope := v.CodeWithScope()
		w.byte(ksCodeWithScope)
		w.text(code)
		w.object(scope, depth+2)
	default:
		w.scalar(v)
	}
}

func (w *keyWriter) stringOrSymbol(v bson.RawValue) {
	w.byte(ksString)
	if v.Type == bson.TypeSymbol {
		w.bits.write(1, 1)
		w.text(v.Symbol())
		return
	}
	w.bits.write(0, 1)
	w.text(v.StringValue())
}

// scalar writes the values that have no type bits and contain no others.
func (w *keyWriter) scalar(v bson.RawValue) {
	switch v.Type {
	case bson.TypeMinKey:
		w.byte(ksMinKey)
	case bson.TypeMaxKey:
		w.byte(ksMaxKey)
	case bson.TypeUndefined:
		w.byte(ksUndefined)
	case bson.TypeNull:
		w.byte(ksNull)
	case bson.TypeBoolean:
		w.bool(v.Boolean())
	case bson.TypeDateTime:
		w.byte(ksDate)
		w.uint64(uint64(v.DateTime())^1<<63, 0)
	case bson.TypeTimestamp:
		t, i := v.Timestamp()
		w.byte(ksTimestamp)
		w.uint64(uint64(t)<<32|uint64(i), 0)
	case bson.TypeObjectID:
		id := v.ObjectID()
		w.key = append(append(w.key, ksObjectID), id[:]...)
	case bson.TypeJavaScript:
		w.byte(ksCode)
		w.text(v.JavaScript())
	case bson.TypeBinary:
		w.binData(v.Value)
	case bson.TypeRegex:
		pattern, options := v.Regex()
		w.byte(ksRegex)
		w.cstring(pattern)
		w.cstring(options)
	case bson.TypeDBPointer:
		ns, id := v.DBPointer()
		ns, _, _ = strings.Cut(ns, "\x00") // where the server, too, takes it to end
		w.byte(ksDBRef)
		w.uint(4, uint64(len(ns)), 0)
		w.key = append(append(w.key, ns...), id[:]...)
	default:
		w.fail("it has a value of an unknown type")
	}
}

// binData writes binary data as it is in a document. (bson.RawValue.Binary
// removes the inner length of subtype 2, which a server keeps.)
func (w *keyWriter) binData(value []byte) {
	n := int(binary.LittleEndian.Uint32(value))
	subtype, data := value[4], value[5:5+n]
	w.byte(ksBinData)
	if n < 0xFF {
		w.byte(byte(n))
	} else {
		w.byte(0xFF)
		w.uint(4, uint64(n), 0)
	}
	w.byte(subtype)
	w.key = append(w.key, data...)
}

// A bitWriter writes _typeBits.
type bitWriter struct {
	data []byte
	next int // in bits
}

// write writes the last n bits of u, the highest first.
func (t *bitWriter) write(u uint, n int) {
	for n--; n >= 0; n-- {
		if t.next%8 == 0 {
			t.data = append(t.data, 0)
		}
		t.data[t.next/8] |= byte(u>>n&1) << (t.next % 8)
		t.next++
	}
}

// bytes returns the bits with their size in front; nil if they are all zero.
func (t *bitWriter) bytes() []byte {
	n := len(t.data)
	switch {
	case len(bytes.Trim(t.data, "\x00")) == 0:
		return nil
	case n == 1 && t.data[0] < 0x80:
		return t.data
	case n <= 0x7F:
		return append([]byte{0x80 | byte(n)}, t.data...)
	}
	return append(binary.LittleEndian.AppendUint32([]byte{0x80}, uint32(n)), t.data...)
}
