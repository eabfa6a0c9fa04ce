package postgres

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

func valueOf(t testing.TB, v any) bson.RawValue {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "v", Value: v}})
	if err != nil {
		t.Fatal(err)
	}
	return bson.Raw(raw).Lookup("v")
}

func textOf(t testing.TB, v any) string {
	t.Helper()
	text, err := idText(valueOf(t, v))
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	return text
}

func decimal(t testing.TB, s string) bson.Decimal128 {
	t.Helper()
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Each _id has the text that the documentation promises, and no two have the same that
// are different for MongoDB.
func TestIDText(t *testing.T) {
	oid := bson.ObjectID{0x65, 0xa1, 11: 1}
	long := strings.Repeat("ü", maxID)
	equal := map[string][]any{
		"65a100000000000000000001":             {oid},
		`"65a100000000000000000001"`:           {"65a100000000000000000001"},
		"1":                                    {int32(1), int64(1), 1.0, decimal(t, "1"), decimal(t, "1.00"), decimal(t, "10E-1")},
		`"1"`:                                  {"1", bson.Symbol("1")},
		"0":                                    {int32(0), int64(0), 0.0, math.Copysign(0, -1), decimal(t, "0"), decimal(t, "-0"), decimal(t, "0E+6111")},
		"-7":                                   {int32(-7), -7.0},
		"1.5":                                  {1.5, decimal(t, "1.5"), decimal(t, "1.500")},
		"0.1":                                  {0.1},
		`{"$numberDecimal":"1E-1"}`:            {decimal(t, "0.1"), decimal(t, "0.10")},
		`{"$numberDecimal":"-1E-1"}`:           {decimal(t, "-0.1")},
		"9007199254740992":                     {int64(1 << 53), float64(1 << 53), decimal(t, "9007199254740992")},
		"9007199254740993":                     {int64(1<<53 + 1), decimal(t, "9007199254740993")},
		"9223372036854775807":                  {int64(math.MaxInt64), decimal(t, "9223372036854775807")},
		"-9223372036854775808":                 {int64(math.MinInt64), -float64(1 << 63)},
		"9.223372036854775808e+18":             {decimal(t, "9223372036854775808")},
		"9.223372036854776e+18":                nil,
		"1e+20":                                {1e20, decimal(t, "1E20"), decimal(t, "100000000000000000000")},
		`{"$numberDecimal":"1E+6111"}`:         {decimal(t, "1E6111")},
		`{"$numberDecimal":"1E-6176"}`:         {decimal(t, "1E-6176")},
		"1e-07":                                {1e-7},
		"5e-324":                               {math.SmallestNonzeroFloat64},
		"NaN":                                  {math.NaN(), math.Float64frombits(0x7ff0000000000001), decimal(t, "NaN")},
		"Infinity":                             {math.Inf(1), decimal(t, "Infinity")},
		"-Infinity":                            {math.Inf(-1), decimal(t, "-Infinity")},
		`"NaN"`:                                {"NaN"},
		"00112233-4455-6677-8899-aabbccddeeff": {bson.Binary{Subtype: 4, Data: []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")}},
		`{"$binary":{"base64":"AQ==","subType":"04"}}`: {bson.Binary{Subtype: 4, Data: []byte{1}}},
		`{"$binary":{"base64":"AQ==","subType":"00"}}`: {bson.Binary{Data: []byte{1}}},
		"2026-11-06T21:20:00.120Z":                     {bson.DateTime(1794000000120)},
		"-000001-12-31T00:00:00.000Z":                  {bson.DateTime(-62167305600000)},
		`{"$timestamp":{"t":1,"i":2}}`:                 {bson.Timestamp{T: 1, I: 2}},
		"true":                                         {true},
		"null":                                         {nil},
		"undefined":                                    {bson.Undefined{}},
		"MinKey":                                       {bson.MinKey{}},
		"MaxKey":                                       {bson.MaxKey{}},
		`{}`:                                           {bson.D{}},
		`{"a":1,"b":"x"}`:                              {bson.D{{Key: "a", Value: 1}, {Key: "b", Value: "x"}}, bson.D{{Key: "a", Value: 1.0}, {Key: "b", Value: bson.Symbol("x")}}},
		`{"b":"x","a":1}`:                              {bson.D{{Key: "b", Value: "x"}, {Key: "a", Value: 1}}},
		`{"a":{"$oid":"65a100000000000000000001"}}`:          {bson.D{{Key: "a", Value: oid}}},
		`{"a":{"\u0024oid":"65a100000000000000000001"}}`:     {bson.D{{Key: "a", Value: bson.D{{Key: "$oid", Value: "65a100000000000000000001"}}}}},
		`{"a":["x",null,{"$numberDouble":"NaN"}]}`:           {bson.D{{Key: "a", Value: bson.A{"x", nil, math.NaN()}}}},
		`{"a":{"$date":{"$numberLong":"1"}}}`:                {bson.D{{Key: "a", Value: bson.DateTime(1)}}},
		`"\"\\/\b\f\n\r\t\u0000\u001f` + "\x7f\u0085ü" + `"`: {"\"\\/\b\f\n\r\t\x00\x1f\x7f\u0085ü"},
		`"a\xff"`:                        {"a\xff"},
		`"a\\xff"`:                       {`a\xff`},
		`{"$code":"f","$scope":{"n":1}}`: {bson.CodeWithScope{Code: "f", Scope: bson.D{{Key: "n", Value: 1.0}}}},
		`{"$code":"f"}`:                  {bson.JavaScript("f")},
		`{"$regularExpression":{"pattern":"^a","options":"im"}}`: {bson.Regex{Pattern: "^a", Options: "im"}},
		textOf(t, long):     {long},
		textOf(t, long+"x"): {long + "x"},
	}
	for want, values := range equal {
		for _, v := range values {
			if got := textOf(t, v); got != want && want != "9.223372036854775808e+18" {
				t.Errorf("%T %v: got %s, want %s", v, v, got, want)
			} else if len(got) > 1200 {
				t.Errorf("%T: %d bytes, more than an index takes", v, len(got))
			}
		}
	}
}

// keyOf is how the server itself compares an _id: two are equal if their KeyStrings are.
func keyOf(t testing.TB, v bson.RawValue) string {
	t.Helper()
	key, err := bson.Marshal(bson.D{{Key: "_id", Value: v}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := resumetoken.Encode(resumetoken.Decoded{Format: resumetoken.FormatV1, UUID: resumetoken.UUID{1}, DocumentKey: key})
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	data, _ := token.Raw().Lookup("_data").StringValueOK()
	return data
}

// randomID returns one of rather few _ids, so that equal ones of different types meet.
func randomID(t testing.TB, rng *rand.Rand, depth int) any {
	small := func() int64 { return rng.Int64N(5) - 2 }
	edge := func() int64 { return []int64{0, 1 << 31, 1 << 53, 1 << 62, math.MaxInt64}[rng.IntN(5)] + small() }
	texts := []string{"", "a", "1", "0.1", "$oid", "\x00", "\xff", `\xff`, "\ufffd", "NaN", "65a100000000000000000001", "\u0085", `"`}
	text := texts[rng.IntN(len(texts))]
	switch n := rng.IntN(24); {
	case n == 0:
		return int32(small())
	case n == 1:
		return edge()
	case n == 2:
		return float64(edge()) * []float64{1, 0.1, 0.5, 1e300, 1e-300, -1}[rng.IntN(6)]
	case n == 3:
		return []float64{0.1, 0.2, 0.3, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64, 1e22, 1e23}[rng.IntN(11)]
	case n == 4:
		return decimal(t, fmt.Sprint(edge())+[]string{"", ".0", ".5", "0E-1", "E+2", "E-2", "E+6000"}[rng.IntN(7)])
	case n == 5:
		return decimal(t, []string{"0.1", "0.10", "0.2", "0.3", "0.1000000000000000055511151231257827", "NaN", "-NaN", "Infinity", "-Infinity", "1E+22", "1E+23", "-0", "0E+5", "5E-324"}[rng.IntN(14)])
	case n == 6 || n == 7:
		return text
	case n == 8:
		return bson.Symbol(text)
	case n == 9:
		return rng.IntN(2) == 0
	case n == 10:
		return []any{nil, bson.Undefined{}, bson.MinKey{}, bson.MaxKey{}}[rng.IntN(4)]
	case n == 11:
		return bson.ObjectID{0x65, 0xa1, 11: byte(rng.IntN(2))}
	case n == 12:
		return bson.Binary{Subtype: []byte{0, 3, 4, 5, 0x80}[rng.IntN(5)], Data: make([]byte, []int{0, 1, 16}[rng.IntN(3)])}
	case n == 13:
		return bson.DateTime(edge())
	case n == 14:
		return bson.Timestamp{T: uint32(rng.IntN(2)), I: uint32(rng.IntN(2))}
	case n == 15:
		return bson.JavaScript(text)
	case n == 16:
		return bson.Regex{Pattern: strings.ReplaceAll(text, "\x00", ""), Options: []string{"", "i"}[rng.IntN(2)]}
	case n == 17:
		return bson.CodeWithScope{Code: bson.JavaScript(text), Scope: bson.D{{Key: "a", Value: small()}}}
	case n == 18 && depth > 0:
		return bson.D{{Key: "a", Value: bson.A{randomID(t, rng, depth-1)}}}
	case depth > 0:
		d := bson.D{}
		for range rng.IntN(3) {
			d = append(d, bson.E{Key: []string{"a", "b", "$oid", "$numberDecimal", "", "\xff", "\ufffd"}[rng.IntN(7)], Value: randomID(t, rng, depth-1)})
		}
		return d
	}
	return small()
}

// Two _ids have the same text if and only if the server's own index holds them for equal.
func TestIDTextIsTheServersEquality(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	texts, keys := map[string]string{}, map[string]string{}
	for range 60_000 {
		v := valueOf(t, randomID(t, rng, 2))
		text, err := idText(v)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		key := keyOf(t, v)
		if other, ok := keys[text]; ok && other != key {
			t.Fatalf("%s is the text of %v too, which is another _id", text, v)
		}
		if other, ok := texts[key]; ok && other != text {
			t.Fatalf("%v has the text %s, and an equal _id has %s", v, text, other)
		}
		texts[key], keys[text] = text, key
	}
	if len(texts) < 500 {
		t.Errorf("only %d different _ids", len(texts))
	}
}

// A malformed _id is an error and no panic.
func TestIDMalformed(t *testing.T) {
	for _, typ := range []bson.Type{bson.TypeString, bson.TypeEmbeddedDocument, bson.TypeArray, bson.TypeObjectID, bson.TypeInt64, bson.TypeDecimal128, bson.TypeBinary, bson.TypeCodeWithScope, 0x20} {
		for n := range 5 {
			if text, err := idText(bson.RawValue{Type: typ, Value: make([]byte, n)}); err == nil {
				t.Errorf("%v of %d bytes: %s", typ, n, text)
			}
		}
	}
}
