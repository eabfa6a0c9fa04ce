package resumetoken

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A token's _data is a KeyString, the form in which MongoDB sorts values: the
// bytes of two keys compare as the values do. What follows reads version 1 of
// the format, with all fields ascending, as described in the server's
// src/mongo/db/storage/key_string.cpp, and writes BSON.

// The first byte of an element is its type. Numbers have several such bytes,
// because the size of a number precedes its digits.
const (
	ksEnd           = 0x04
	ksMinKey        = 0x0A
	ksUndefined     = 0x0F
	ksNull          = 0x14
	ksNaN           = 0x1E // also means any number where it precedes a field's name
	ksNegativeLarge = 0x1F
	ksNegative8     = 0x20 // -(2^63) < x <= -(2^55)
	ksNegative1     = 0x27
	ksNegativeSmall = 0x28 // -1 < x < 0
	ksZero          = 0x29
	ksPositiveSmall = 0x2A
	ksPositive1     = 0x2B
	ksPositive8     = 0x32
	ksPositiveLarge = 0x33
	ksString        = 0x3C
	ksObject        = 0x46
	ksArray         = 0x50
	ksBinData       = 0x5A
	ksObjectID      = 0x64
	ksFalse         = 0x6E
	ksTrue          = 0x6F
	ksDate          = 0x78
	ksTimestamp     = 0x82
	ksRegex         = 0x8C
	ksDBRef         = 0x96
	ksCode          = 0xA0
	ksCodeWithScope = 0xAA
	ksMaxKey        = 0xF0
)

// maxDepth limits the nesting of documents. A server allows 200 levels by
// default, and at most 250; the token adds two around an _id.
const maxDepth = 255

// A keyReader reads a KeyString from its front. The first error is kept in err,
// and after that it reads zeros, which end every loop.
type keyReader struct {
	key  []byte // the unread rest
	bits typeBits
	err  error
}

func (r *keyReader) fail(what string) {
	if r.err == nil {
		r.err = malformed(what)
	}
	r.key = nil
}

// bytes reads n bytes; it returns nil after an error.
func (r *keyReader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.key) {
		r.fail("it is cut off")
		return nil
	}
	b := r.key[:n]
	r.key = r.key[n:]
	return b
}

func (r *keyReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// uint64 reads eight bytes, each xor mask: negative numbers are inverted.
func (r *keyReader) uint64(mask byte) uint64 { return r.uint(8, 0, mask) }

// uint appends n more bytes, each xor mask, to the number u.
func (r *keyReader) uint(n int, u uint64, mask byte) uint64 {
	for _, b := range r.bytes(n) {
		u = u<<8 | uint64(b^mask)
	}
	return u
}

// cstring reads up to a zero byte, which is required.
func (r *keyReader) cstring() []byte {
	n := bytes.IndexByte(r.key, 0)
	if n < 0 {
		r.fail("it is cut off")
		return nil
	}
	b := r.bytes(n)
	r.byte()
	return b
}

// text appends a string in which a zero byte is written as 00 FF.
func (r *keyReader) text(dst []byte) []byte {
	for {
		dst = append(dst, r.cstring()...)
		if len(r.key) == 0 || r.key[0] != 0xFF {
			return dst
		}
		r.byte()
		dst = append(dst, 0)
	}
}

// more reports whether another field follows.
func (r *keyReader) more() bool {
	if r.err == nil && len(r.key) == 0 {
		r.fail("it is cut off")
	}
	return r.err == nil && r.key[0] != ksEnd
}

// end checks that the key ends here, and that there were enough type bits.
func (r *keyReader) end() {
	switch {
	case r.more():
		r.fail("it has more fields than a token has")
	case r.err == nil && len(r.key) > 1:
		r.fail("there are bytes after its end")
	case r.bits.overrun:
		r.fail("its _typeBits are cut off")
	}
}

// object appends the document whose first byte has been read.
func (r *keyReader) object(dst []byte, depth int) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for {
		kind := r.byte()
		if kind == 0 {
			return closeAt(append(dst, 0), at)
		}
		name := r.cstring()
		ctype := r.byte()
		if r.err == nil && kind != generic(ctype) {
			r.fail("a field of a document is not of the type that it is said to be")
		}
		dst = r.element(dst, name, ctype, depth)
	}
}

