package rigatoni

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// keyOf is a hash of the document that an event is about: of its namespace and its
// _id. Events of the same document have the same hash; those of different ones
// may. Of a documentKey only the _id counts: an update may change a shard key, and
// its delete and insert must stay in order.
func keyOf(seed maphash.Seed) func(Event) uint64 {
	return func(ev Event) uint64 {
		var h maphash.Hash
		h.SetSeed(seed)
		sent := ev.sent()
		h.Write(document(sent, "ns"))
		hashValue(&h, document(sent, "documentKey").Lookup("_id"))
		return h.Sum64()
	}
}

// isBarrier reports whether an event is about no single document, and so must be
// delivered alone: drop, rename, dropDatabase, invalidate and the like.
func isBarrier(ev Event) bool { return document(ev.sent(), "documentKey") == nil }

// hashValue hashes values alike that MongoDB holds for equal: the number 1 is the
// same _id as an int32, an int64, a double and a decimal.
func hashValue(h *maphash.Hash, v bson.RawValue) {
	if f, ok := numeric(v); ok {
		if math.IsNaN(f) {
			f = math.NaN() // of the many, one
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], math.Float64bits(f))
		h.Write(b[:])
		return
	}
	if v.Type != bson.TypeEmbeddedDocument && v.Type != bson.TypeArray {
		h.WriteByte(byte(v.Type))
		h.Write(v.Value)
		return
	}
	elements, err := bson.Raw(v.Value).Elements()
	if err != nil {
		return // what can't be read has the hash of what comes before it
	}
	for _, e := range elements {
		h.WriteString(e.Key())
		hashValue(h, e.Value())
	}
}

// numeric is a number as a double, rounded: different numbers may become the same.
func numeric(v bson.RawValue) (float64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return float64(v.Int32()), true
	case bson.TypeInt64:
		return float64(v.Int64()), true
	case bson.TypeDouble:
		return v.Double() + 0, true // -0 is 0
	case bson.TypeDecimal128:
		f, _ := strconv.ParseFloat(v.Decimal128().String(), 64)
		return f + 0, true
	}
	return 0, false
}
