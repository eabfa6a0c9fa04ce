package changestream

import (
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// interpolate is the key i/n of the way from one key to another, for keys that are
// numbers, dates, ObjectIDs or UUIDs; others have nothing between them that could be
// computed.
func interpolate(from, to bson.RawValue, i, n int) (bson.RawValue, bool) {
	if a, b, ok := bothNumbers(from, to); ok {
		v := a + (b-a)*(float64(i)/float64(n))
		return bson.RawValue{Type: bson.TypeDouble, Value: bsoncore.AppendDouble(nil, v)}, !math.IsInf(v, 0) && !math.IsNaN(v)
	}
	if from.Type != to.Type {
		return bson.RawValue{}, false
	}
	switch from.Type {
	case bson.TypeDateTime:
		a, b := from.DateTime(), to.DateTime()
		v := new(big.Int).Sub(big.NewInt(b), big.NewInt(a))
		v.Div(v.Mul(v, big.NewInt(int64(i))), big.NewInt(int64(n)))
		return bson.RawValue{Type: bson.TypeDateTime, Value: bsoncore.AppendDateTime(nil, v.Add(v, big.NewInt(a)).Int64())}, true
	case bson.TypeObjectID:
		return bson.RawValue{Type: bson.TypeObjectID, Value: betweenBytes(from.Value, to.Value, i, n)}, true
	case bson.TypeBinary:
		// Of the deprecated subtype 2 the server has some that are malformed.
		subtype, a, ok := from.BinaryOK()
		other, b, and := to.BinaryOK()
		if !ok || !and || subtype != other || len(a) != len(b) || len(a) > maxInterpolated {
			return bson.RawValue{}, false
		}
		return bson.RawValue{Type: bson.TypeBinary, Value: bsoncore.AppendBinary(nil, subtype, betweenBytes(a, b, i, n))}, true
	}
	return bson.RawValue{}, false
}

// maxInterpolated is the most bytes of a binary key: more than a hash has.
const maxInterpolated = 64

// bothNumbers are two keys as numbers, rounded, if they are.
func bothNumbers(from, to bson.RawValue) (a, b float64, ok bool) {
	number := func(v bson.RawValue) (float64, bool) {
		switch v.Type {
		case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64:
			return v.AsFloat64OK()
		}
		return 0, false
	}
	if a, ok = number(from); ok {
		b, ok = number(to)
	}
	return a, b, ok
}

// betweenBytes interpolates bytes of the same length, as numbers.
func betweenBytes(from, to []byte, i, n int) []byte {
	a, b := new(big.Int).SetBytes(from), new(big.Int).SetBytes(to)
	v := b.Sub(b, a)
	v.Quo(v.Mul(v, big.NewInt(int64(i))), big.NewInt(int64(n)))
	if v.Add(v, a).Sign() < 0 {
		v.SetInt64(0)
	}
	return v.FillBytes(make([]byte, len(from)))
}
