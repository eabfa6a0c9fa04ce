package option_test

import (
	"errors"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// level is a type that parses itself.
type level struct{ n int }

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "low":
		l.n = 1
	case "high":
		l.n = 2
	default:
		return errors.New("no such level")
	}
	return nil
}

func (l level) MarshalText() ([]byte, error) {
	return []byte([]string{"none", "low", "high"}[l.n]), nil
}

type options struct {
	Canonical    bool          `group:"Form" help:"write canonical JSON"`
	MaxFileBytes int64         `help:"finish a file at this size" kind:"size" default:"128MiB" off:"no limit" min:"1"`
	MaxFileAge   time.Duration `help:"finish a file at this age" default:"1h" off:"no limit"`
	PoolSize     int           `group:"Pace" help:"connections" default:"10" max:"10000" arg:"COUNT"`
	WaitReplicas int           `help:"replicas to wait for" max:"100"`
	MaxAwait     time.Duration `help:"how long to wait" default:"1s" min:"1ms" max:"10m"`
	Mode         string        `help:"what to send" oneof:"default|lookup|required" default:"default"`
	Database     string        `help:"the database" pattern:"[^/. $]{1,5}" want:"the name of a database, which has no / . $ or space"`
	Collections  []string      `help:"the collections" pattern:"[^$]*" want:"names without $"`
	Level        level         `help:"the level" default:"low" want:"low or high"`
	Bare         level         `help:"the level without a description"`
	TLSCAFile    string        `help:"authorities" name:"tls-ca-file" kind:"path"`
	Password     string        `help:"the password" secret:"true" pattern:"[a-z ]*" want:"lower case"`
	Source       string        `help:"the server" kind:"url" pattern:"mongodb://.*" want:"a URL of MongoDB" require:"the server to read"`
	AcceptOnce   bool          `help:"accept" once:"true"`
	Logger       func()        // no option
	hidden       int
}

