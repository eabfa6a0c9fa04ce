package resumetoken

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// strange are tokens that no MongoDB server writes, which must be kept byte for
// byte as well.
func strange(t testing.TB) map[string]Token {
	t.Helper()
	deep := bson.D{}
	for range 500 {
		deep = bson.D{{Key: "a", Value: deep}}
	}
	twice := bson.D{{Key: "_data", Value: "82"}, {Key: "_data", Value: "83"}}
	return map[string]Token{
		"an opaque string":              hexToken(t, "0164BE9D"),
		"an empty string":               hexToken(t, ""),
		"quotes and controls":           hexToken(t, "a\"b\\c\n\x00\x01\u2028<&>é"),
		"text that is not UTF-8":        hexToken(t, "\xff\xfe"),
		"binary data":                   tokenOf(t, bson.D{{Key: "_data", Value: bson.Binary{Data: []byte("{}")}}, {Key: "_kind", Value: int32(1)}}),
		"type bits":                     tokenOf(t, bson.D{{Key: "_data", Value: "82"}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{0x81, 0x80}}}}),
		"type bits of another kind":     tokenOf(t, bson.D{{Key: "_data", Value: "82"}, {Key: "_typeBits", Value: bson.Binary{Subtype: 5, Data: []byte{1}}}}),
		"type bits and more":            tokenOf(t, bson.D{{Key: "_data", Value: "82"}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{1}}}, {Key: "x", Value: 1}}),
		"_data that is not first":       tokenOf(t, bson.D{{Key: "a", Value: int64(1)}, {Key: "_data", Value: "82"}}),
		"a field twice":                 tokenOf(t, twice),
		"deep":                          tokenOf(t, bson.D{{Key: "_data", Value: deep}}),
		"a NaN with a payload":          tokenOf(t, bson.D{{Key: "_data", Value: math.Float64frombits(0x7FF8000000000001)}}),
		"a decimal with no value":       tokenOf(t, bson.D{{Key: "_data", Value: bson.NewDecimal128(0x6C00000000000000, 7)}}),
		"old binary data":               tokenOf(t, bson.D{{Key: "_data", Value: bson.Binary{Subtype: 2, Data: []byte("x")}}}),
		"what looks like Extended JSON": tokenOf(t, bson.D{{Key: "_data", Value: bson.D{{Key: "$numberInt", Value: "1"}}}}),
		"the name of our own form":      tokenOf(t, bson.D{{Key: "_data", Value: "82"}, {Key: bsonField, Value: "x"}}),
		"our own form inside out":       tokenOf(t, bson.D{{Key: bsonField, Value: "DQAAAAA="}, {Key: "_data", Value: "82"}}),
		"a key with a NUL in its value": tokenOf(t, bson.D{{Key: "_data", Value: bson.Symbol("a\x00b")}}),
	}
}

func TestExtJSONRoundTrip(t *testing.T) {
	all := strange(t)
	genuine, broken := knownTokens(t)
	for _, k := range append(genuine, broken...) {
		all[k.Data] = k.token(t)
	}
	for _, s := range serverTokens(t) {
		all[string(s.Token.doc)] = s.Token
	}
	for name, tok := range all {
		roundTrip(t, name, tok)
	}
}

func roundTrip(t *testing.T, name string, tok Token) {
	t.Helper()
	text, err := tok.ExtJSON()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	back, err := Parse(text)
	if err != nil || back != tok {
		t.Errorf("%s: %s came back as another token (%v)", name, text, err)
	}
	if plain, ok := tok.appendPlain(nil); ok && !bytes.Equal(plain, tok.slowExtJSON()) {
		t.Errorf("%s: the fast path writes %s, the slow one %s", name, plain, tok.slowExtJSON())
	}
}

// What people, mongosh scripts and other programs find in a checkpoint.
func TestExtJSONIsCanonical(t *testing.T) {
	for want, tok := range map[string]Token{
		`{"_data":"8264AB"}`: hexToken(t, "8264AB"),
		`{"_data":"0164"}`:   hexToken(t, "0164"),
		`{"_data":"82","_typeBits":{"$binary":{"base64":"gYA=","subType":"00"}}}`:           strange(t)["type bits"],
		`{"_data":{"$binary":{"base64":"e30=","subType":"00"}},"_kind":{"$numberInt":"1"}}`: strange(t)["binary data"],
		`{"$tokenBSON":"EwAAAAJfZGF0YQADAAAA//4AAA=="}`:                                     strange(t)["text that is not UTF-8"],
	} {
		if got, err := tok.ExtJSON(); string(got) != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
}

func TestFastPathIsTaken(t *testing.T) {
	genuine, _ := knownTokens(t)
	taken := 0
	for _, k := range genuine {
		if text, ok := k.token(t).appendPlain(nil); ok {
			taken++
			if tok, ok := parsePlain(text); !ok || tok != k.token(t) {
				t.Errorf("%s is not read the short way", text)
			}
		}
	}
	// All but the two of binary data.
	if taken != len(genuine)-2 {
		t.Errorf("for %d of %d tokens, want %d", taken, len(genuine), len(genuine)-2)
	}
}

func TestParse(t *testing.T) {
	want := hexToken(t, "8264")
	for _, text := range []string{`{"_data":"8264"}`, ` { "_data" : "8264" } `, `{"\u005fdata":"8264"}`} {
		if got, err := Parse([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                     "not Extended JSON",
		"secret":                               "not Extended JSON",
		`{"_data":"secret"`:                    "not Extended JSON",
		`{"_data":"secret"} trailing`:          "not Extended JSON",
		`{"_data":"secret"}{"_data":"secret"}`: "not Extended JSON",
		`["secret"]`:                           "not Extended JSON",
		`null`:                                 "empty",
		`{"_data":"secret","_typeBits":{"$binary":"??","$type":"00"}}`: "not Extended JSON",
		`{}`:                        "no _data",
		`{"a":"secret"}`:            "no _data",
		`{"$tokenBSON":1}`:          "not a string",
		`{"$tokenBSON":"secret?"}`:  "not base64",
		`{"$tokenBSON":""}`:         "empty",
		`{"$tokenBSON":"c2VjcmV0"}`: "not a BSON document",
	} {
		tok, err := Parse([]byte(text))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want ErrInvalid about %q", text, err, want)
		}
		if !tok.IsZero() || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a token, or its contents in the error: %v", text, err)
		}
	}
}

func BenchmarkExtJSON(b *testing.B) {
	tok, _ := secretToken(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tok.ExtJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExtJSONWithTypeBits(b *testing.B) {
	tok := strange(b)["type bits"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tok.ExtJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	tok, _ := secretToken(b)
	raw := tok.Raw()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	tok, _ := secretToken(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tok.Decode(); err != nil {
			b.Fatal(err)
		}
	}
}
