package resumetoken

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// FuzzDecode: for any _data and _typeBits, Decode never panics, returns one of
// its two errors, and its results can be read.
func FuzzDecode(f *testing.F) {
	genuine, broken := knownTokens(f)
	for _, k := range append(genuine, broken...) {
		seedDecode(f, k.token(f))
	}
	for _, s := range serverTokens(f) {
		seedDecode(f, s.Token)
	}
	f.Add([]byte(nil), []byte{0x80, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, key, bits []byte) {
		for _, data := range []any{hex.EncodeToString(key), bson.Binary{Data: key}, string(key)} {
			doc := bson.D{{Key: "_data", Value: data}}
			if len(bits) > 0 {
				doc = append(doc, bson.E{Key: "_typeBits", Value: bson.Binary{Data: bits}})
			}
			decodes(t, tokenOf(t, doc))
		}
	})
}

func seedDecode(f *testing.F, tok Token) {
	key, _, err := tok.key()
	if err != nil {
		f.Fatal(err)
	}
	var bits []byte
	if v, err := tok.Raw().LookupErr("_typeBits"); err == nil {
		_, bits = v.Binary()
	}
	f.Add(key, bits)
}

func decodes(t *testing.T, tok Token) {
	t.Helper()
	d, err := tok.Decode()
	if err != nil {
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrOpaque) {
			t.Errorf("%v is neither ErrMalformed nor ErrOpaque", err)
		}
		return
	}
	readable(t, d.DocumentKey)
	readable(t, d.OperationDescription)
	if order, ok := Compare(tok, tok); order != 0 || !ok {
		t.Errorf("it does not compare equal to itself: %d, %v", order, ok)
	}
}

// readable checks a document all the way down.
func readable(t *testing.T, doc bson.Raw) {
	if doc == nil {
		return
	}
	elements, err := doc.Elements()
	if err == nil {
		err = doc.Validate()
	}
	if err != nil {
		t.Fatalf("a broken document came out: %v", err)
	}
	for _, e := range elements {
		switch v := e.Value(); v.Type {
		case bson.TypeEmbeddedDocument:
			readable(t, v.Document())
		case bson.TypeArray:
			readable(t, bson.Raw(v.Array()))
		case bson.TypeCodeWithScope:
			_, scope := v.CodeWithScope()
			readable(t, scope)
		}
	}
}

// FuzzExtJSON: every token survives its text form byte for byte, and the fast
// path writes the same as the slow one. Printing works, too.
func FuzzExtJSON(f *testing.F) {
	for _, tok := range strange(f) {
		f.Add([]byte(tok.Raw()))
	}
	for _, s := range serverTokens(f)[:20] {
		f.Add([]byte(s.Token.Raw()))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		tok, err := New(doc)
		if err != nil {
			t.Skip()
		}
		roundTrip(t, "the token", tok)
		if !strings.HasPrefix(tok.String(), "resume token (") {
			t.Errorf("it prints as %q", tok.String())
		}
	})
}

// FuzzParsePlain: the slow path parses what the fast path does, with the same
// result.
func FuzzParsePlain(f *testing.F) {
	genuine, broken := knownTokens(f)
	for _, k := range append(genuine, broken...) {
		text, err := k.token(f).ExtJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"_data":"82","_typeBits":{"$binary":{"base64":"","subType":"00"}}}`))
	f.Add([]byte(`{"_data":"82","_typeBits":{"$binary":{"base64":"gg=","subType":"00"}}}`))
	f.Add([]byte(`{"_data":"82","_typeBits":{"$binary":{"base64":"gh==","subType":"00"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := parsePlain(text)
		if !ok {
			return
		}
		if want, err := slowParse(text); err != nil || got != want {
			t.Fatalf("%q: % x, and the long way %v, % x", text, got.doc, err, want.doc)
		}
	})
}