func TestDeclarations(t *testing.T) {
	var names []string
	for _, o := range option.Of(&options{}) {
		names = append(names, o.Name)
	}
	want := "canonical max-file-bytes max-file-age pool-size wait-replicas max-await mode database collections level bare tls-ca-file password source accept-once"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for name, want := range map[string]option.Option{
		"canonical":      {Field: "Canonical", Help: "write canonical JSON", Group: "Form", Switch: true},
		"max-file-bytes": {Field: "MaxFileBytes", Help: "finish a file at this size", Default: "128MiB", Off: "no limit", Group: "Form", Arg: "SIZE"},
		"pool-size":      {Field: "PoolSize", Help: "connections", Default: "10", Group: "Pace", Arg: "COUNT"},
		"max-await":      {Field: "MaxAwait", Help: "how long to wait", Default: "1s", Group: "Pace", Arg: "DURATION"},
		"mode":           {Field: "Mode", Help: "what to send", Default: "default", Group: "Pace", Arg: "TEXT", OneOf: []string{"default", "lookup", "required"}},
		"collections":    {Field: "Collections", Help: "the collections", Group: "Pace", Arg: "LIST", List: true},
		"password":       {Field: "Password", Help: "the password", Group: "Pace", Arg: "TEXT", Secret: true},
		"accept-once":    {Field: "AcceptOnce", Help: "accept", Group: "Pace", Once: true, Switch: true},
	} {
		o, ok := option.Find(&options{}, name)
		got := option.Option{Field: o.Field, Help: o.Help, Default: o.Default, Off: o.Off, OneOf: o.OneOf, Arg: o.Arg, Group: o.Group,
			Once: o.Once, Secret: o.Secret, List: o.List, Switch: o.Switch}
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	if _, ok := option.Find(&options{}, "logger"); ok {
		t.Error("a field without help is an option")
	}
}

func TestNamesAreKebabCase(t *testing.T) {
	type names struct {
		LeaseTTL, MaxBatchBytes, DB, TLSServer, A, OneEach, V2Tokens string `help:"x"`
	}
	var got []string
	for _, o := range option.Of(&names{}) {
		got = append(got, o.Name)
	}
	if want := []string{"lease-ttl", "max-batch-bytes", "db", "tls-server", "a", "one-each", "v2-tokens"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCompleteFillsInDefaults(t *testing.T) {
	o := options{hidden: 1}
	if err := option.Complete("p: Options.", &o); err != nil {
		t.Fatal(err)
	}
	want := options{MaxFileBytes: 128 << 20, MaxFileAge: time.Hour, PoolSize: 10, MaxAwait: time.Second, Mode: "default", Level: level{1}, hidden: 1}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("\n got %+v\nwant %+v", o, want)
	}
	given := options{Canonical: true, MaxFileBytes: -1, MaxFileAge: -1, PoolSize: 10000, WaitReplicas: 100, MaxAwait: time.Millisecond,
		Mode: "required", Database: "d", Collections: []string{"a", "b"}, Level: level{2}, TLSCAFile: "f", Password: "p", AcceptOnce: true}
	o = given
	if err := option.Complete("p: Options.", &o); err != nil || !reflect.DeepEqual(o, given) {
		t.Errorf("%v\n got %+v\nwant %+v", err, o, given)
	}
}

func TestCompleteRefuses(t *testing.T) {
	for want, o := range map[string]options{
		"MaxFileBytes is -3; it must be 1 or more, 0 for the default (128MiB), or -1 for no limit":                                               {MaxFileBytes: -3},
		"MaxFileAge is -1s; it must be positive, 0 for the default (1h), or -1 for no limit":                                                     {MaxFileAge: -time.Second},
		"PoolSize is -1; it must be from 1 to 10000, 0 for the default (10)":                                                                     {PoolSize: -1},
		"PoolSize is 10001; it must be from 1 to 10000, 0 for the default (10)":                                                                  {PoolSize: 10001},
		"WaitReplicas is -1; it must be from 0 to 100":                                                                                           {WaitReplicas: -1},
		"MaxAwait is 999µs; it must be from 1ms to 10m, 0 for the default (1s)":                                                                  {MaxAwait: 999 * time.Microsecond},
		`Mode is "x"; it must be default, lookup or required`:                                                                                    {Mode: "x"},
		`Database is "a.b"; it must be the name of a database, which has no / . $ or space`:                                                      {Database: "a.b"},
		`Collections is "$"; it must be names without $`:                                                                                         {Collections: []string{"a", "$"}},
		`Collections has an item twice: "a"`:                                                                                                     {Collections: []string{"a", "a"}},
		`Collections has an empty item, ""`:                                                                                                      {Collections: []string{""}},
		"TLSCAFile is not valid text: UTF-8 without zero bytes":                                                                                  {TLSCAFile: "\xff"},
		"Password is not valid; it must be lower case":                                                                                           {Password: "Secret"},
		"PoolSize is -1; it must be from 1 to 10000, 0 for the default (10)\np: Options.Mode is \"\\n\"; it must be default, lookup or required": {PoolSize: -1, Mode: "\n"},
	} {
		if err := option.Complete("p: Options.", &o); err == nil || err.Error() != "p: Options."+want {
			t.Errorf("\n got %v\nwant p: Options.%s", err, want)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		name, texts string
		want        options
	}{
		{"canonical", "true", options{Canonical: true}},
		{"canonical", "false", options{}},
		{"max-file-bytes", "off", options{MaxFileBytes: -1}},
		{"max-file-bytes", "-1", options{MaxFileBytes: -1}},
		{"max-file-bytes", "7", options{MaxFileBytes: 7}},
		{"max-file-bytes", "4 mib", options{MaxFileBytes: 4 << 20}},
		{"max-file-bytes", "2kB", options{MaxFileBytes: 2000}},
		{"max-file-age", "off", options{MaxFileAge: -1}},
		{"max-file-age", "1h30m", options{MaxFileAge: 90 * time.Minute}},
		{"pool-size", "0", options{}},
		{"pool-size", "10000", options{PoolSize: 10000}},
		{"mode", "lookup", options{Mode: "lookup"}},
		{"collections", "a;b", options{Collections: []string{"a", "b"}}},
		{"level", "high", options{Level: level{2}}},
		{"max-file-age", "OFF", options{MaxFileAge: -1}},
		{"collections", "a\u200db;c d", options{Collections: []string{"a\u200db", "c d"}}},
		{"password", "open sesame ", options{Password: "open sesame "}},
		{"tls-ca-file", "./~bob/a b$1/c~", options{TLSCAFile: "./~bob/a b$1/c~"}},
	} {
		o, _ := option.Find(&options{}, c.name)
		var got options
		if err := o.Set(&got, strings.Split(c.texts, ";")); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: %v\n got %+v\nwant %+v", c.name, c.texts, err, got, c.want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	for _, c := range []struct{ name, texts, want string }{
		{"canonical", "mongodb://u:hunter2@h", `is "mongodb://***@h"; it must be true or false`},
		{"canonical", "maybe", `is "maybe"; it must be true or false`},
		{"canonical", "", `is ""; it must be true or false`},
		{"database", "d ", `is "d ", which ends with a blank; take that out`},
		{"database", "\u00a0d", `is "\u00a0d", which begins with the blank U+00A0; take that out`},
		{"database", "\ufeffd", `is "\ufeffd", which begins with the control character U+FEFF; take that out`},
		{"database", "d\u200b", `is "d\u200b", which ends with the control character U+200B; take that out`},
		{"database", "a\x1bc", `is "a\x1bc", which has the control character U+001B in it; take that out`},
		{"database", "a\u202ec", `is "a\u202ec", which has the control character U+202E in it; take that out`},
		{"database", " \n", `is blank; leave it out for the default`},
		{"database", "\xff", `is not valid text: it must be UTF-8`},
		{"collections", "a;b\r", `is "b\r", which ends with a line break; take that out`},
		{"collections", "a;\tb", `is "\tb", which begins with a tab; take that out`},
		{"level", "high\n", `is "high\n", which ends with a line break; take that out`},
		{"password", "pass\nword", `has a line break in it; take that out`},
		{"source", "mongodb://u:hunter2@h/\n", `is "mongodb://***@h/\n", which ends with a line break; take that out`},
		{"level", "", `is empty; leave it out for the default`},
		{"source", "", `is empty; it is the server to read`},
		{"tls-ca-file", "~bob/ca.pem", `is "~bob/ca.pem", which begins with "~bob", which is not replaced by a home directory; write the path in full, or ./~bob for that name`},
		{"tls-ca-file", "./~/ca.pem", `is "./~/ca.pem", which has a ~ that is not at its beginning, where it would be the home directory; write the path in full`},
		{"tls-ca-file", "$CERTS/ca.pem", `is "$CERTS/ca.pem", which has "$CERTS" in it, which is not replaced in a path (only ~/ and $HOME/ at its beginning are); write the path in full`},
		{"tls-ca-file", "a/${CERTS}", `is "a/${CERTS}", which has "${CERTS}" in it, which is not replaced in a path (only ~/ and $HOME/ at its beginning are); write the path in full`},
		{"tls-ca-file", "~/$X", `is "~/$X", which has "$X" in it, which is not replaced in a path (only ~/ and $HOME/ at its beginning are); write the path in full`},
		{"max-file-bytes", "0", `is "0"; write off (no limit), or leave it out for the default (128MiB)`},
		{"max-file-bytes", "0KiB", `is "0KiB"; write off (no limit), or leave it out for the default (128MiB)`},
		{"max-file-bytes", "-2", `is "-2"; it must be a size such as 512KiB or 4MiB, 1 or more, or off (no limit)`},
		{"max-file-bytes", "4 megs", `is "4 megs"; it must be a size such as 512KiB or 4MiB, 1 or more, or off (no limit)`},
		{"max-file-bytes", "9999999999GiB", `is "9999999999GiB"; it must be a size such as 512KiB or 4MiB, 1 or more, or off (no limit)`},
		{"max-file-age", "0s", `is "0s"; write off (no limit), or leave it out for the default (1h)`},
		{"max-file-age", "5", `is "5"; it must be a duration such as 500ms, 30s or 1h30m, or off (no limit)`},
		{"max-await", "1h", `is "1h"; it must be a duration such as 500ms, 30s or 1h30m, from 1ms to 10m`},
		{"pool-size", "off", `is "off"; it must be a whole number, from 1 to 10000`},
		{"pool-size", "1.5", `is "1.5"; it must be a whole number, from 1 to 10000`},
		{"wait-replicas", "-1", `is "-1"; it must be a whole number, from 0 to 100`},
		{"mode", "Lookup", `is "Lookup"; it must be default, lookup or required`},
		{"mode", "", `is empty; leave it out for the default`},
		{"mode", "default;lookup", `has 2 values; it takes one`},
		{"database", "too-long", `is "too-long"; it must be the name of a database, which has no / . $ or space`},
		{"collections", "a;;b", `has an empty item, ""`},
		{"collections", "a;a", `has an item twice: "a"`},
		{"level", "x", `is "x"; it must be low or high`},
		{"bare", "x", `is "x": no such level`},
		{"password", "Hunter2", `is not valid; it must be lower case`},
		{"source", "http://u:hunter2@h/x?password=y", `is "http://***@h/x"; it must be a URL of MongoDB`},
		{"mode", strings.Repeat("ü", 50), `is "` + strings.Repeat("ü", 30) + `…"; it must be default, lookup or required`},
	} {
		o, ok := option.Find(&options{}, c.name)
		if !ok {
			t.Fatal(c.name)
		}
		before := options{PoolSize: 3, Mode: "m"}
		got := before
		err := o.Set(&got, strings.Split(c.texts, ";"))
		var refused *option.Error
		if !errors.As(err, &refused) || refused.Name != c.name || refused.Problem != c.want || err.Error() != c.name+" "+c.want {
			t.Errorf("\n got %v\nwant %s %s", err, c.name, c.want)
		}
		if !reflect.DeepEqual(got, before) {
			t.Errorf("%s %q was refused, and changed the struct", c.name, c.texts)
		}
	}
}

func TestTruth(t *testing.T) {
	o, _ := option.Find(&options{}, "canonical")
	for text, want := range map[string]bool{"true": true, "True": true, "TRUE": true, "yes": true, "Yes": true, "on": true, "ON": true, "y": true, "1": true,
		"false": false, "False": false, "no": false, "No": false, "off": false, "Off": false, "n": false, "0": false} {
		got := options{Canonical: !want}
		if err := o.Set(&got, []string{text}); err != nil || got.Canonical != want {
			t.Errorf("%s: %v, %v", text, got.Canonical, err)
		}
	}
}

func TestHomeDirectory(t *testing.T) {
	t.Setenv("HOME", "/home/user")
	t.Setenv("USERPROFILE", "/home/user")
	o, _ := option.Find(&options{}, "tls-ca-file")
	for given, want := range map[string]string{"~": "/home/user", "~/a/b": "/home/user/a/b", "$HOME/a": "/home/user/a", "${HOME}/a": "/home/user/a", "$HOME": "/home/user"} {
		var got options
		if err := o.Set(&got, []string{given}); err != nil || got.TLSCAFile != filepath.FromSlash(want) {
			t.Errorf("%s: %q, %v", given, got.TLSCAFile, err)
		}
	}
	t.Setenv("HOME", "")
	t.Setenv("USERPROFILE", "")
	var got options
	err := o.Set(&got, []string{"~/a"})
	if want := `tls-ca-file is "~/a", which begins with ~, and the environment doesn't say what the home directory is; write the path in full`; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestFromQuery(t *testing.T) {
	got := options{PoolSize: 3, Mode: "required"}
	err := option.FromQuery(&got, url.Values{"mode": {"lookup"}, "collections": {"a, b", "c"}, "max-file-bytes": {"off"}})
	want := options{PoolSize: 3, Mode: "lookup", Collections: []string{"a", "b", "c"}, MaxFileBytes: -1}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	all := "accept-once"
	for query, want := range map[string]string{
		"mode=lookup&nope=1":        `the URL has the unknown parameter "nope"; there are bare, canonical, collections, database, level, max-await, max-file-age, max-file-bytes, mode, password, pool-size, source, tls-ca-file, wait-replicas`,
		"accept-once=true":          `the URL has the unknown parameter "accept-once"; there are bare, `,
		"mode=default&mode=lookup":  `the URL has the parameter mode 2 times; it takes one value`,
		"level=high&pool-size=many": `the URL's parameter pool-size is "many"; it must be a whole number, from 1 to 10000`,
		"password=Hunter2":          `the URL's parameter password is not valid; it must be lower case`,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		before := got
		if err := option.FromQuery(&got, q); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", query, err, want)
		} else if list := strings.SplitAfter(err.Error(), "there are "); len(list) == 2 && strings.Contains(list[1], all) {
			t.Errorf("an option for one start is offered: %v", err)
		}
		if !reflect.DeepEqual(got, before) {
			t.Errorf("%s was refused, and changed the struct", query)
		}
	}
	if err := option.FromQuery(&struct{}{}, url.Values{"x": {"1"}}); err == nil || err.Error() != `the URL has the unknown parameter "x"; it takes none` {
		t.Errorf("got %v", err)
	}
}

func TestMistakesInDeclarationsPanic(t *testing.T) {
	for name, v := range map[string]any{
		"type": &struct {
			A float64 `help:"x"`
		}{},
		"default": &struct {
			A int `help:"x" default:"many"`
		}{},
		"default range": &struct {
			A int `help:"x" default:"5" max:"4"`
		}{},
		"default of oneof": &struct {
			A string `help:"x" default:"c" oneof:"a|b"`
		}{},
		"default of a bool": &struct {
			A bool `help:"x" default:"true"`
		}{},
		"bound": &struct {
			A time.Duration `help:"x" min:"1"`
		}{},
		"range of a text": &struct {
			A string `help:"x" max:"1"`
		}{},
		"off of a bool": &struct {
			A bool `help:"x" off:"never"`
		}{},
		"unexported": &struct {
			a int `help:"x"`
		}{},
		"pattern": &struct {
			A string `help:"x" pattern:"(" want:"x"`
		}{},
		"pattern, no words": &struct {
			A string `help:"x" pattern:"a"`
		}{},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			option.Of(v)
		}()
	}
}

// What Text returns, Set takes, and it means the same.
func TestTextIsWhatSetTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-1, 1<<40)
		v := options{
			Canonical: rapid.Bool().Draw(t, "canonical"), MaxFileBytes: int64(n.Draw(t, "bytes")), MaxFileAge: time.Duration(n.Draw(t, "age")),
			PoolSize: rapid.IntRange(0, 10000).Draw(t, "pool"), Mode: rapid.SampledFrom([]string{"", "default", "lookup"}).Draw(t, "mode"),
			Collections: rapid.SliceOfNDistinct(rapid.StringMatching("[a-z]+"), 0, 3, rapid.ID).Draw(t, "collections"),
			Level:       level{rapid.IntRange(0, 2).Draw(t, "level")},
		}
		if len(v.Collections) == 0 {
			v.Collections = nil
		}
		var got options
		for _, o := range option.Of(&v) {
			if texts := o.Text(&v); texts != nil {
				if err := o.Set(&got, texts); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !reflect.DeepEqual(got, v) {
			t.Errorf("\n got %+v\nwant %+v", got, v)
		}
	})
}

