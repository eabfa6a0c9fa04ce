package redisstore_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

func TestEncodeKey(t *testing.T) {
	for key, name := range map[string]string{
		"shop": "shop", "shop/orders": "shop/orders", "a.b-c_d:e": "a.b-c_d:e", "}x{": "%7Dx%7B",
		"50%": "50%25", "a b": "a%20b", "é": "%C3%A9", "%7D": "%257D", "*?[]^\\": "%2A%3F%5B%5D%5E%5C",
	} {
		if got := redisstore.EncodeKey(key); got != name {
			t.Errorf("%q is %q, want %q", key, got, name)
		}
	}
	// Every name has one key, so no two keys meet.
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		b := make([]byte, 1+r.IntN(6))
		for i := range b {
			b[i] = "%{}*aA7:\x00\xff"[r.IntN(10)]
		}
		key := string(b)
		name := redisstore.EncodeKey(key)
		if back, ok := redisstore.DecodeKey(name); !ok || back != key || strings.Trim(name, "%-._/:0123456789ABCDEFabcdefghijklmnopqrstuvwxyz") != "" {
			t.Fatalf("seed %d: %q is %q, and back %q, %v", seed, key, name, back, ok)
		}
	}
	for _, foreign := range []string{"", "%", "%4", "%41", "%2a", "a b", "{", "%zz", "é"} {
		if key, ok := redisstore.DecodeKey(foreign); ok {
			t.Errorf("%q, which encodes no key, is taken for %q", foreign, key)
		}
	}
}
