package resumetoken

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A knownToken is a line of testdata/resume_tokens.jsonl: tokens of real
// servers of every version, with the fields they decode to, and broken ones.
type knownToken struct {
	Data         string
	DataEncoding string `json:"data_encoding"`
	TypeBits     string `json:"type_bits_base64"`
	Class        string
	Source       string
	Decoded      *struct {
		ClusterTime struct{ T, I uint32 } `json:"cluster_time"`
		UTC         time.Time
		Version     *int
		Format      string
		TokenType   string `json:"token_type"`
		TxnOpIndex  int    `json:"txn_op_index"`
		FromInval   bool   `json:"from_invalidate"`
		UUID        *string
		Operation   string          `json:"operation_type"`
		DocumentKey json.RawMessage `json:"document_key"`
		Description json.RawMessage `json:"operation_description"`
	}
}

func (k knownToken) token(t testing.TB) Token {
	t.Helper()
	doc := bson.D{{Key: "_data", Value: k.Data}}
	if k.DataEncoding != "" {
		doc[0].Value = bson.Binary{Data: unbase64(t, k.Data)}
	}
	if k.TypeBits != "" {
		doc = append(doc, bson.E{Key: "_typeBits", Value: bson.Binary{Data: unbase64(t, k.TypeBits)}})
	}
	return tokenOf(t, doc)
}

