package resumetoken

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// allGenuine are the keys (as bytes) of all tokens in testdata, with a way to
// make a token of the same kind with another key.
func allGenuine(t testing.TB) (keys [][]byte, with []func(key []byte) Token) {
	t.Helper()
	var tokens []Token
	genuine, _ := knownTokens(t)
	for _, k := range genuine {
		tokens = append(tokens, k.token(t))
	}
	for _, s := range serverTokens(t) {
		tokens = append(tokens, s.Token)
	}
	for _, tok := range tokens {
		key, format36, err := tok.key()
		if err != nil {
			t.Fatal(err)
		}
		var doc bson.D
		if err := bson.Unmarshal(tok.Raw(), &doc); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
		with = append(with, func(key []byte) Token {
			doc[0].Value = hex.EncodeToString(key)
			if format36 {
				doc[0].Value = bson.Binary{Data: key}
			}
			return tokenOf(t, doc)
		})
	}
	return keys, with
}

// stride is 1, but for the middle of the few keys that repeat one thing for
// thousands of bytes.
func stride(key []byte, n int) int {
	if n > 300 && n < len(key)-100 {
		return 29
	}
	return 1
}

func TestTruncatedAtEveryByte(t *testing.T) {
	keys, with := allGenuine(t)
	for i, key := range keys {
		for n := 0; n < len(key); n += stride(key, n) {
			if _, err := with[i](key[:n]).Decode(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%x cut to %d bytes: %v, want ErrMalformed", key, n, err)
			}
		}
	}
}

func TestAppended(t *testing.T) {
	keys, with := allGenuine(t)
	for i, key := range keys {
		for _, tail := range []string{"\x00", "\x04", "\x29", "\x2B\x02", "\xFF"} {
			if _, err := with[i](append(bytes.Clone(key), tail...)).Decode(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%x and %x: %v, want ErrMalformed", key, tail, err)
			}
		}
	}
}

// A changed bit makes another token or an invalid one, never the same one.
// Fractions are the exception: their last bits can be more than their type
// holds, which the server accepts too.
func TestFlippedBits(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	keys, with := allGenuine(t)
	for i, key := range keys {
		before, err := with[i](key).Decode()
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(key); n += stride(key, n) {
			changed := bytes.Clone(key)
			changed[n] ^= 1 << rng.IntN(8)
			switch after, err := with[i](changed).Decode(); {
			case n == 0:
				if !errors.Is(err, ErrOpaque) {
					t.Errorf("seed %d: %x: %v, want ErrOpaque", seed, changed, err)
				}
			case err != nil:
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("seed %d: %x: %v, want ErrMalformed", seed, changed, err)
				}
			case same(before, after) && !hasFraction(before):
				t.Errorf("seed %d: %x says the same as %x", seed, changed, key)
			}
		}
	}
}

func hasFraction(d Decoded) bool {
	text := d.DocumentKey.String() + d.OperationDescription.String()
	return strings.Contains(text, "$numberDouble") || strings.Contains(text, "$numberDecimal")
}

func same(a, b Decoded) bool {
	documents := bytes.Equal(a.DocumentKey, b.DocumentKey) && bytes.Equal(a.OperationDescription, b.OperationDescription)
	a.DocumentKey, a.OperationDescription = nil, nil
	b.DocumentKey, b.OperationDescription = nil, nil
	return documents && a.Format == b.Format && a.ClusterTime == b.ClusterTime && a.HighWaterMark == b.HighWaterMark &&
		a.TxnOpIndex == b.TxnOpIndex && a.FromInvalidate == b.FromInvalidate && a.UUID == b.UUID &&
		a.OperationType == b.OperationType && a.IsFragment == b.IsFragment && a.Fragment == b.Fragment
}

// nested returns a token with an _id of documents nested to the given depth.
func nested(t testing.TB, depth int) Token {
	t.Helper()
	key := "82687F3418000000012B022C0100296E5A100402029C35AFFD457AA3093B44F7D71C6D" +
		"46" + "465F696400" + strings.Repeat("46"+"466100", depth-1) + "46" + strings.Repeat("00", depth) + "00" + "04"
	return hexToken(t, key)
}

func TestNesting(t *testing.T) {
	for _, depth := range []int{1, 2, 100, 200, 250} {
		d, err := nested(t, depth).Decode()
		if err != nil {
			t.Errorf("an _id %d documents deep: %v", depth, err)
			continue
		}
		got := 0
		for v := d.DocumentKey.Lookup("_id"); v.Type == bson.TypeEmbeddedDocument; v = v.Document().Lookup("a") {
			got++
		}
		if got != depth {
			t.Errorf("an _id %d documents deep came out %d deep", depth, got)
		}
	}
	for _, depth := range []int{256, 1_000_000} {
		if _, err := nested(t, depth).Decode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("an _id %d documents deep: %v, want ErrMalformed", depth, err)
		}
	}
}

// Code has a document around it as well; it cannot be nested without bound.
func TestNestedCode(t *testing.T) {
	for _, depth := range []int{120, 200, 1_000_000} {
		key := "82687F3418000000012B022C0100296E5A100402029C35AFFD457AA3093B44F7D71C6D" +
			"46" + strings.Repeat("AA6100AA7800", depth) + strings.Repeat("00", depth) + "00" + "04"
		_, err := hexToken(t, key).Decode()
		if want := depth > 127; errors.Is(err, ErrMalformed) != want {
			t.Errorf("%d deep: %v", depth, err)
		}
	}
}

// In FormatV1 a document key stands where an expanded event has its type. A
// collection can be sharded by a field named operationType.
func TestDocumentKeyWithAnOperationType(t *testing.T) {
	d, err := hexToken(t, "82687F3418000000012B022C0100296E5A100402029C35AFFD457AA3093B44F7D71C6D"+
		"463C6F7065726174696F6E54797065003C7800"+"1E5F6964002B02"+"0004").Decode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := bson.Marshal(bson.D{{Key: "operationType", Value: "x"}, {Key: "_id", Value: int32(1)}})
	if err != nil {
		t.Fatal(err)
	}
	if d.OperationType != "" || !bytes.Equal(d.DocumentKey, want) {
		t.Errorf("%q and %s, want a document key", d.OperationType, d.DocumentKey)
	}
}

// A length of gigabytes in the key allocates nothing.
func TestLengthsAreNotTrusted(t *testing.T) {
	size := make([]byte, 4)
	for _, n := range []uint32{1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		binary.BigEndian.PutUint32(size, n)
		for _, head := range []string{"465A5F6964005AFF", "46965F69640096"} {
			tok := hexToken(t, "82687F3418000000012B022C0100296E5A100402029C35AFFD457AA3093B44F7D71C6D"+
				head+hex.EncodeToString(size)+"0000000004")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := tok.Decode()
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s %x: %v, want ErrMalformed", head, size, err)
			}
			got := after.TotalAlloc - before.TotalAlloc
			if got > 100_000 {
				t.Errorf("%s: %d bytes allocated", head, got)
			}
		}
	}
}
