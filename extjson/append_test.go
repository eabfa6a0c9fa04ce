package extjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// doc builds a document of one field "v" with a value given as raw bytes.
func doc(t bson.Type, value []byte) bson.Raw {
	b := append([]byte{0, 0, 0, 0, byte(t)}, "v\x00"...)
	b = append(append(b, value...), 0)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

func text32(s string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(s)+1))
	return append(append(b, s...), 0)
}

func must(t testing.TB, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// checkAgainstDriver fails unless the encoder writes what the driver writes.
func checkAgainstDriver(t failer, raw bson.Raw) {
	t.Helper()
	for _, m := range []Mode{Relaxed, Canonical} {
		want, err := bson.MarshalExtJSON(raw, m == Canonical, false)
		if err != nil {
			t.Fatalf("the driver refuses %x: %v", []byte(raw), err)
		}
		want = bytes.ReplaceAll(want, []byte("\u0085"), []byte(`\u0085`))
		got, err := Append([]byte("before"), raw, m)
		if err != nil {
			t.Fatalf("%v: %v\nfor %x", m, err, []byte(raw))
		}
		if string(got) != "before"+string(want) {
			t.Fatalf("%v:\n got %s\nwant %s\nfor %x", m, got[6:], want, []byte(raw))
		}
		checkLine(t, got[6:])
	}
}

// checkLine fails if line can't be one line of a file.
func checkLine(t failer, line []byte) {
	t.Helper()
	if !json.Valid(line) {
		t.Fatalf("no valid JSON: %q", line)
	}
	if bytes.ContainsAny(line, "\n\r\x00\u0085\u2028\u2029") {
		t.Fatalf("a line break or NUL inside a line: %q", line)
	}
}

func TestAppendWritesWhatTheDriverWrites(t *testing.T) {
	oid := bson.ObjectID{0, 1, 2, 0xfe, 0xff, 5, 6, 7, 8, 9, 10, 11}
	values := []any{
		0.0, math.Copysign(0, -1), 1.0, -1.5, 1e20, 1e21, 1e22, 1e-5, 1e-7, 123456789.125, math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.NaN(), math.Inf(1), math.Inf(-1), math.Float64frombits(0x7ff0000000000001),
		"", "plain", "ü→𝄞", "\"\\/<>&", "\x00\x01\x1f\x7f\b\f\n\r\t", "a\u2028b\u2029c", "\u0085\u0084Ã\u0085", strings.Repeat("abcdefg\u0085", 9), "1234567\"", "12345678\\", "\x1f2345678", "\x7f234567\x80", "\ufffd", "a\xffb\xc3", "\xed\xa0\x80",
		int32(0), int32(math.MinInt32), int32(math.MaxInt32), int64(1), int64(math.MinInt64), int64(math.MaxInt64),
		bson.DateTime(0), bson.DateTime(1), bson.DateTime(-1), bson.DateTime(100), bson.DateTime(120), bson.DateTime(1794000000000),
		bson.DateTime(lastDate), bson.DateTime(lastDate + 1), bson.DateTime(math.MinInt64), bson.DateTime(math.MaxInt64),
		bson.Timestamp{T: math.MaxUint32, I: math.MaxUint32}, bson.Timestamp{},
		oid, true, false, nil, bson.Undefined{}, bson.MinKey{}, bson.MaxKey{},
		bson.Binary{Data: []byte{}}, bson.Binary{Subtype: 0x80, Data: []byte{1}}, bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.Binary{Subtype: 3, Data: make([]byte, 16)},
		bson.Binary{Subtype: 2, Data: []byte{}}, bson.Binary{Subtype: 2, Data: []byte("old")}, bson.Binary{Subtype: 0xff, Data: []byte{0xfb, 0xff}},
		bson.Regex{Pattern: "^a\"\\/\n.*", Options: "xmi"}, bson.Regex{}, bson.Regex{Pattern: "\xff", Options: "b\xffa"},
		bson.JavaScript("x\n\"y\""), bson.Symbol("s\"\t"), bson.DBPointer{DB: "db.coll", Pointer: oid},
		bson.CodeWithScope{Code: "f(\"x\")", Scope: bson.D{{Key: "a", Value: bson.D{{Key: "b", Value: int64(1)}}}}}, bson.CodeWithScope{Scope: bson.D{}},
		bson.NewDecimal128(0, 0), bson.NewDecimal128(0x3040000000000000, 1), bson.NewDecimal128(0xb040000000000000, 12345), bson.NewDecimal128(0x7c00000000000000, 0),
		bson.NewDecimal128(0x7800000000000000, 0), bson.NewDecimal128(0xf800000000000000, 0), bson.NewDecimal128(0x5ffe314dc6448d93, 0x38c15b0a00000000), bson.NewDecimal128(math.MaxUint64, math.MaxUint64),
		bson.D{}, bson.A{}, bson.A{bson.A{bson.D{}}, bson.D{{Key: "", Value: bson.A{nil, nil}}}}, bson.D{{Key: "a\"\n\xff\u2028", Value: 1}, {Key: strings.Repeat("k", 40), Value: 2}},
	}
	all := bson.A{}
	for _, v := range values {
		checkAgainstDriver(t, must(t, bson.D{{Key: "v", Value: v}}))
		all = append(all, v, bson.D{{Key: "nested", Value: v}})
	}
	checkAgainstDriver(t, must(t, bson.D{{Key: "all", Value: all}, {Key: "scope", Value: bson.CodeWithScope{Code: "c", Scope: bson.D{{Key: "all", Value: all}}}}}))
	checkAgainstDriver(t, must(t, bson.D{}))

	// Values that the driver reads and never writes.
	checkAgainstDriver(t, doc(bson.TypeBinary, []byte{3, 0, 0, 0, 2, 'a', 'b', 'c'}))
	checkAgainstDriver(t, doc(bson.TypeBinary, []byte{6, 0, 0, 0, 2, 1, 0, 0, 0, 'a', 'b'}))
	checkAgainstDriver(t, doc(bson.TypeArray, must(t, bson.D{{Key: "not a number", Value: 1}, {Key: "", Value: 2}})))
}

func TestDBPointerIsEscaped(t *testing.T) {
	raw := must(t, bson.D{{Key: "v", Value: bson.DBPointer{DB: "d\"b\n\xff"}}})
	got, err := Append(nil, raw, Relaxed)
	if want := `{"v":{"$dbPointer":{"$ref":"d\"b\n\ufffd","$id":{"$oid":"000000000000000000000000"}}}}`; err != nil || string(got) != want {
		t.Fatalf("got %s, %v, want %s", got, err, want)
	}
	checkLine(t, got)
}

// anyDocument draws a random document with every type of value.
func anyDocument(depth int) *rapid.Generator[bson.D] {
	return rapid.Custom(func(t *rapid.T) bson.D {
		d := bson.D{}
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			key := strings.ReplaceAll(anyString().Draw(t, "key"), "\x00", "")
			d = append(d, bson.E{Key: key, Value: drawValue(t, depth)})
		}
		return d
	})
}

