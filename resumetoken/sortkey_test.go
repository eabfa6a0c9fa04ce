package resumetoken_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// The order of KeyStrings is that in which a server's _id index returns values of all
// types, and those with the same KeyString are one value to it.
func TestKeyStringSortsAsAnIndex(t *testing.T) {
	s := testserver.Mongod(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	coll := s.DB.Collection("keys")
	var docs []any
	known := map[string]bool{}
	for range 3000 {
		v := drawValue(r, 0)
		_, raw, err := bson.MarshalValue(v)
		if err != nil {
			t.Fatal(err)
		}
		typ, _, _ := bson.MarshalValue(v)
		key, err := resumetoken.KeyString(bson.RawValue{Type: typ, Value: raw})
		if err != nil {
			t.Fatalf("%#v: %v", v, err)
		}
		known[string(key)] = true
		docs = append(docs, bson.D{{Key: "_id", Value: v}})
	}
	// What is there already under an equal _id is refused as a duplicate.
	_, err := coll.InsertMany(t.Context(), docs, options.InsertMany().SetOrdered(false))
	if err != nil && !isDuplicates(err) {
		t.Fatal(err)
	}
	cursor, err := coll.Find(t.Context(), bson.D{}, options.Find().SetHint(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cursor.Close(context.Background())
	var last []byte
	n := 0
	for ; cursor.Next(t.Context()); n++ {
		v := cursor.Current.Lookup("_id")
		key, err := resumetoken.KeyString(v)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		if bytes.Compare(last, key) >= 0 {
			t.Fatalf("%v has the KeyString %x, after %x", v, key, last)
		}
		last = slices.Clone(key)
	}
	if err := cursor.Err(); err != nil {
		t.Fatal(err)
	}
	if n != len(known) {
		t.Errorf("the server has %d values, of which %d have different KeyStrings", n, len(known))
	}
}

func TestKeyStringOfWhatIsNoValue(t *testing.T) {
	for _, v := range []bson.RawValue{{}, {Type: bson.TypeString, Value: []byte{9, 0, 0, 0, 'x', 0}}, {Type: bson.TypeInt32}} {
		if key, err := resumetoken.KeyString(v); err == nil {
			t.Errorf("%v: %x, want an error", v, key)
		}
	}
}

func isDuplicates(err error) bool {
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) {
		return false
	}
	return !slices.ContainsFunc(bulk.WriteErrors, func(e mongo.BulkWriteError) bool { return e.Code != 11000 })
}

// drawValue draws a value that can be an _id, of every type, often near others.
func drawValue(r *rand.Rand, depth int) any {
	small := func() int { return r.IntN(5) - 2 }
	numbers := []float64{0, 1, -1, 0.5, 1e-300, 5e-324, 1 << 53, 1 << 62, 1 << 63, -1 << 63, 1e300, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN()}
	texts := []string{"", "a", "A", "ab", "a\x00", "a\x00b", "ä", "10", "9", "\U0001F600"}
	text := func() string { return texts[r.IntN(len(texts))] + texts[r.IntN(len(texts))] }
	n := 20
	if depth > 2 {
		n = 16
	}
	switch r.IntN(n) {
	case 0:
		return int32(r.Uint32()) >> r.IntN(32)
	case 1:
		return int64(r.Uint64()) >> r.IntN(64)
	case 2:
		return numbers[r.IntN(len(numbers))]*float64(1-2*r.IntN(2)) + float64(small())
	case 3:
		return math.Float64frombits(r.Uint64())
	case 4:
		d, err := bson.ParseDecimal128([]string{"0", "-0", "1", "1.0", "1.1", "0.1", "-1.5", "1E+6000", "1E-6000", "NaN", "Infinity", "-Infinity", "9007199254740993", "0.30000000000000004", "9223372036854775807.5"}[r.IntN(15)])
		if err != nil {
			panic(err)
		}
		return d
	case 5:
		return text()
	case 6:
		return bson.Symbol(text())
	case 7:
		return r.IntN(2) == 0
	case 8:
		return bson.DateTime(int64(r.Uint64()) >> r.IntN(64))
	case 9:
		return bson.Timestamp{T: r.Uint32() >> r.IntN(32), I: r.Uint32() >> r.IntN(32)}
	case 10:
		var id bson.ObjectID
		for i := range id {
			id[i] = byte(r.IntN(3)) * 0x7F
		}
		return id
	case 11:
		data := make([]byte, []int{0, 1, 2, 3, 16, 254, 255, 256, 300}[r.IntN(9)])
		for i := range data {
			data[i] = byte(r.IntN(2)) * 0xFF
		}
		return bson.Binary{Subtype: []byte{0, 1, 3, 4, 5, 128}[r.IntN(6)], Data: data}
	case 12:
		return []any{bson.MinKey{}, bson.MaxKey{}, bson.Null{}, bson.Null{}}[r.IntN(4)]
	case 13:
		return bson.JavaScript(text())
	case 14:
		return bson.DBPointer{DB: text(), Pointer: bson.ObjectID{byte(r.IntN(3))}}
	case 15:
		d := bson.NewDecimal128(r.Uint64()>>r.IntN(2), r.Uint64())
		return d
	case 16:
		return bson.CodeWithScope{Code: bson.JavaScript(text()), Scope: drawDocument(r, depth+1)}
	default:
		return drawDocument(r, depth)
	}
}

func drawDocument(r *rand.Rand, depth int) bson.D {
	doc := bson.D{}
	for range r.IntN(3) {
		v := drawValue(r, depth+1)
		if r.IntN(5) == 0 {
			a := bson.A{}
			for range r.IntN(3) {
				a = append(a, drawValue(r, depth+1))
			}
			v = a
		}
		if r.IntN(10) == 0 {
			v = bson.Regex{Pattern: "a" + []string{"", "b"}[r.IntN(2)], Options: []string{"", "i"}[r.IntN(2)]}
		}
		doc = append(doc, bson.E{Key: []string{"a", "b", "ab", ""}[r.IntN(4)], Value: v})
	}
	return doc
}