func (r *keyReader) array(dst []byte, depth int) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	var name [20]byte
	for i := int64(0); ; i++ {
		ctype := r.byte()
		if ctype == 0 {
			return closeAt(append(dst, 0), at)
		}
		dst = r.element(dst, strconv.AppendInt(name[:0], i, 10), ctype, depth)
	}
}

// element appends one element of a document. BSON has its type before its name,
// but the type is known only after its value has been read.
func (r *keyReader) element(dst, name []byte, ctype byte, depth int) []byte {
	at := len(dst)
	dst = append(dst, 0)
	dst = append(append(dst, name...), 0)
	t, dst := r.value(dst, ctype, depth)
	dst[at] = byte(t)
	return dst
}

// generic returns the type byte that precedes a field's name. Documents sort by
// type first, where all numbers are one type and both booleans are.
func generic(ctype byte) byte {
	switch {
	case isNumber(ctype):
		return ksNaN
	case ctype == ksTrue:
		return ksFalse
	}
	return ctype
}

func isNumber(ctype byte) bool { return ctype >= ksNaN && ctype <= ksPositiveLarge }

// value appends a value without its type, which it returns.
func (r *keyReader) value(dst []byte, ctype byte, depth int) (bson.Type, []byte) {
	if depth > maxDepth {
		r.fail("its documents are nested too deeply")
	}
	switch {
	case r.err != nil:
		return bson.TypeNull, dst
	case isNumber(ctype):
		return r.number(dst, ctype)
	}
	switch ctype {
	case ksMinKey:
		return bson.TypeMinKey, dst
	case ksMaxKey:
		return bson.TypeMaxKey, dst
	case ksUndefined:
		return bson.TypeUndefined, dst
	case ksNull:
		return bson.TypeNull, dst
	case ksFalse:
		return bson.TypeBoolean, append(dst, 0)
	case ksTrue:
		return bson.TypeBoolean, append(dst, 1)
	case ksDate:
		return bson.TypeDateTime, binary.LittleEndian.AppendUint64(dst, r.uint64(0)^1<<63)
	case ksTimestamp:
		return bson.TypeTimestamp, binary.LittleEndian.AppendUint64(dst, r.uint64(0))
	case ksObjectID:
		return bson.TypeObjectID, append(dst, r.bytes(12)...)
	case ksString:
		if r.bits.bit() == 1 {
			return bson.TypeSymbol, r.bsonString(dst)
		}
		return bson.TypeString, r.bsonString(dst)
	case ksCode:
		return bson.TypeJavaScript, r.bsonString(dst)
	case ksObject:
		return bson.TypeEmbeddedDocument, r.object(dst, depth+1)
	case ksArray:
		return bson.TypeArray, r.array(dst, depth+1)
	case ksBinData:
		return bson.TypeBinary, r.binData(dst)
	case ksRegex:
		dst = append(append(dst, r.cstring()...), 0)
		return bson.TypeRegex, append(append(dst, r.cstring()...), 0)
	case ksDBRef:
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = append(append(dst, r.bytes(int(r.uint(4, 0, 0)))...), 0)
		setLength(dst, at, len(dst)-at-4)
		return bson.TypeDBPointer, append(dst, r.bytes(12)...)
	case ksCodeWithScope:
		at := len(dst)
		dst = r.bsonString(append(dst, 0, 0, 0, 0))
		// The server counts two levels here.
		return bson.TypeCodeWithScope, closeAt(r.object(dst, depth+2), at)
	}
	r.fail("it has a value of an unknown type")
	return bson.TypeNull, dst
}

func (r *keyReader) bsonString(dst []byte) []byte {
	at := len(dst)
	dst = append(r.text(append(dst, 0, 0, 0, 0)), 0)
	setLength(dst, at, len(dst)-at-4)
	return dst
}

func (r *keyReader) binData(dst []byte) []byte {
	n := int(r.byte())
	if n == 0xFF {
		n = int(r.uint(4, 0, 0))
	}
	subtype := r.byte()
	data := r.bytes(n)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(data)))
	return append(append(dst, subtype), data...)
}

// closeAt sets the length of the document that begins at the offset at,
// including the four bytes of the length.
func closeAt(dst []byte, at int) []byte {
	setLength(dst, at, len(dst)-at)
	return dst
}

func setLength(dst []byte, at, n int) { binary.LittleEndian.PutUint32(dst[at:], uint32(n)) }
