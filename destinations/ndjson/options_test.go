package ndjson

import (
	"bytes"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/extjson"
)

func TestOptionsOutOfRangeAreNamed(t *testing.T) {
	for _, o := range []Options{{MaxFileBytes: -2}, {MaxFileAge: -2}, {MaxFileAge: -time.Second}, {Format: 7}} {
		_, err := Open(t.TempDir(), &o)
		field := "Format"
		switch {
		case o.MaxFileBytes != 0:
			field = "MaxFileBytes"
		case o.MaxFileAge != 0:
			field = "MaxFileAge"
		}
		if err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Open("", nil); err == nil {
		t.Error("no directory is taken for one")
	}
	for _, o := range []Options{{MaxFileBytes: 1}, {MaxFileAge: 1}} {
		if _, err := To(&bytes.Buffer{}, &o); err == nil {
			t.Errorf("To takes %+v, which does nothing there", o)
		}
	}
	if _, err := To(nil, nil); err == nil {
		t.Error("To takes nil")
	}
	d, err := Open("out", nil)
	if err != nil || d.o.MaxFileBytes != 128<<20 || d.o.MaxFileAge != time.Hour || d.o.Format != extjson.Relaxed || !filepath.IsAbs(d.dir) {
		t.Errorf("the defaults are %+v in %s, %v", d.o, d.dir, err)
	}
}

func TestOpenURL(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", here+"/home")
	t.Setenv("USERPROFILE", here+"/home")
	type dest struct {
		dir string
		o   Options
	}
	for text, want := range map[string]dest{
		"ndjson:out":                                   {dir: here + "/out"},
		"ndjson:./out":                                 {dir: here + "/out"},
		"ndjson:~/out":                                 {dir: here + "/home/out"},
		"ndjson:/var/my%20out":                         {dir: "/var/my out"},
		"ndjson:my%3Fout":                              {dir: here + "/my?out"},
		"ndjson:///var/out":                            {dir: "/var/out"},
		"ndjson:o?format=canonical":                    {dir: here + "/o", o: Options{Format: extjson.Canonical}},
		"ndjson:o?format=simplified":                   {dir: here + "/o", o: Options{Format: extjson.Simplified}},
		"ndjson:o?max-file-age=30m&max-file-bytes=5":   {dir: here + "/o", o: Options{MaxFileAge: 30 * time.Minute, MaxFileBytes: 5}},
		"ndjson:o?max-file-age=off&max-file-bytes=off": {dir: here + "/o", o: Options{MaxFileAge: -1, MaxFileBytes: -1}},
	} {
		d, err := OpenURL(t.Context(), parse(t, text), nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		wantOptions, _ := want.o.orDefaults()
		if f := d.(*Files); f.dir != filepath.FromSlash(want.dir) || f.o != wantOptions {
			t.Errorf("%s: got %s, %+v", text, f.dir, f.o)
		}
	}
	var out bytes.Buffer
	d, err := OpenURL(t.Context(), parse(t, "ndjson:-?format=canonical"), &Options{Stdout: &out})
	if w, ok := d.(*Writer); err != nil || !ok || w.mode != extjson.Canonical || w.w != &out {
		t.Errorf("ndjson:- is %+v, %v", d, err)
	}
	for text, says := range map[string]string{
		"ndjson:":                      "directory",
		"ndjson://host/out":            "path",
		"file:out":                     "scheme",
		"ndjson:o?colour=red":          "colour",
		"ndjson:o?format=bson":         "simplified",
		"ndjson:o?max-file-bytes=much": "max-file-bytes",
		"ndjson:o?max-file-bytes=-2":   "max-file-bytes",
		"ndjson:o?max-file-age=60":     "max-file-age",
		"ndjson:-?max-file-age=1m":     "MaxFileAge",
		"ndjson:a/~/o":                 "has a ~ that is not at its beginning",
		"ndjson:${OUT}/o":              `"${OUT}" in it, which is not replaced`,
		"ndjson:o%zz":                  "%",
	} {
		if _, err := OpenURL(t.Context(), parse(t, text), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
