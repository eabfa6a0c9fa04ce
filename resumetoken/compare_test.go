package resumetoken

import (
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Tokens of one moment and those around it, in the order of the stream.
var inOrder = []string{
	"826A91ADB50000000929295A1004CDFFC2D506504F98B11EDBF32864143804",               // v0, before
	"826A91ADB6000000022929" + "04",                                                // v0
	"826A91ADB60000000229" + "2B02" + "04",                                         // v0, second of a transaction
	"826A91ADB6000000022B0229296E04",                                               // v1, high-water mark
	"826A91ADB6000000022B022C0100296E5A1004CDFFC2D506504F98B11EDBF32864143804",     // v1, drop
	"826A91ADB6000000022B022C0100296F5A1004CDFFC2D506504F98B11EDBF32864143804",     // v1, its invalidate
	"826A91ADB6000000022B022C01002B046E5A1004CDFFC2D506504F98B11EDBF32864143804",   // v1, third of a transaction
	"826A91ADB6000000022B022C01002C01006E5A1004CDFFC2D506504F98B11EDBF32864143804", // v1, 128th
	"826A91ADB6000000022B0429296E1404",                                             // v2, high-water mark
	"826A91ADB6000000022B042C0100296E5A1004CDFFC2D506504F98B11EDBF328641438463C6F7065726174696F6E54797065003C696E736572740046646F63756D656E744B657900463C5F6964003C7800000004", // v2, insert
	"826a91adb6000000032b0229296e04", // v1, the next moment, in lower case
	"826A91ADB700000001292904",       // v0, the next second
}

func orderedTokens(t *testing.T) []Token {
	t.Helper()
	var out []Token
	for _, data := range inOrder {
		out = append(out, hexToken(t, data))
	}
	return out
}

func TestCompareIsTheOrderOfTheStream(t *testing.T) {
	tokens := orderedTokens(t)
	for i, a := range tokens {
		for j, b := range tokens {
			want := 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			if got, ok := Compare(a, b); got != want || !ok {
				t.Errorf("Compare(%s, %s) = %d, %v, want %d, true", inOrder[i], inOrder[j], got, ok, want)
			}
		}
	}
}

// The events of one stream of a real server, as they came.
func TestCompareServerTokens(t *testing.T) {
	streams := map[string][]serverToken{}
	for _, s := range serverTokens(t) {
		if s.Stream != `"v2-fragment"` {
			streams[s.Stream] = append(streams[s.Stream], s)
		}
	}
	compared := 0
	for name, tokens := range streams {
		for i := 1; i < len(tokens); i++ {
			order, ok := Compare(tokens[i-1].Token, tokens[i].Token)
			if order != -1 || !ok {
				t.Errorf("%s, event %d: %d, %v, want -1, true", name, i, order, ok)
			}
			compared++
		}
	}
	if compared < 400 {
		t.Errorf("only %d were compared", compared)
	}
}

func TestCompareRefuses(t *testing.T) {
	good := hexToken(t, inOrder[3])
	binary := func(b ...byte) Token {
		return tokenOf(t, bson.D{{Key: "_data", Value: bson.Binary{Data: b}}})
	}
	old := binary(0x82, 0x6A, 0x91, 0xAD, 0xB6, 0, 0, 0, 2, 0x14, 0x04)
	others := []Token{
		{},
		hexToken(t, "0164BE9D5A000000010100000001000032EE"),
		hexToken(t, inOrder[3]+"00"),
		old,
	}
	for i, bad := range others {
		for _, pair := range [][]Token{{good, bad}, {bad, good}} {
			if order, ok := Compare(pair[0], pair[1]); ok || order != 0 {
				t.Errorf("%d: %v and %v compare: %d", i, pair[0], pair[1], order)
			}
		}
		if _, ok := Compare(bad, bad); ok != (bad == old) {
			t.Errorf("%d: %v compares with itself: %v", i, bad, ok)
		}
	}
	later := binary(0x82, 0x6A, 0x91, 0xAD, 0xB6, 0, 0, 0, 3, 0x14, 0x04)
	if order, ok := Compare(old, later); order != -1 || !ok {
		t.Errorf("two tokens of 3.6: %d, %v, want -1, true", order, ok)
	}
}

// The type bits are no part of the order.
func TestCompareIgnoresTypeBits(t *testing.T) {
	key := "826172621B000000022B022C0100296E5A100450F75BB399654BBF970A0E4599C27A84461E5F6964002C012C0004"
	long := tokenOf(t, bson.D{{Key: "_data", Value: key}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{0x81, 0x80}}}})
	if order, ok := Compare(hexToken(t, key), long); order != 0 || !ok {
		t.Errorf("%d, %v, want 0, true", order, ok)
	}
}

func TestCompareSorts(t *testing.T) {
	want := orderedTokens(t)
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, func(a, b Token) int { order, _ := Compare(a, b); return order })
	if !slices.Equal(got, want) {
		t.Error("sorting by Compare does not give the order of the stream")
	}
}
