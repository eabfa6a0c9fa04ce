package quote

import "testing"

func TestName(t *testing.T) {
	for name, want := range map[string]string{
		"shop.orders":    "shop.orders",
		"größe":          "größe",
		"":               `""`,
		"a b":            `"a b"`,
		"a\nlevel=ERROR": `"a\nlevel=ERROR"`,
		"\x1b[2Jx":       `"\x1b[2Jx"`,
		"a\u202eb":       `"a\u202eb"`,
		"a\xffb":         `"a\xffb"`,
		`a"b`:            `"a\"b"`,
	} {
		if got := Name(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"Namespace shop.v is a \"view\"": "Namespace shop.v is a \"view\"",
		"größe, a b":                     "größe, a b",
		"a\nlevel=ERROR":                 `a\nlevel=ERROR`,
		"\x1b[2Jx":                       `\x1b[2Jx`,
		"a\u202eb\u009b":                 `a\u202eb\u009b`,
		"a\xffb":                         "a\uFFFDb",
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
