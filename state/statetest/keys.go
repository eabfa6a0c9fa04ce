package statetest

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

const distinct = "Keys are opaque: two keys that differ in any byte are different keys, in every store and on every file system."

// keyCases save a family of keys each, so that a failure says which kind of key
// it was.
var keyCases = []testCase{
	{"Keys/Case", distinct, prefixed("Orders", "orders", "ORDERS", "oRDERS", "Straße", "STRASSE", "strasse", "İ", "i", "I", "ı", "K", "k", "\u212a")},
	{"Keys/Separators", distinct, prefixed(
		"a:b", "a/b", "a\\b", "a.b", "a-b", "a_b", "a__b", "a b", "a+b", "a%b", "a%2Fb", "a%2fb", "a%3Ab", "a%252Fb", "a=b", "a|b", "a,b", "a;b", "a@b", "a~b", "ab",
		"a::b", "a//b", "a:/b", "a/:b", "/a:b", "a:b/", "a/b/", "/a/b")},
	{"Keys/Paths", distinct, prefixed(
		"/a", "a", "a/", "./a", "a/.", "../a", "a/..", "a/../a", "a/../b", "b", "x/../../a", "//a", "/./a", "/../a", "~", "~/a", "-", "-rf", "--",
		"a.json", "a.tmp", "a.lock", "a.lock.json", ".a", ".a.json", "C:", "C:\\a", "\\\\server\\a")},
	{"Keys/Patterns", distinct, prefixed(
		"*", "?", "**", "a*", "a?", "a*b", "[ab]", "[a-z]", "[^a]", "[]", "*?[]", "\\*", "%", "_", "a%", "a_", "%s", "%d", "^a$", "(a)", "a|b", "$1", "{}", "{", "}", "}x", "{x}", "x{", "{x}y", "a{b}c", "a{b}d",
		"#", "##", "!", "&", "'", "''", "\"", "`", "<a>", "${HOME}", "$HOME", ";", "'; DROP TABLE x; --")},
	{"Keys/Encodings", distinct, prefixed(
		"é", "e\u0301", "\u00c5", "A\u030a", "\u212b", "ﬁ", "fi", "①", "1", "Ａ", "A", "\ufeffA", "A\u200b", "A\u200d", "\u00a0A", "日本", "日本語", "\U0001F35D", "\U0001F35D\ufe0f", "\U0001F468\u200d\U0001F469", "שלום", "\u202eabc", "абв",
		"ABCDE===", "YWJj", "616263", "abc", "=", "==", "%61bc", "&#97;bc", "\\x61bc", "\\u0061bc", "+AGE-bc")},
	{"Keys/Control", distinct, prefixed(
		"a\x00", "a\x00b", "\x00", "a", "a\n", "a\nb", "a\r\n", "a\tb", "a\x1b[31m", "a\x7f", "a\u0085", "a\u2028", "\n", "\r")},
	{"Keys/Spaces", distinct, prefixed("a", "a ", "a  ", " a", "a.", "a..", "a. ", "a .", " ", "  ", ".", "..", "...", "a b", "a  b", "a\u3000")},
	{"Keys/Lengths", distinct, longKeys},
	{"Keys/Bare", distinct, bareKeys},
}

// bare are the keys that are strange only if nothing stands before them.
var bare = []string{
	".", "..", "...", "/", "//", "\\", "*", "?", "~", "-", "_", " ", "{}", "{a}", "[", "%", "#", ":", "0", "CON", "con", "con.txt", "NUL", "nul.json", "AUX", "COM1", "LPT1.x",
	"../x", "../../x", "/etc/x", "./x", ".x", ".lock", ".tmp", "lock", "x.json", "\x00", "\n", "\u0301", "\U0001F35D", "null", "true", "undefined", "__proto__", "_id", "$x", "index", "x", "X", "x.", "x ", " x",
}

// strangeKeys are all keys that don't begin with the trial's own prefix.
func strangeKeys() []string {
	keys := append([]string(nil), bare...)
	for _, n := range []int{state.MaxKeyLen - 1, state.MaxKeyLen} {
		keys = append(keys, strings.Repeat("/", n), strings.Repeat("\U0001F35D", n/4), strings.Repeat("K", n), strings.Repeat("\x01", n))
	}
	return unique(keys)
}

func bareKeys(t *trial) { keepApart(t, strangeKeys()) }

func prefixed(names ...string) func(t *trial) {
	return func(t *trial) {
		keys := make([]string, len(names))
		for i, name := range names {
			keys[i] = t.keys + name
		}
		keepApart(t, unique(keys))
	}
}

// longKeys differ only at their ends, at lengths where something may be cut off.
func longKeys(t *trial) {
	var keys []string
	for _, n := range []int{64, 100, 127, 128, 143, 144, 200, 249, 250, 251, 254, 255, 256, 257, 511, 512, 513, 767, 768, 1000, 1022, 1023, 1024} {
		for _, end := range []string{"a", "b"} {
			keys = append(keys, t.keys+strings.Repeat("x", n-len(t.keys)-1)+end)
		}
	}
	// Every byte of these takes more than one, however it is encoded.
	for _, fill := range []string{"é", "/", "%", "\x00", "日", "\U0001F35D"} {
		for _, end := range []string{"a", "b"} {
			keys = append(keys, t.keys+strings.Repeat(fill, (state.MaxKeyLen-len(t.keys)-1)/len(fill))+end)
		}
	}
	keepApart(t, unique(keys))
}

// keepApart saves all keys, wants every one to have what was saved under it, and
// clears them one by one, wanting the others to stay.
func keepApart(t *trial, keys []string) {
	s := t.store()
	for i, key := range keys {
		t.use(key)
		if err := s.Save(t.ctx, key, sample(i)); err != nil {
			t.errorf("Save(%.60q), %d bytes: %v", key, len(key), err)
		}
	}
	there := make(map[string]bool, len(keys))
	for i, key := range keys {
		there[key] = true
		t.wantLoad(s, key, sample(i), 0)
	}
	t.wantListed(s, there)
	for i, key := range keys {
		if err := s.Clear(t.ctx, key); err != nil {
			t.errorf("Clear(%.60q), %d bytes: %v", key, len(key), err)
		}
		t.wantNone(s, key)
		delete(there, key)
		if next := i + 1; next < len(keys) {
			t.wantLoad(s, keys[next], sample(next), 0)
		}
		if i == len(keys)/2 {
			t.wantListed(s, there)
			for j := i + 1; j < len(keys); j++ {
				t.wantLoad(s, keys[j], sample(j), 0)
			}
		}
	}
}

// wantListed wants exactly the keys that are there to be listed, of those that the
// trial uses, if the store can list.
func (t *trial) wantListed(s state.Store, there map[string]bool) {
	l, ok := state.As[state.Lister](s)
	if !ok {
		return
	}
	used := make(map[string]bool, len(t.used))
	for _, key := range t.used {
		used[key] = true
	}
	seen := make(map[string]bool, len(there))
	for e, err := range l.List(t.ctx, "") {
		if err != nil {
			t.errorf("List: %v", err)
			return
		}
		seen[e.Key] = true
		if used[e.Key] && !there[e.Key] {
			t.errorf("List gives the key %.60q, which has no checkpoint", e.Key)
		}
	}
	for key := range there {
		if !seen[key] {
			t.errorf("List does not give the key %.60q, which has a checkpoint", key)
		}
	}
}

func unique(keys []string) []string {
	seen := make(map[string]bool, len(keys))
	var once []string
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			once = append(once, key)
		}
	}
	return once
}
