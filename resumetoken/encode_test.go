package resumetoken

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// Every token of a real server is the same after decoding and encoding.
func TestEncodeIsTheInverseOfDecode(t *testing.T) {
	var tokens []Token
	genuine, _ := knownTokens(t)
	for _, k := range genuine {
		tokens = append(tokens, k.token(t))
	}
	for _, s := range serverTokens(t) {
		tokens = append(tokens, s.Token)
	}
	if len(tokens) < 500 {
		t.Errorf("only %d tokens", len(tokens))
	}
	for _, tok := range tokens {
		d, err := tok.Decode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Encode(d)
		if err != nil {
			t.Errorf("%s: %v", tok.Raw(), err)
			continue
		}
		want := upper(t, tok)
		if _, err := tok.Raw().LookupErr("_typeBits"); err != nil && d.Format == FormatV1 && hasFraction(d) {
			// Its type bits were lost: a server would have written them for a
			// number that is not a 32-bit integer.
			want, got = dataOnly(t, want), dataOnly(t, got)
		}
		if got != want {
			t.Errorf("%s %s\n got %s\nwant %s", d.DocumentKey, d.Format, got.Raw(), want.Raw())
		}
	}
}

func dataOnly(t *testing.T, tok Token) Token {
	t.Helper()
	return hexToken(t, tok.Raw().Lookup("_data").StringValue())
}

// upper returns the token with the digits that servers write: some of the known
// tokens were collected in lower case.
func upper(t *testing.T, tok Token) Token {
	t.Helper()
	var doc bson.D
	if err := bson.Unmarshal(tok.Raw(), &doc); err != nil {
		t.Fatal(err)
	}
	if s, ok := doc[0].Value.(string); ok {
		doc[0].Value = strings.ToUpper(s)
	}
	return tokenOf(t, doc)
}

func TestEncodeHighWaterMarks(t *testing.T) {
	at := bson.Timestamp{T: 0x6A91ADB6, I: 2}
	for format, want := range map[Format]string{
		FormatV1: "826A91ADB6000000022B0229296E04", FormatV2: "826A91ADB6000000022B0429296E1404",
	} {
		got, err := Encode(Decoded{Format: format, ClusterTime: at, HighWaterMark: true})
		if err != nil || got != hexToken(t, want) {
			t.Errorf("%v: %s, %v, want %s", format, got.Raw(), err, want)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	id, err := bson.Marshal(bson.D{{Key: "_id", Value: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	like, err := bson.Marshal(bson.D{{Key: "operationType", Value: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]Decoded{
		"no format":                       {},
		"a format to come":                {Format: FormatV2 + 1},
		"a high-water mark of an event":   {Format: FormatV1, HighWaterMark: true, DocumentKey: id},
		"a high-water mark of 4.0":        {Format: FormatV0, HighWaterMark: true},
		"an invalidate of 3.6":            {Format: Format36, FromInvalidate: true},
		"a transaction of 3.6":            {Format: Format36, TxnOpIndex: 1},
		"a negative transaction index":    {Format: FormatV1, TxnOpIndex: -1},
		"a transaction index of 33 bits":  {Format: FormatV1, TxnOpIndex: 1 << 32},
		"a fragment of v1":                {Format: FormatV1, IsFragment: true},
		"a fragment that is none":         {Format: FormatV2, OperationType: "insert", DocumentKey: id, Fragment: 1},
		"v2 without an operation":         {Format: FormatV2, DocumentKey: id},
		"a description without operation": {Format: FormatV1, OperationDescription: id},
		"a key and a description":         {Format: FormatV2, OperationType: "x", DocumentKey: id, OperationDescription: id},
		"a key like an event identifier":  {Format: FormatV1, DocumentKey: like},
		"a broken document":               {Format: FormatV1, DocumentKey: id[:9]},
	} {
		tok, err := Encode(d)
		if !errors.Is(err, ErrMalformed) || !tok.IsZero() {
			t.Errorf("%s: %v, %v, want ErrMalformed", name, tok, err)
		} else {
			noContents(t, err)
		}
	}
}

// FuzzEncode: what is decoded can be encoded, and then decodes to the same.
func FuzzEncode(f *testing.F) {
	genuine, _ := knownTokens(f)
	for _, k := range genuine {
		seedDecode(f, k.token(f))
	}
	for _, s := range serverTokens(f) {
		seedDecode(f, s.Token)
	}
	f.Fuzz(func(t *testing.T, key, bits []byte) {
		for _, data := range []any{hex.EncodeToString(key), bson.Binary{Data: key}} {
			doc := bson.D{{Key: "_data", Value: data}}
			if len(bits) > 0 {
				doc = append(doc, bson.E{Key: "_typeBits", Value: bson.Binary{Data: bits}})
			}
			d, err := tokenOf(t, doc).Decode()
			if err != nil {
				return
			}
			tok, err := Encode(d)
			if err != nil {
				return // read more leniently than written
			}
			again, err := tok.Decode()
			if err != nil {
				t.Fatalf("%x %x: what was encoded can't be read: %v\n%s", key, bits, err, d.DocumentKey)
			}
			if !same(d, again) {
				t.Fatalf("%x %x: %+v became %+v", key, bits, d, again)
			}
		}
	})
}

// Decimals in particular, which have a form for each size.
func TestEncodeDecimals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hi := rapid.Uint64().Draw(t, "hi")
		if hi>>61&3 == 3 {
			hi &^= 1 << 61
		}
		coefficient := rapid.Uint64Range(0, 0x1ED09BEAD87BF).Draw(t, "coefficient") >> rapid.IntRange(0, 49).Draw(t, "shift")
		exponent := rapid.Uint64Range(0, maxBiasedExponent).Draw(t, "exponent")
		if rapid.Bool().Draw(t, "common") {
			exponent = rapid.Uint64Range(exponentBias-400, exponentBias+320).Draw(t, "exponent near zero")
		}
		hi = hi&(1<<63) | exponent<<49 | coefficient
		want := bson.NewDecimal128(hi, rapid.Uint64().Draw(t, "lo"))
		key, err := bson.Marshal(bson.D{{Key: "_id", Value: want}})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Encode(Decoded{Format: FormatV1, UUID: UUID{1}, DocumentKey: key})
		if err != nil {
			t.Fatal(err)
		}
		d, err := tok.Decode()
		if err != nil || !bytes.Equal(d.DocumentKey, key) {
			t.Fatalf("%v came back as %s, %v", want, d.DocumentKey, err)
		}
	})
}
