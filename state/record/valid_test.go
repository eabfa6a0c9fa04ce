package record

import (
	"encoding/json"
	"strings"
	"testing"
)

var jsonTexts = []string{
	``, ` `, `{}`, ` [ ] `, `{"a":[1,-0,0.5,-1e+5,2E-7,10],"b":{"c":null},"d":true,"e":false}`, `"\"\\\/\b\f\n\r\t\u00fF"`, "\t1\r\n",
	`01`, `-`, `-a`, `1.`, `.5`, `1e`, `1e+`, `+1`, `00`, `-01`, `0x1`, `1 2`, `tru`, `true1`, `nul`, `falsE`, `"`, `"\"`, `"\u12"`, `"\u12g4"`, `"\x"`,
	"\"\x1f\"", "\"\x7f\xff\"", `[`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{1:2}`, `{"a":1 "b":2}`,
	`}`, `]`, `,`, `:`, `[1}`, `{"a":1]`, "\ufeff1", `NaN`, `/**/1`, "[1]\x00", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
	strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth),
}

// FuzzValidJSON: validJSON is json.Valid.
func FuzzValidJSON(f *testing.F) {
	text, err := full(f).AppendJSON(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, text := range jsonTexts {
		f.Add([]byte(text))
		for i := range min(len(text), 100) {
			f.Add([]byte(text[:i]))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := validJSON(text), json.Valid(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	})
}

// A field that AppendJSON writes never lands among the unknown ones.
func TestKnownFieldsAreRead(t *testing.T) {
	for name := range recordFields {
		rec, err := Parse([]byte(`{"version":1,"status":"never","` + name + `":[]}`))
		if err == nil {
			t.Errorf("%q takes an array", name)
		}
		if len(rec.Unknown) > 0 {
			t.Errorf("%q is unknown", name)
		}
	}
}