func knownTokens(t testing.TB) (genuine, broken []knownToken) {
	t.Helper()
	for _, line := range lines(t, "testdata/resume_tokens.jsonl") {
		var k knownToken
		if err := json.Unmarshal(line, &k); err != nil {
			t.Fatal(err)
		}
		if k.Class == "genuine" {
			genuine = append(genuine, k)
		} else {
			broken = append(broken, k)
		}
	}
	return genuine, broken
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tokenOf(t testing.TB, doc any) Token {
	t.Helper()
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// hexToken returns the token whose _data is the hexadecimal text.
func hexToken(t testing.TB, data string) Token {
	t.Helper()
	return tokenOf(t, bson.D{{Key: "_data", Value: data}})
}

func TestGenuineTokens(t *testing.T) {
	genuine, _ := knownTokens(t)
	if len(genuine) != 41 {
		t.Fatalf("%d genuine tokens, want 41", len(genuine))
	}
	for _, k := range genuine {
		d, err := k.token(t).Decode()
		if err != nil {
			t.Errorf("%s: %v", k.Data, err)
			continue
		}
		k.check(t, d)
	}
}

func (k knownToken) check(t *testing.T, d Decoded) {
	t.Helper()
	want := k.Decoded
	if got := d.ClusterTime; got.T != want.ClusterTime.T || got.I != want.ClusterTime.I || !d.Time().Equal(want.UTC) {
		t.Errorf("%s: time %v %v, want %v %v", k.Data, got, d.Time(), want.ClusterTime, want.UTC)
	}
	if format := strings.TrimSuffix(want.Format, "-bindata"); d.Format.String() != format {
		t.Errorf("%s: format %v, want %s", k.Data, d.Format, format)
	}
	if want.Version != nil && d.Format.Version() != *want.Version {
		t.Errorf("%s: version %d, want %d", k.Data, d.Format.Version(), *want.Version)
	}
	if d.HighWaterMark != (want.TokenType == "high_water_mark") {
		t.Errorf("%s: high-water mark %v, want a token of type %s", k.Data, d.HighWaterMark, want.TokenType)
	}
	if d.TxnOpIndex != want.TxnOpIndex || d.FromInvalidate != want.FromInval || d.OperationType != want.Operation {
		t.Errorf("%s: %d %v %q, want %d %v %q", k.Data, d.TxnOpIndex, d.FromInvalidate, d.OperationType,
			want.TxnOpIndex, want.FromInval, want.Operation)
	}
	if d.UUID.IsZero() != (want.UUID == nil) || want.UUID != nil && d.UUID.String() != *want.UUID {
		t.Errorf("%s: UUID %v, want %v", k.Data, d.UUID, want.UUID)
	}
	sameJSON(t, k.Data+": document key", d.DocumentKey, want.DocumentKey)
	sameJSON(t, k.Data+": operation description", d.OperationDescription, want.Description)
}

func sameJSON(t *testing.T, what string, got bson.Raw, want json.RawMessage) {
	t.Helper()
	if got == nil || want == nil {
		if got != nil || want != nil {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		return
	}
	text, err := bson.MarshalExtJSON(got, false, false)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(json.Unmarshal(text, &a), json.Unmarshal(want, &b)); err != nil {
		t.Fatal(err)
	}
	ja, _ := json.Marshal(a)
	jb, _ := json.Marshal(b)
	if !bytes.Equal(ja, jb) {
		t.Errorf("%s: %s, want %s", what, ja, jb)
	}
}

func TestNumberTypesComeFromTypeBits(t *testing.T) {
	key := "826172621B000000022B022C0100296E5A100450F75BB399654BBF970A0E4599C27A84461E5F6964002C012C0004"
	for bits, want := range map[string]bson.Type{
		"": bson.TypeInt32, "\x81\x80": bson.TypeInt64, "\x40": bson.TypeDouble, "\x82\xC0\x21": bson.TypeDecimal128,
	} {
		tok := tokenOf(t, bson.D{{Key: "_data", Value: key}, {Key: "_typeBits", Value: bson.Binary{Data: []byte(bits)}}})
		d, err := tok.Decode()
		if err != nil {
			t.Errorf("type bits %x: %v", bits, err)
		} else if got := d.DocumentKey.Lookup("_id"); got.Type != want {
			t.Errorf("type bits %x: a %v, want a %v", bits, got.Type, want)
		}
	}
}

// Tokens whose _typeBits were lost (a store kept _data alone) can still be
// read; numbers have the type that fits them.
func TestMissingTypeBits(t *testing.T) {
	for _, s := range serverTokens(t) {
		data, ok := s.Token.Raw().Lookup("_data").StringValueOK()
		if !ok {
			t.Fatal("a token without a string of data")
		}
		d, err := hexToken(t, data).Decode()
		if err != nil {
			t.Errorf("%s: %v", s.Event.DocumentKey, err)
			continue
		}
		if !s.opened && d.ClusterTime != s.Event.ClusterTime {
			t.Errorf("%s: time %v, want %v", s.Event.DocumentKey, d.ClusterTime, s.Event.ClusterTime)
		}
	}
}

func TestMalformed(t *testing.T) {
	const (
		ts   = "826A91ADB600000002"
		uuid = "5A1004CDFFC2D506504F98B11EDBF328641438"
		id   = "463C5F6964003C736563726574000004"
	)
	cases := map[string]string{
		"":                                     "empty",
		"8":                                    "not hexadecimal",
		ts + "2B0":                             "not hexadecimal",
		ts + "2B04zz":                          "not hexadecimal",
		ts + "04":                              "no version",
		ts + "2B0204":                          "no token type",
		ts + "2B022904":                        "no transaction index",
		ts + "2B02292904":                      "no fromInvalidate",
		ts + "2904":                            "no transaction index",
		ts + "2B0629296E04":                    "version is not",
		ts + "27FD29296E04":                    "version is not",
		ts + "6E29296E04":                      "version is not a number",
		ts + "2B032929296E04":                  "cut off",
		ts + "2B02" + "2B02" + "296E04":        "token type",
		ts + "2B02" + "2C0100" + "27FD" + "6E": "negative",
		ts + "2B02" + "2C0100" + "6E" + "6E04": "transaction index is not a number",
		ts + "2B02" + "2C0100" + "2F0200000000" + "6E04":                            "32-bit",
		ts + "2B02" + "2C0100" + "29" + "29" + "04":                                 "not a boolean",
		ts + "2B0229" + "2B02" + "6E04":                                             "fields of an event",
		ts + "2B0229296F04":                                                         "fields of an event",
		ts + "2B0229296E" + uuid + id:                                               "fields of an event",
		ts + "2B0429296E" + uuid + "04":                                             "fields of an event",
		ts + "2B042C0100296E04":                                                     "neither a UUID nor null",
		ts + "2B042C0100296E" + uuid + "04":                                         "no event identifier",
		ts + "2B042C0100296E" + uuid + "2904":                                       "event identifier is not an object",
		ts + "2B042C0100296E" + uuid + id[:len(id)-2] + "6E04":                      "fragment is not a number",
		ts + "2B042C0100296E" + uuid + id[:len(id)-2] + "27FD04":                    "fragment is negative",
		ts + "2B042C0100296E" + uuid + id[:len(id)-2] + "292904":                    "more fields",
		ts + "2B022C0100296E" + uuid + id[:len(id)-2] + "2904":                      "more fields",
		ts + "2B022C0100296E" + "5A0F04" + uuid[8:] + "04":                          "not one",
		ts + "2B022C0100296E" + "5A1000" + uuid[6:] + "04":                          "not one",
		ts + "2B022C0100296E" + uuid + "46646964003C78000004":                       "said to be",
		ts + "2B022C0100296E" + uuid + "46FB69640000FB000004":                       "said to be",
		ts + "2B022C0100296E" + uuid + "46FB696400FB000004":                         "unknown type",
		ts + "2B022C0100296E" + uuid + "465A6964005AFFFFFFFFFF0000":                 "cut off",
		ts + "2B022C0100296E" + uuid + "4696696400968000000000":                     "cut off",
		ts + "2B022C0100296E" + uuid + "461E69640033FFE00000000000000F":             "cut off",
		ts + "2B022C0100296E" + uuid + "461E69640033" + "7FFFFFFFFFFFFFFE" + "0004": "does not exist",
		"836A91ADB6000000022B0229296E04":                                            "",
	}
	for data, want := range cases {
		_, err := hexToken(t, data).Decode()
		if want == "" {
			if !errors.Is(err, ErrOpaque) {
				t.Errorf("%q: %v, want ErrOpaque", data, err)
			}
			continue
		}
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want ErrMalformed about %q", data, err, want)
		}
		noContents(t, err)
	}
	_, broken := knownTokens(t)
	if len(broken) != 4 {
		t.Errorf("%d malformed tokens, want 4", len(broken))
	}
	for _, k := range broken {
		if _, err := k.token(t).Decode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", k.Data, err)
		}
	}
}

// noContents checks that an error contains nothing of the tokens above.
func noContents(t *testing.T, err error) {
	t.Helper()
	for _, s := range []string{"secret", "736563726574", "6A91ADB6", "6a91adb6", "CDFFC2D5", "cdffc2d5"} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func TestMalformedTypeBits(t *testing.T) {
	const key = "826172621B000000022B022C0100296E5A100450F75BB399654BBF970A0E4599C27A84461E5F6964002C012C0004"
	for name, bits := range map[string]any{
		"a string":              "40",
		"another subtype":       bson.Binary{Subtype: 5, Data: []byte{0x40}},
		"longer than they say":  bson.Binary{Data: []byte{0x40, 0}},
		"shorter than they say": bson.Binary{Data: []byte{0x82, 0x80}},
		"a long size, cut":      bson.Binary{Data: []byte{0x80, 1, 0}},
		"a long size, too long": bson.Binary{Data: []byte{0x80, 0xFF, 0xFF, 0xFF, 0xFF, 1}},
		"too few":               bson.Binary{Data: []byte{0x81, 0xC0}},
		"the version a long":    bson.Binary{Data: []byte{0x02}},
		"no decimal like that":  bson.Binary{Data: []byte{0x82, 0xC0, 0x3F}},
	} {
		tok := tokenOf(t, bson.D{{Key: "_data", Value: key}, {Key: "_typeBits", Value: bits}})
		if _, err := tok.Decode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	twoNumbers := "826172621B000000022B022C0100296E5A100450F75BB399654BBF970A0E4599C27A84461E5F6964002C012C1E61002B02" + "0004"
	tok := tokenOf(t, bson.D{{Key: "_data", Value: twoNumbers}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{0x40}}}})
	if _, err := tok.Decode(); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("bits for one number of two: %v, want ErrMalformed", err)
	}
	for name, bits := range map[string][]byte{"none": {}, "one zero": {0}} {
		tok := tokenOf(t, bson.D{{Key: "_data", Value: key}, {Key: "_typeBits", Value: bson.Binary{Data: bits}}})
		if _, err := tok.Decode(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpaque(t *testing.T) {
	for name, doc := range map[string]bson.D{
		"Amazon DocumentDB": {{Key: "_data", Value: "0164BE9D5A000000010100000001000032EE"}},
		"Azure Cosmos DB": {{Key: "_data", Value: bson.Binary{Data: []byte(`[{"token":"\"1\"","range":{"min":"","max":"FF"}}]`)}},
			{Key: "_kind", Value: int32(1)}},
		"text":                          {{Key: "_data", Value: "secret"}},
		"a number":                      {{Key: "_data", Value: 82}},
		"binary data of another kind":   {{Key: "_data", Value: bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{0x82}, 16)}}},
		"a document":                    {{Key: "_data", Value: bson.D{{Key: "x", Value: "82"}}}},
		"a token's first byte and more": {{Key: "_data", Value: "92"}},
	} {
		tok := tokenOf(t, doc)
		d, err := tok.Decode()
		if !errors.Is(err, ErrOpaque) || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v %v, want ErrOpaque", name, d, err)
		}
		if err != nil {
			noContents(t, err)
		}
	}
	if _, err := (Token{}).Decode(); !errors.Is(err, ErrInvalid) {
		t.Errorf("the zero Token: %v, want ErrInvalid", err)
	}
}
