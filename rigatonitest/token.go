package rigatonitest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// token is the resume token of the event m, in the format that servers have
// written since 4.2 (version 1): a KeyString of the cluster time, the version, the token's
// type, the index in the transaction, whether it is an invalidate's, the
// collection's UUID and the documentKey. Package resumetoken reads them.
//
// An _id of a type that is rare as such (a double, a decimal, a regular
// expression, code, an array) is left out of it.
func (m moment) token(key bson.Raw) bson.Raw {
	var uuid []byte
	if m.ns.Coll != "" {
		uuid = collectionUUID(m.ns.String())
	}
	return eventToken(m.at, m.op == "invalidate", uuid, key)
}

func eventToken(at bson.Timestamp, invalidate bool, uuid []byte, key bson.Raw) bson.Raw {
	k := head(at, 128)
	k.bool(invalidate)
	if uuid != nil {
		k.bytes(0x5A, byte(len(uuid)), bson.TypeBinaryUUID)
		k.bytes(uuid...)
		if full := k; key != nil && full.object(key) {
			k = full
		}
	}
	return k.document()
}

// highWaterMark is the token of a time without events.
func highWaterMark(at bson.Timestamp) bson.Raw {
	k := head(at, 0)
	k.bool(false)
	return k.document()
}

func head(at bson.Timestamp, tokenType int64) keyString {
	var k keyString
	k.bytes(0x82)
	k.key = binary.BigEndian.AppendUint32(k.key, at.T)
	k.key = binary.BigEndian.AppendUint32(k.key, at.I)
	k.number(1, typeInt) // the format's version
	k.number(tokenType, typeInt)
	k.number(0, typeInt) // the index in the transaction
	return k
}

// collectionUUID is the same for the same namespace.
func collectionUUID(ns string) []byte {
	sum := sha256.Sum256([]byte(ns))
	uuid := sum[:16]
	uuid[6], uuid[8] = uuid[6]&0x0f|0x40, uuid[8]&0x3f|0x80 // version 4
	return uuid
}

// The type bits of numbers, which the KeyString itself does not distinguish.
const (
	typeInt  = 0
	typeLong = 2
)

// A keyString is a KeyString of version 1 (src/mongo/db/storage/key_string.cpp)
// and its type bits, one of which stands in each element of typeBits.
type keyString struct {
	key      []byte
	typeBits []byte
}

func (k *keyString) bytes(b ...byte) { k.key = append(k.key, b...) }

func (k *keyString) bool(b bool) {
	if b {
		k.bytes(0x6F)
	} else {
		k.bytes(0x6E)
	}
}

func (k *keyString) number(v int64, numberType byte) {
	k.typeBits = append(k.typeBits, numberType&1, numberType>>1)
	if v == 0 {
		k.bytes(0x29)
		return
	}
	magnitude := uint64(max(v, -v)) << 1
	n := (bits.Len64(magnitude) + 7) / 8
	b := binary.BigEndian.AppendUint64(nil, magnitude)[8-n:]
	if v > 0 {
		k.bytes(byte(0x2A + n))
	} else {
		k.bytes(byte(0x28 - n))
		for i := range b {
			b[i] = ^b[i]
		}
	}
	k.bytes(b...)
}

// value appends a value, and reports whether it can.
func (k *keyString) value(v bson.RawValue) bool {
	switch v.Type {
	case bson.TypeNull:
		k.bytes(0x14)
	case bson.TypeInt32:
		k.number(int64(v.Int32()), typeInt)
	case bson.TypeInt64:
		if v.Int64() == math.MinInt64 {
			return false // larger, as a magnitude, than this form of a number
		}
		k.number(v.Int64(), typeLong)
	case bson.TypeString:
		k.typeBits = append(k.typeBits, 0) // not a symbol
		k.bytes(0x3C)
		k.bytes(bytes.ReplaceAll([]byte(v.StringValue()), []byte{0}, []byte{0, 0xFF})...)
		k.bytes(0)
	case bson.TypeEmbeddedDocument:
		return k.object(v.Document())
	case bson.TypeBinary:
		subtype, data := v.Binary()
		if len(data) >= 0xFF || subtype == bson.TypeBinaryBinaryOld {
			return false // they have further lengths in them
		}
		k.bytes(0x5A, byte(len(data)), subtype)
		k.bytes(data...)
	case bson.TypeObjectID:
		oid := v.ObjectID()
		k.bytes(0x64)
		k.bytes(oid[:]...)
	case bson.TypeBoolean:
		k.bool(v.Boolean())
	case bson.TypeDateTime:
		k.bytes(0x78)
		k.key = binary.BigEndian.AppendUint64(k.key, uint64(v.DateTime())^1<<63)
	default:
		return false
	}
	return true
}

func (k *keyString) object(doc bson.Raw) bool {
	elements, err := doc.Elements()
	if err != nil {
		return false
	}
	k.bytes(0x46)
	for _, e := range elements {
		var one keyString
		one.typeBits = k.typeBits
		if !one.value(e.Value()) {
			return false
		}
		k.bytes(genericType(e.Value().Type, one.key[0]))
		k.bytes(append([]byte(e.Key()), 0)...)
		k.bytes(one.key...)
		k.typeBits = one.typeBits
	}
	k.bytes(0)
	return true
}

// genericType stands before the name of a field, and is the same for all
// numbers and for both booleans.
func genericType(t bson.Type, exact byte) byte {
	switch t {
	case bson.TypeInt32, bson.TypeInt64:
		return 0x1E
	case bson.TypeBoolean:
		return 0x6E
	}
	return exact
}

// document is the token, with its type bits if there are any but zeros.
func (k keyString) document() bson.Raw {
	d := bson.D{{Key: "_data", Value: strings.ToUpper(hex.EncodeToString(append(k.key, 0x04)))}}
	if bytes.IndexByte(k.typeBits, 1) >= 0 {
		d = append(d, bson.E{Key: "_typeBits", Value: bson.Binary{Data: packBits(k.typeBits)}})
	}
	return document(d)
}

// packBits writes bits, the lowest first. More than seven have their number of
// bytes before them.
func packBits(each []byte) []byte {
	packed := make([]byte, (len(each)+7)/8)
	for i, b := range each {
		packed[i/8] |= b << (i % 8)
	}
	if len(packed) == 1 && packed[0] < 0x80 {
		return packed
	}
	return append([]byte{0x80 | byte(len(packed))}, packed...)
}
