package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("p.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "p.yaml"
}

const minimal = "source: mongodb://localhost\nstore: 'memory:'\nto: ndjson:-\ndatabase: shop\n"

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown field", minimal + "colections: a\n", `p.yaml:5: colections: there is no such field; did you mean collections?`},
		{"other spelling", minimal + "maxBatchBytes: 1\n", `p.yaml:5: maxBatchBytes: there is no such field; did you mean max-batch-bytes?`},
		{"underscores", minimal + "save_interval: 1s\n", `p.yaml:5: save_interval: there is no such field; did you mean save-interval?`},
		{"list for one", minimal + "name: [a]\n", `p.yaml:5: name: this is a list; it must be one value (a name)`},
		{"group for one", minimal + "name: {a: b}\n", `p.yaml:5: name: this is a group of fields; it must be one value (a name)`},
		{"group for a list", minimal + "collections: {a: b}\n", `p.yaml:5: collections: this is a group of fields; it must be a list of names`},
		{"list in a list", minimal + "collections: [a, [b]]\n", `p.yaml:5: collections: the list has a list in it; each of its items must be one value`},
		{"empty list", minimal + "collections: []\n", `p.yaml:5: collections: the list is empty; leave the field out for the default`},
		{"nothing", minimal + "collections:\n", `p.yaml:5: collections: has no value; leave the field out for the default`},
		{"empty text", minimal + "name: ''\n", `p.yaml:5: name: "" is empty; leave it out for the default`},
		{"switch", minimal + "canonical: maybe\n", `p.yaml:5: canonical: "maybe" is neither true nor false`},
		{"duration without unit", minimal + "save-interval: 5\n", `p.yaml:5: save-interval: "5" is not a duration: write a number with its unit, as 500ms, 30s, 5m or 1h30m`},
		{"negative duration", minimal + "grace-time: -5s\n", `p.yaml:5: grace-time: "-5s" is a negative duration`},
		{"zero where it can't be", minimal + "idle-interval: 0s\n", `p.yaml:5: idle-interval: "0s" is no time at all; leave it out for the default`},
		{"size", minimal + "max-batch-bytes: 4 megs\n", `p.yaml:5: max-batch-bytes: "4 megs" is not a size: write a whole number of bytes, or one with kB, MB, GB, KiB, MiB or GiB, as 4MiB`},
		{"size too large", minimal + "max-batch-bytes: 9999999GiB\n", `p.yaml:5: max-batch-bytes: "9999999GiB" is more than 1024GiB`},
		{"count", minimal + "max-batch-events: 1.5\n", `p.yaml:5: max-batch-events: "1.5" is not a whole number from 1 to 2147483647`},
		{"mode", minimal + "full-document: UpdateLookup\n", `p.yaml:5: full-document: "UpdateLookup" is not one of default, updateLookup, whenAvailable and required`},
		{"twice", minimal + "store: file:x\n", `p.yaml:5: store: stands here a second time (first in line 2)`},
		{"consent in a file", minimal + "new-stream: true\n", `p.yaml:5: new-stream: this is for one start only and can't stand in a file, where it would hold for every start; give --new-stream`},
		{"no variable", minimal + "name: ${NOPE}\n", `p.yaml:5: name: the environment has no variable NOPE; set it, or write ${NOPE:-default}`},
		{"open brace", minimal + "name: ${NOPE\n", `p.yaml:5: name: ${ without its }; a dollar sign itself is written $$`},
		{"bad variable", minimal + "name: ${a-b}\n", `p.yaml:5: name: ${a-b} does not name a variable: write ${NAME} or ${NAME:-default}, and $$ for a dollar sign`},
		{"value of a variable", minimal + "log-level: ${LEVEL}\n", `p.yaml:5: log-level: "${LEVEL}" is not one of debug, info, warn and error`},
		{"name with a slash", minimal + "name: a/b\n", `p.yaml:5: name: "a/b" has a slash, which separates the name from that of a stream`},
		{"one each of none", minimal + "one-each: true\n", `p.yaml:5: one-each: needs the collections that are to have a stream each; name them with collections`},
		{"a collection twice", minimal + "collections: a, a\n", `p.yaml:5: collections: "a, a" has "a" twice`},
		{"rotation of nothing", minimal + "rotate-age: 1h\n", `p.yaml:5: rotate-age: is for files, and standard output (ndjson:-) is none; leave it out`},
		{"size of nothing", minimal + "max-batch-bytes: 0\n", `p.yaml:5: max-batch-bytes: "0" is not a size: it must be at least 1 byte`},
		{"retries", minimal + "retry-min: 5s\nretry-max: 1s\n", `p.yaml:6: retry-max: is less than retry-min (5s)`},
		{"empty", "", `p.yaml: the file is empty; a pipeline file has one field a line, as store: file:./state`},
		{"comment only", "# nothing\n", `p.yaml: the file is empty; a pipeline file has one field a line, as store: file:./state`},
		{"a list", "- a\n", `p.yaml:1: this is a list; a pipeline file has one field a line, as store: file:./state`},
		{"syntax", minimal + "name: [a\n", `p.yaml:6: this is not YAML: did not find expected ',' or ']' (while parsing a flow sequence)`},
		{"tab", minimal + "\tname: a\n", `p.yaml:5: this is not YAML: found a tab character that violates indentation (while scanning a plain scalar)`},
		{"two documents", minimal + "---\na: b\n", `p.yaml: this is not YAML: expected single document, found multiple`},
		{"a list for a key", minimal + "[a, b]: c\n", `p.yaml:5: a list stands where a field's name should`},
		{"scheme of store", "source: mongodb://h\nstore: mysql://u:hunter2@h\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store: "mysql://***@h" is not a store: it must be memory:, file:PATH, redis://…, redis+sentinel://…, redis+cluster://… (rediss for redis with TLS) or unix://…`},
		{"scheme of source", "source: http://u:hunter2@h\nstore: 'memory:'\nto: ndjson:-\ndatabase: d\n", `p.yaml:1: source: "http://***@h" is not the URL of a MongoDB server: it must begin with mongodb:// or mongodb+srv://`},
		{"scheme of destination", "source: mongodb://h\nstore: 'memory:'\nto: kafka://h\ndatabase: d\n", `p.yaml:3: to: "kafka://h" is not a destination: it must be ndjson:DIR, or ndjson:- for standard output`},
		{"store without a folder", "source: mongodb://h\nstore: 'file:'\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store: "file:" names no folder: write file:PATH, as file:./state`},
		{"password that breaks the URL", "source: mongodb://h\nstore: redis://u:hun%zz@h/1\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store: "redis://***@h/1" is not a URL; if it has a password, its special characters must be written as %40 for @, %3A for :, %2F for / and so on`},
		{"no name", "source: mongodb://h\nstore: 'memory:'\nto: ndjson:-\n", `p.yaml: --name is missing: a stream of the whole deployment has no database to be named after; the checkpoint is kept under the name, as --name all`},
		{"collections of nothing", "source: mongodb://h\nstore: 'memory:'\nto: ndjson:-\nname: n\ncollections: a\n", `p.yaml:5: collections: collections are of a database; name it with database`},
		{"missing", "source: mongodb://h\nto: ndjson:-\ndatabase: d\n", `p.yaml: --store, or store in the file is missing: where the checkpoint is kept, as --store file:./state`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := config.Read(config.Input{File: write(t, c.text), Env: env("LEVEL", "hunter2")})
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != c.want {
				t.Errorf("\n got %s\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "hun") && c.name != "" {
				t.Errorf("the message has the secret")
			}
		})
	}
}

func TestAllMistakesInOneGoInTheOrderOfTheFile(t *testing.T) {
	file := write(t, "name: a/b\nsource: x\nstroe: y\nto: ndjson:-\n")
	_, err := config.Read(config.Input{File: file, Env: env()})
	want := `4 mistakes in what the pipeline is to do:
  p.yaml: --store, or store in the file is missing: where the checkpoint is kept, as --store file:./state
  p.yaml:1: name: "a/b" has a slash, which separates the name from that of a stream
  p.yaml:2: source: "x" is not the URL of a MongoDB server: it must begin with mongodb:// or mongodb+srv://
  p.yaml:3: stroe: there is no such field; did you mean store?`
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestFlagsGoBeforeTheFile(t *testing.T) {
	file := write(t, minimal+"name: a/b\nsave-interval: 5s\ncollections: [x, y]\n")
	s, err := config.Read(config.Input{File: file, Env: env(), Flags: map[string]string{"name": "good", "collections": "p, q", "canonical": "true"}})
	if err != nil {
		t.Fatal(err) // the file's bad name must not matter
	}
	if s.Name != "good" || s.SaveInterval != 5*time.Second || !s.Canonical || !reflect.DeepEqual(s.Collections, []string{"p", "q"}) {
		t.Errorf("got %+v", s)
	}
	_, err = config.Read(config.Input{File: file, Env: env(), Flags: map[string]string{"name": "x/y"}})
	if want := `--name: "x/y" has a slash, which separates the name from that of a stream`; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestVariablesAreFilledInAfterParsing(t *testing.T) {
	file := write(t, "source: mongodb://u:${PW}@h\nstore: ${STORE:-file:./state}\nto: ndjson:-\n"+
		"database: ${DB:-}shop\ncollections: ['${COLL}', b$b, c$]\nname: a$$b$${c}\n")
	_, err := config.Read(config.Input{File: file, Env: env("PW", "x: [y]#'\"\n", "COLL", "with, comma", "STORE", "")})
	if err == nil || !strings.Contains(err.Error(), "collections") {
		t.Fatalf("a dollar in a collection's name is refused, got %v", err)
	}
	file = write(t, strings.Replace(mustRead(t, file), "b$b, c$", "b", 1))
	s, err := config.Read(config.Input{File: file, Env: env("PW", "x: [y]#'\"\n", "COLL", "with, comma", "STORE", "")})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Settings{
		Source: "mongodb://u:x: [y]#'\"\n@h", Store: "file:./state", To: "ndjson:-", Database: "shop",
		Collections: []string{"with, comma", "b"}, Name: "a$b${c}",
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}

func mustRead(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestValues(t *testing.T) {
	flags := map[string]string{
		"source": "mongodb+srv://h/?x=y", "store": "rediss://h/1", "to": "ndjson:/tmp/a b", "database": "d",
		"start": "2026-11-23T00:46:00+01:00", "max-batch-bytes": "512KiB", "max-in-flight-bytes": "1MB", "rotate-size": "7",
		"save-interval": "0", "max-batch-age": "0s", "rotate-age": "0", "lease-wait": "1h30m", "new-stream": "true",
	}
	s, err := config.Read(config.Input{Flags: flags, Env: env()})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Settings{
		Source: "mongodb+srv://h/?x=y", Store: "rediss://h/1", To: "ndjson:/tmp/a b", Database: "d", Name: "d",
		Start: bson.Timestamp{T: uint32(time.Date(2026, 11, 22, 23, 46, 0, 0, time.UTC).Unix())}, StartGiven: true,
		MaxBatchBytes: 512 << 10, MaxInFlightBytes: 1_000_000, RotateSize: 7, RotateAge: -1,
		SaveInterval: -1, MaxBatchAge: -1, LeaseWait: 90 * time.Minute, NewStream: true,
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	flags["rotate-size"] = "0"
	if s, err := config.Read(config.Input{Flags: flags, Env: env()}); err != nil || s.RotateSize != -1 {
		t.Errorf("rotate-size 0: got %d, %v", s.RotateSize, err)
	}
	for text, want := range map[string]bson.Timestamp{"now": {}, "1794000000.2": {T: 1794000000, I: 2}} {
		flags["start"] = text
		if s, err := config.Read(config.Input{Flags: flags, Env: env()}); err != nil || s.Start != want || !s.StartGiven {
			t.Errorf("start %s: got %v, %v, %v", text, s.Start, s.StartGiven, err)
		}
	}
	for _, text := range []string{"yesterday", "1794000000", ".5", "0.1", "1.", "-1.1", "1900-01-01T00:00:00Z", "99999999999.1"} {
		flags["start"] = text
		if s, err := config.Read(config.Input{Flags: flags, Env: env()}); err == nil {
			t.Errorf("start %s was taken, as %v", text, s.Start)
		}
	}
}

// The example that users copy must have every field that there is.
func TestExampleHasEveryField(t *testing.T) {
	file := filepath.Join("..", "..", "pipeline.example.yaml")
	if _, err := config.Read(config.Input{File: file, Env: env()}); err != nil {
		t.Fatal(err)
	}
	text := "\n" + mustRead(t, file)
	for _, o := range config.Options {
		if has := strings.Contains(text, "\n"+o.Name+":"); has == o.Once {
			t.Errorf("%s: stands in the example: %v", o.Name, has)
		}
	}
}

func TestSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"mongodb://u:p@h:1,h:2/db?authSource=admin":    "mongodb://***@h:1,h:2/db",
		"mongodb://u:p/w@x?y@h/db":                     "mongodb://***@h/db",
		"redis://:p@h":                                 "redis://***@h",
		"file:./state":                                 "file:./state",
		"mongodb://h/?tlsCertificateKeyFilePassword=x": "mongodb://h/",
	} {
		if got := config.Redact(in); got != want {
			t.Errorf("Redact(%s) = %s, want %s", in, got, want)
		}
	}
	s := config.NewScrubber("mongodb://user:p%40ss%3Aword@h/?tlsCertificateKeyFilePassword=kkey", "redis://:other@h",
		"redis+sentinel://u:firstpw@a:1,b:2/m?sentinel-username=watcher&sentinel-password=secondpw")
	if got := s.Text("firstpw watcher secondpw mymaster a:1"); got != "*** *** *** mymaster a:1" {
		t.Errorf("of a URL with Sentinels: %q", got)
	}
	var b strings.Builder
	if _, err := s.Writer(&b).Write([]byte("p%40ss%3Aword p@ss:word kkey other user:p@ss:word, not h")); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "*** *** *** *** ***, not h"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (config.Scrubber{}).Text("as it is"); got != "as it is" {
		t.Errorf("got %q", got)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(minimal)
	f.Add(minimal + "collections: [a, &x b, *x]\nname: ${A:-${B}}\n")
	f.Add("&a [*a]: *a\n? {}\n: !!binary x")
	f.Add("<<: {source: mongodb://x}\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := config.Read(config.Input{File: file, Env: env("A", "1")})
		switch problems := (config.Problems)(nil); {
		case err == nil && (s.Source == "" || s.Store == "" || s.To == "" || s.Name == ""):
			t.Errorf("taken without all it needs: %+v", s)
		case err != nil && (!errors.As(err, &problems) || len(problems) == 0 || err.Error() == ""):
			t.Errorf("not a list of problems: %v", err)
		}
	})
}