// Whatever Set takes, Complete takes, and whatever Complete has filled in it
// leaves as it is.
func FuzzSetThenComplete(f *testing.F) {
	for _, seed := range []string{"1", "0", "-1", "off", "4MiB", "1h", "true", "default", "a,b", "low", "9223372036854775807", "1e3", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		for _, o := range option.Of(&options{}) {
			var v options
			if err := o.Set(&v, option.SplitList(given)); err != nil {
				if strings.ContainsRune(err.Error(), 0) {
					t.Errorf("the message has a zero byte: %q", err)
				}
				continue
			}
			if err := option.Complete("", &v); err != nil {
				t.Errorf("%s %q: Set takes it and Complete doesn't: %v", o.Name, given, err)
			}
			once := v
			if err := option.Complete("", &v); err != nil || !reflect.DeepEqual(v, once) {
				t.Errorf("%s %q: a second Complete: %v", o.Name, given, err)
			}
		}
	})
}

func TestSetAsShowsNoValue(t *testing.T) {
	for name, want := range map[string]string{
		"mode":        `mode is "${X}"; it must be default, lookup or required`,
		"database":    `database is "${X}"; it must be the name of a database, which has no / . $ or space`,
		"bare":        `bare is "${X}": no such level`,
		"password":    `password is not valid; it must be lower case`,
		"source":      `source is "${X}"; it must be a URL of MongoDB`,
		"collections": `collections is "${X}"; it must be names without $`,
	} {
		o, _ := option.Find(&options{}, name)
		if err := o.SetAs(&options{}, []string{"$hunter2."}, "${X}"); err == nil || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"mongodb://u:p@h:1,h:2/db?authSource=admin":    "mongodb://***@h:1,h:2/db",
		"mongodb://u:p/w@x?y@h/db":                     "mongodb://***@h/db",
		"redis://:p@h":                                 "redis://***@h",
		"file:./state":                                 "file:./state",
		"localhost:27017":                              "localhost:27017",
		"h/?authMechanismProperties=T:s3cretPW":        "h/",
		"bob:s3cretPW@127.0.0.1:28917":                 "***@127.0.0.1:28917",
		"mongodb:/root:s3cret@PW@h/?x":                 "***@h/",
		"mongodb:bob:s3cretPW@h":                       "***@h",
		"mongodb://h/?tlsCertificateKeyFilePassword=x": "mongodb://h/",
	} {
		if got := option.RedactURL(in); got != want {
			t.Errorf("RedactURL(%s) = %s, want %s", in, got, want)
		}
	}
}
