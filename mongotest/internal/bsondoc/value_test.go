package bsondoc

import (
	"math"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// values of all types, of which many are equal.
func values() *rapid.Generator[bson.RawValue] {
	decimal := func(s string) any {
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			panic(err)
		}
		return d
	}
	leaf := rapid.SampledFrom([]any{
		nil, true, false, int32(0), int32(1), int64(1), 1.0, decimal("1.00"), math.Copysign(0, -1), 0.1, decimal("0.1"), int64(math.MaxInt64), 0x1p63,
		math.NaN(), decimal("NaN"), math.Inf(1), decimal("Infinity"), math.Inf(-1), "", "a", "a\x00", "b", bson.Symbol("a"),
		bson.Binary{Data: []byte("a")}, bson.Binary{Subtype: 4, Data: []byte("a")}, bson.Binary{}, bson.ObjectID{1}, time.UnixMilli(-1), time.UnixMilli(1),
		bson.Timestamp{T: 1}, bson.Timestamp{I: 1}, bson.Regex{Pattern: "a"}, bson.MinKey{}, bson.MaxKey{},
	})
	var nested func(depth int) *rapid.Generator[any]
	nested = func(depth int) *rapid.Generator[any] {
		if depth == 0 {
			return leaf
		}
		return rapid.Custom(func(t *rapid.T) any {
			list := rapid.SliceOfN(nested(depth-1), 0, 2).Draw(t, "list")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				return bson.A(list)
			case 1:
				doc := bson.D{}
				for i, v := range list {
					doc = append(doc, bson.E{Key: string(rune('a' + i)), Value: v})
				}
				return doc
			}
			return leaf.Draw(t, "leaf")
		})
	}
	return rapid.Map(nested(2), func(v any) bson.RawValue {
		b, err := bson.Marshal(bson.D{{Key: "v", Value: v}})
		if err != nil {
			panic(err)
		}
		return bson.Raw(b).Lookup("v")
	})
}

// Compare is an order, in which values are equal if and only if their canonical
// keys are.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := values().Draw(t, "a"), values().Draw(t, "b"), values().Draw(t, "c")
		switch {
		case Compare(a, b) != -Compare(b, a):
			t.Errorf("Compare(%s, %s) is %d, and %d the other way round", Shell(a), Shell(b), Compare(a, b), Compare(b, a))
		case Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0:
			t.Errorf("%s, %s and %s go in a circle", Shell(a), Shell(b), Shell(c))
		case Equal(a, b) != (Canonical(a) == Canonical(b)):
			t.Errorf("Equal(%s, %s) is %v; their keys are %q and %q", Shell(a), Shell(b), Equal(a, b), Canonical(a), Canonical(b))
		}
	})
}

// A Builder writes what the BSON library does.
func TestBuilder(t *testing.T) {
	id, now := bson.NewObjectID(), time.UnixMilli(1_700_000_000_000)
	b := NewSize(0).Str("s", "x").Int32("i", -1).Int64("l", 1<<40).Float("f", 0.5).Bool("t", true).Bool("u", false).Null("n").Date("d", now).
		Timestamp("ts", bson.Timestamp{T: 2, I: 1}).ObjectID("o", id).Binary("b", 4, []byte{1}).Docs("ds", []bson.Raw{Empty}).Strings("ss", []string{"a"})
	b.Doc("e", Empty).DocOrNull("none", nil)
	b.Close(b.Open(bson.TypeArray, "a"))
	want, err := bson.Marshal(bson.D{{Key: "s", Value: "x"}, {Key: "i", Value: int32(-1)}, {Key: "l", Value: int64(1 << 40)}, {Key: "f", Value: 0.5},
		{Key: "t", Value: true}, {Key: "u", Value: false}, {Key: "n", Value: nil}, {Key: "d", Value: now}, {Key: "ts", Value: bson.Timestamp{T: 2, I: 1}},
		{Key: "o", Value: id}, {Key: "b", Value: bson.Binary{Subtype: 4, Data: []byte{1}}}, {Key: "ds", Value: bson.A{bson.D{}}}, {Key: "ss", Value: bson.A{"a"}},
		{Key: "e", Value: bson.D{}}, {Key: "none", Value: nil}, {Key: "a", Value: bson.A{}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Done(); !Identical(Value(got), Value(want)) {
		t.Errorf("built %s\nwanted %s", got, bson.Raw(want))
	}
}