func anyString() *rapid.Generator[string] {
	special := rapid.SampledFrom([]string{"\n", "\r", "\t", "\b", "\f", "\x00", "\x1f", "\x7f", `"`, `\`, "<", "\u0085", "\u2028", "\u2029", "\ufffd", "\xff", "\xc3", "\xe2\x80", "𝄞", "plain text of some length", ","})
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.SliceOfN(special, 0, 8), func(s []string) string { return strings.Join(s, "") }),
	)
}

func drawValue(t *rapid.T, depth int) any {
	kinds := 20
	if depth == 0 {
		kinds = 17
	}
	str := func() string { return anyString().Draw(t, "string") }
	cstr := func() string { return strings.ReplaceAll(str(), "\x00", "") }
	var oid bson.ObjectID
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return math.Float64frombits(rapid.Uint64().Draw(t, "double bits"))
	case 1:
		return rapid.Float64().Draw(t, "double")
	case 2:
		return str()
	case 3:
		return bson.Binary{Subtype: rapid.Byte().Draw(t, "subtype"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data")}
	case 4:
		return bson.Undefined{}
	case 5:
		copy(oid[:], rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "oid"))
		return oid
	case 6:
		return rapid.Bool().Draw(t, "bool")
	case 7:
		return bson.DateTime(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-100_000, lastDate+100_000)).Draw(t, "date"))
	case 8:
		return nil
	case 9:
		return bson.Regex{Pattern: cstr(), Options: cstr()}
	case 10:
		return bson.JavaScript(str())
	case 11:
		return bson.Symbol(str())
	case 12:
		return rapid.Int32().Draw(t, "int32")
	case 13:
		return bson.Timestamp{T: rapid.Uint32().Draw(t, "T"), I: rapid.Uint32().Draw(t, "I")}
	case 14:
		return rapid.Int64().Draw(t, "int64")
	case 15:
		return bson.NewDecimal128(rapid.Uint64().Draw(t, "high"), rapid.Uint64().Draw(t, "low"))
	case 16:
		return rapid.SampledFrom([]any{bson.MinKey{}, bson.MaxKey{}, bson.DBPointer{DB: "shop.orders"}}).Draw(t, "key")
	case 17:
		return bson.CodeWithScope{Code: bson.JavaScript(str()), Scope: anyDocument(depth-1).Draw(t, "scope")}
	case 18:
		return anyDocument(depth-1).Draw(t, "document")
	default:
		a := bson.A{}
		for range rapid.IntRange(0, 5).Draw(t, "elements") {
			a = append(a, drawValue(t, depth-1))
		}
		return a
	}
}

func TestAppendWritesWhatTheDriverWritesForRandomDocuments(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw, err := bson.Marshal(anyDocument(4).Draw(rt, "document"))
		if err != nil {
			rt.Fatalf("%v", err)
		}
		checkAgainstDriver(rt, raw)
	})
}

func TestMalformedBSONIsAnError(t *testing.T) {
	whole := must(t, event(1, strings.Repeat("x", 20)))
	for n := range whole {
		if _, err := Append(nil, whole[:n], Relaxed); err == nil {
			t.Errorf("the first %d of %d bytes pass for a document", n, len(whole))
		}
	}
	broken := map[string]bson.Raw{
		"bytes behind the document": append(bytes.Clone(whole), 0),
		"unknown type":              doc(0x20, nil),
		"boolean 2":                 doc(bson.TypeBoolean, []byte{2}),
		"string without an end":     doc(bson.TypeString, []byte{2, 0, 0, 0, 'a', 'b'}),
		"string of length 0":        doc(bson.TypeString, []byte{0, 0, 0, 0, 0}),
		"string of length -1":       doc(bson.TypeString, []byte{0xff, 0xff, 0xff, 0xff, 0}),
		"binary of length -1":       doc(bson.TypeBinary, []byte{0xff, 0xff, 0xff, 0xff, 0}),
		"old binary, too long":      doc(bson.TypeBinary, []byte{5, 0, 0, 0, 2, 9, 0, 0, 0, 'a'}),
		"document too short":        doc(bson.TypeEmbeddedDocument, []byte{4, 0, 0, 0}),
		"document with a tail":      doc(bson.TypeEmbeddedDocument, []byte{7, 0, 0, 0, 0, 0, 0}),
		"scope too short":           doc(bson.TypeCodeWithScope, append(append([]byte{14, 0, 0, 0}, text32("a")...), 5, 0, 0, 0, 0)),
		"nested without bound":      nested(maxDepth + 10),
	}
	for name, raw := range broken {
		for m := Relaxed; m <= Simplified; m++ {
			out, err := Append([]byte("kept"), raw, m)
			if err == nil || string(out) != "kept" {
				t.Errorf("%s, %v: got %q, %v", name, m, out, err)
			}
		}
	}
	if _, err := Append(nil, nested(maxDepth-10), Relaxed); err != nil {
		t.Errorf("a document of many levels: %v", err)
	}
}

// nested is a document of n levels.
func nested(n int) bson.Raw {
	raw := bson.Raw{5, 0, 0, 0, 0}
	for range n {
		raw = doc(bson.TypeEmbeddedDocument, raw)
	}
	return raw
}

// event is like a change event of the server's; n makes it unlike others.
func event(n int, payload string) bson.D {
	oid := bson.ObjectID{0x65, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: token(n)}}},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: 1794000000, I: uint32(n)}},
		{Key: "wallTime", Value: bson.DateTime(1794000000000 + int64(n))},
		{Key: "fullDocument", Value: bson.D{{Key: "_id", Value: oid}, {Key: "n", Value: int32(n)}, {Key: "total", Value: 12.5}, {Key: "payload", Value: payload}}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: oid}}},
	}
}

func token(n int) string {
	const hex = "0123456789ABCDEF"
	b := []byte("826AEE2580000000002B022C0100296E5A100400000000000000000000000000000000463C5F6964003C6F7264657200000004")
	for i := range 8 {
		b[10+i] = hex[n>>(28-4*i)&15]
	}
	return string(b)
}
