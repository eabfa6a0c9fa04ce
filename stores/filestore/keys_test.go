package filestore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

func TestStems(t *testing.T) {
	for key, want := range map[string]string{
		"shop":         "shop",
		"shop/orders":  "shop%2forders",
		"Shop":         "%53hop",
		"a.b-c_9":      "a.b-c_9",
		".":            "%2e",
		"..":           "%2e.",
		".hidden":      "%2ehidden",
		"con":          "%63on",
		"con.x":        "%63on.x",
		"lpt1":         "%6cpt1",
		"console":      "console",
		"100%":         "100%25",
		"é":            "%c3%a9",
		"e\u0301":      "e%cc%81",
		"a:b*c?d\\e|f": "a%3ab%2ac%3fd%5ce%7cf",
		" ":            "%20",
		"a\x00b":       "a%00b",
		"~":            "%7e",
	} {
		if got := stem(key); got != want {
			t.Errorf("stem(%q) = %q, want %q", key, got, want)
		}
	}
}

// Any key has a name that a file system takes, that no other key has, and that it
// can be read back from unless it is a long one.
func TestStemsOfRandomKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	seen := map[string]string{}
	letters := []string{"a", "A", "b", "/", ".", "%", "~", " ", "é", "e\u0301", "ß", "ﬁ", "con", "2", "f", "\x00", "😀"}
	for range 20000 {
		var b strings.Builder
		for range 1 + r.IntN(1<<r.IntN(8)) {
			b.WriteString(letters[r.IntN(len(letters))])
		}
		key := b.String()
		if len(key) > state.MaxKeyLen {
			key = strings.ToValidUTF8(key[:state.MaxKeyLen], "")
		}
		s := stem(key)
		if other, ok := seen[s]; ok && other != key {
			t.Fatalf("%q and %q have the same name", key, other)
		}
		seen[s] = key
		if name := s + ".01234567" + tempSuffix; len(name) > 143 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.%~") != "" || name[0] == '.' {
			t.Fatalf("%q has the name %q", key, name)
		}
		back, ok := unescape(s)
		begin, long := isLongStem(s)
		if ok == long || ok && back != key || long && !strings.HasPrefix(key, begin) {
			t.Fatalf("%q, of the name %q, is read back as %q (%t), a long one that begins with %q (%t)", key, s, back, ok, begin, long)
		}
		if got, ok := stemOfTemp(s + ".01234567" + tempSuffix); !ok || got != s {
			t.Fatalf("the temporary file of %q is taken for one of %q (%t)", s, got, ok)
		}
	}
}

func TestForeignNames(t *testing.T) {
	for _, name := range []string{"", "Shop", "a b", "%2", "%2F", "%61", "con", ".x", "é", "a~b", strings.Repeat("a", 121)} {
		if key, ok := unescape(name); ok {
			t.Errorf("the name %q is taken for that of %q", name, key)
		}
	}
	for _, name := range []string{"k.tmp", "k.0123.tmp", "k.0123456X.tmp", ".tmp", "k.json", "01234567.tmp"} {
		if s, ok := stemOfTemp(name); ok {
			t.Errorf("%q is taken for a temporary file of %q", name, s)
		}
	}
}

// Long keys come back from inside their files, damaged ones with an error.
func TestListLongKeys(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	long := []string{strings.Repeat("K", 1000) + "1", strings.Repeat("K", 1000) + "2", strings.Repeat("x", 500)}
	for i, key := range long {
		must(t, s.Save(t.Context(), key, plain(t, i)))
	}
	keys := func(prefix string) (keys []string) {
		for e, err := range s.List(t.Context(), prefix) {
			must(t, err)
			keys = append(keys, e.Key+fmt.Sprint(e.LoadErr != nil))
		}
		slices.Sort(keys)
		return keys
	}
	if got, want := keys(strings.Repeat("K", 900)), []string{long[0] + "false", long[1] + "false"}; !slices.Equal(got, want) {
		t.Errorf("listed: %.100q", got)
	}
	if got := keys("K"); len(got) != 2 {
		t.Errorf("listed: %.100q", got)
	}
	must(t, damage(s.path(long[2]), 1))
	if got := keys("x"); !slices.Equal(got, []string{"true"}) {
		t.Errorf("listed of a damaged file: %.100q", got)
	}
	if got := keys("y"); got != nil {
		t.Errorf("listed under a prefix that the damaged file can't have: %.100q", got)
	}
}
