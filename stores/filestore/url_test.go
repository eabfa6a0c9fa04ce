package filestore

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

func TestOpenURL(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	t.Setenv("HOME", base)
	t.Setenv("USERPROFILE", base)
	for text, want := range map[string]string{
		"file:state":                         "state",
		"file:./a/b":                         "a/b",
		"file:~/four":                        "four",
		"file:./with%20space":                "with space",
		"file:" + base + "/one":              "one",
		"file://" + base + "/two":            "two",
		"file://localhost" + base + "/three": "three",
	} {
		u, err := url.Parse(text)
		must(t, err)
		s, err := OpenURL(t.Context(), u, nil)
		must(t, err)
		must(t, s.Save(t.Context(), "k", plain(t, 1)))
		must(t, state.Close(s))
		if _, err := os.Stat(filepath.Join(base, want, "k.json")); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, part := range map[string]string{
		"file:":                      "has no path",
		"file:state?sync=false":      `unknown parameter "sync"; it takes none`,
		"file://host/state":          `the host "host"`,
		"file://u:secret@/state":     "has no user",
		"file:state#1":               `has a "#"`,
		"memory:":                    `the URL's scheme is "memory"`,
		"file:a/~/state":             "has a ~ that is not at its beginning",
		"file:$STATE/shop":           `"$STATE" in it, which is not replaced`,
		"file:./a%zz":                "not well escaped",
		"file:state?sync=1&mode=700": "the unknown parameter",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenURL(t.Context(), u, nil)
		want(t, err, state.ErrInvalid, part)
		if s != nil {
			t.Errorf("%s: a store and an error", text)
		}
	}
}

func TestOpenFails(t *testing.T) {
	if _, err := Open("", nil); err == nil {
		t.Error("no directory is accepted")
	}
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	for _, dir := range []string{path, path + "/state"} {
		_, err := Open(dir, nil)
		want(t, err, state.ErrUnavailable, path)
	}
}
