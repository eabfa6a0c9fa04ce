package ndjson

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	for key, want := range map[string]string{
		"shop":        "shop-0000000007-000001.ndjson",
		"shop/orders": "shop%2forders-0000000007-000001.ndjson",
		"Shop":        "%53hop-0000000007-000001.ndjson",
		"a.b_c-d":     "a.b_c-d-0000000007-000001.ndjson",
		"../x":        "%2e.%2fx-0000000007-000001.ndjson",
		"-rf":         "%2drf-0000000007-000001.ndjson",
		"con.x":       "%63on.x-0000000007-000001.ndjson",
		"ü":           "%c3%bc-0000000007-000001.ndjson",
		"%2f":         "%252f-0000000007-000001.ndjson",
	} {
		if got := (fileName{stemOf(key), 7, 1}).String(); got != want {
			t.Errorf("the key %q writes %s, want %s", key, got, want)
		}
	}
}

// TestNamesAreInjective: different keys, epochs and numbers have different
// names, also where a file system folds case, and a name is read as it was made.
func TestNamesAreInjective(t *testing.T) {
	keys := rapid.OneOf(
		rapid.StringN(1, 1024, 1024),
		rapid.StringMatching(`[aAbB.%~/\-0-9]{1,150}`),
		rapid.SampledFrom([]string{"shop", "shop-0000000001-000001", "shop-0000000001-000001.ndjson", "shop-0000000001-000001.ndjson.partial", "shop.partial", "SHOP", "shop%", "shop~"}),
	).Filter(func(s string) bool { return s != "" })
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string) (string, fileName) {
			key := keys.Draw(rt, label)
			return key, fileName{stemOf(key), rapid.Uint64().Draw(rt, label+" epoch"), rapid.Uint64Range(1, 1<<40).Draw(rt, label+" number")}
		}
		keyA, a := draw("a")
		keyB, b := draw("b")
		for name, finished := range map[string]bool{a.String(): true, a.open(): false, a.claimed(b.generation): false} {
			if got, fin, ok := parseName(name); !ok || got != a || fin != finished {
				rt.Fatalf("%s is read as %v, %v, %v", name, got, fin, ok)
			}
		}
		if epoch, ok := parseMarker(markerName(a.stem, a.generation), a.stem); !ok || epoch != a.generation {
			rt.Fatalf("%s is read as %d, %v", markerName(a.stem, a.generation), epoch, ok)
		}
		if keyA != keyB && strings.EqualFold(a.stem, b.stem) {
			rt.Fatalf("%q and %q have the same stem %s", keyA, keyB, a.stem)
		}
		if a != b && strings.EqualFold(a.String(), b.String()) {
			rt.Fatalf("%v and %v have the same name %s", a, b, a)
		}
		name := fileName{a.stem, 7, 1}.claimed(8)
		if len(name) > 143 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.%~") != "" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
			rt.Fatalf("%q is not safe everywhere (%d bytes)", name, len(name))
		}
	})
}

func TestForeignNamesAreNotOurs(t *testing.T) {
	for _, s := range []string{
		"", ".ndjson", "shop.ndjson", "shop-1-1.ndjson", "-0000000001-000001.ndjson", "shop-0000000001-000001.ndjson.gz",
		"shop-0000000001-000001", "shop-+000000001-000001.ndjson", "shop-00000000001-000001.ndjson", "shop-0000000001-0000001.ndjson",
		"shop-0000000001-000001.ndjson.partial.", "shop-0000000001-000001.ndjson.partial.8", "shop-0000000001-000001.ndjson.partialx", "shop-0000000001-000001.ndjson.partial.00000000008",
	} {
		if n, _, ok := parseName(s); ok {
			t.Errorf("%q is taken for %+v", s, n)
		}
	}
}
