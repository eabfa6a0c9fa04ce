package extjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// plainly is the simplified form, written for clarity: what Append must agree with.
func plainly(v any) string {
	switch v := v.(type) {
	case bson.D:
		var parts []string
		for _, e := range v {
			parts = append(parts, quoted(e.Key)+":"+plainly(e.Value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case bson.A:
		var parts []string
		for _, e := range v {
			parts = append(parts, plainly(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case float64:
		return plainFloat(v)
	case string:
		return quoted(v)
	case bson.Binary:
		if v.Subtype == bson.TypeBinaryUUID && len(v.Data) == 16 {
			return fmt.Sprintf(`"%x-%x-%x-%x-%x"`, v.Data[:4], v.Data[4:6], v.Data[6:8], v.Data[8:10], v.Data[10:])
		}
		return quoted(base64.StdEncoding.EncodeToString(v.Data))
	case bson.ObjectID:
		return quoted(v.Hex())
	case bson.DateTime:
		return quoted(plainDate(v.Time().UTC()))
	case bson.Regex:
		letters := []rune(v.Options)
		slices.Sort(letters)
		return `{"pattern":` + quoted(v.Pattern) + `,"options":` + quoted(string(letters)) + `}`
	case bson.DBPointer:
		return `{"$ref":` + quoted(v.DB) + `,"$id":` + quoted(v.Pointer.Hex()) + `}`
	case bson.JavaScript:
		return quoted(string(v))
	case bson.Symbol:
		return quoted(string(v))
	case bson.CodeWithScope:
		return `{"code":` + quoted(string(v.Code)) + `,"scope":` + plainly(v.Scope) + `}`
	case bson.Timestamp:
		return fmt.Sprintf(`{"t":%d,"i":%d}`, v.T, v.I)
	case bson.Decimal128:
		return quoted(v.String())
	case bson.MinKey:
		return `"MinKey"`
	case bson.MaxKey:
		return `"MaxKey"`
	case nil, bson.Undefined:
		return "null"
	default: // bool, int32, int64
		return fmt.Sprint(v)
	}
}

func plainFloat(v float64) string {
	switch {
	case math.IsNaN(v):
		return `"NaN"`
	case math.IsInf(v, 1):
		return `"Infinity"`
	case math.IsInf(v, -1):
		return `"-Infinity"`
	}
	s := fmt.Sprintf("%G", v)
	if !strings.ContainsAny(s, "E.") {
		s += ".0"
	}
	return s
}

func plainDate(t time.Time) string {
	rest := t.Format("-01-02T15:04:05.000Z")
	if y := t.Year(); y < 0 || y > 9999 {
		return fmt.Sprintf("%+07d", y) + rest
	}
	return fmt.Sprintf("%04d", t.Year()) + rest
}

func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err)
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\u0085", `\u0085`)
}

func TestSimplified(t *testing.T) {
	oid := bson.ObjectID{0x65, 0xa1, 2, 0xfe, 0xff, 5, 6, 7, 8, 9, 10, 11}
	uuid := []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	decimal, err := bson.ParseDecimal128("12.50")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		value any
		want  string
	}{
		{12.0, `12.0`}, {0.1, `0.1`}, {1e21, `1E+21`}, {math.NaN(), `"NaN"`}, {math.Inf(1), `"Infinity"`}, {math.Inf(-1), `"-Infinity"`},
		{int32(-5), `-5`}, {int64(math.MaxInt64), `9223372036854775807`}, {decimal, `"12.50"`}, {bson.NewDecimal128(0x7c00000000000000, 0), `"NaN"`},
		{"a\"\n\u0085", `"a\"\n\u0085"`}, {bson.Symbol("s"), `"s"`}, {bson.JavaScript("f()"), `"f()"`},
		{oid, `"65a102feff05060708090a0b"`},
		{bson.DateTime(0), `"1970-01-01T00:00:00.000Z"`}, {bson.DateTime(1794000000120), `"2026-11-06T21:20:00.120Z"`}, {bson.DateTime(-1), `"1969-12-31T23:59:59.999Z"`},
		{bson.DateTime(lastDate), `"9999-12-31T23:59:59.999Z"`}, {bson.DateTime(lastDate + 1), `"+010000-01-01T00:00:00.000Z"`},
		{bson.DateTime(-62167219200000), `"0000-01-01T00:00:00.000Z"`}, {bson.DateTime(-62167219200001), `"-000001-12-31T23:59:59.999Z"`},
		{bson.DateTime(math.MaxInt64), `"+292278994-08-17T07:12:55.807Z"`},
		{bson.Timestamp{T: 5, I: 6}, `{"t":5,"i":6}`},
		{bson.Binary{Data: []byte{0xfb, 0xff}}, `"+/8="`}, {bson.Binary{Subtype: 2, Data: []byte("old")}, `"b2xk"`},
		{bson.Binary{Subtype: 4, Data: uuid}, `"00112233-4455-6677-8899-aabbccddeeff"`}, {bson.Binary{Subtype: 4, Data: uuid[:3]}, `"ABEi"`}, {bson.Binary{Subtype: 3, Data: uuid}, `"ABEiM0RVZneImaq7zN3u/w=="`},
		{true, `true`}, {nil, `null`}, {bson.Undefined{}, `null`}, {bson.MinKey{}, `"MinKey"`}, {bson.MaxKey{}, `"MaxKey"`},
		{bson.Regex{Pattern: "^a/", Options: "mi"}, `{"pattern":"^a/","options":"im"}`},
		{bson.CodeWithScope{Code: "f", Scope: bson.D{{Key: "id", Value: oid}}}, `{"code":"f","scope":{"id":"65a102feff05060708090a0b"}}`},
		{bson.DBPointer{DB: "db.c", Pointer: oid}, `{"$ref":"db.c","$id":"65a102feff05060708090a0b"}`},
		{bson.D{{Key: "a", Value: bson.A{oid, bson.D{}}}}, `{"a":["65a102feff05060708090a0b",{}]}`},
	} {
		raw := must(t, bson.D{{Key: "v", Value: c.value}})
		if got, err := AppendValue([]byte("kept"), raw.Lookup("v"), Simplified); err != nil || string(got) != "kept"+c.want {
			t.Errorf("%v: got %s, %v, want %s", c.value, got, err, c.want)
		}
		if got := plainly(bson.D{{Key: "v", Value: c.value}}); got != `{"v":`+c.want+`}` {
			t.Errorf("the reference writes %s, want %s", got, c.want)
		}
	}
}

func TestSimplifiedOfRandomDocuments(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw, err := bson.Marshal(anyDocument(4).Draw(rt, "document"))
		if err != nil {
			rt.Fatalf("%v", err)
		}
		var d bson.D // as the driver reads it: it strips the length of old binary data
		if err := bson.Unmarshal(raw, &d); err != nil {
			rt.Fatalf("%v", err)
		}
		got, err := Append(nil, raw, Simplified)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		if want := plainly(d); string(got) != want {
			rt.Fatalf("got %s, want %s", got, want)
		}
		checkLine(rt, got)
	})
}

func TestAppendValueTakesOneValue(t *testing.T) {
	for name, v := range map[string]bson.RawValue{
		"too short":    {Type: bson.TypeInt32, Value: []byte{1, 2, 3}},
		"too long":     {Type: bson.TypeInt32, Value: []byte{1, 2, 3, 4, 5}},
		"zero":         {},
		"a torn array": {Type: bson.TypeArray, Value: []byte{9, 0, 0, 0, 0}},
	} {
		if out, err := AppendValue([]byte("kept"), v, Relaxed); err == nil || string(out) != "kept" {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
	}
}

func TestModesAreNamed(t *testing.T) {
	for m, name := range map[Mode]string{Relaxed: "relaxed", Canonical: "canonical", Simplified: "simplified"} {
		text, err := m.MarshalText()
		var back Mode
		if uerr := back.UnmarshalText(text); err != nil || uerr != nil || string(text) != name || m.String() != name || back != m {
			t.Errorf("%d: %q, %v, %v, %v", m, text, back, err, uerr)
		}
	}
	m := Canonical
	if err := m.UnmarshalText([]byte("Relaxed")); err == nil || m != Canonical {
		t.Errorf("an unknown name: %v, %v", m, err)
	}
	if _, err := Mode(7).MarshalText(); err == nil {
		t.Error("Mode(7) has a name")
	}
}
