package config_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/extjson"
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

// single is flags that are given once each.
func single(flags map[string]string) map[string][]string {
	all := map[string][]string{}
	for name, text := range flags {
		all[name] = []string{text}
	}
	return all
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
		{"unknown field", minimal + "colections: a\n", `p.yaml:5: colections is no field; did you mean collections?`},
		{"other spelling", minimal + "maxBatchBytes: 1\n", `p.yaml:5: maxBatchBytes is no field; did you mean max-batch-bytes?`},
		{"underscores", minimal + "save_interval: 1s\n", `p.yaml:5: save_interval is no field; did you mean save-interval?`},
		{"list for one", minimal + "name: [a]\n", `p.yaml:5: name is a list; it must be a single value`},
		{"mapping for one", minimal + "name: {a: b}\n", `p.yaml:5: name is a mapping; it must be a single value`},
		{"mapping for a list", minimal + "collections: {a: b}\n", `p.yaml:5: collections is a mapping; it must be a list`},
		{"list in a list", minimal + "collections: [a, [b]]\n", `p.yaml:5: collections is a list with a list in it; each of its items must be a single value`},
		{"empty list", minimal + "collections: []\n", `p.yaml:5: collections is an empty list; leave it out for the default`},
		{"nothing", minimal + "collections:\n", `p.yaml:5: collections has no value; leave it out for the default`},
		{"empty text", minimal + "name: ''\n", `p.yaml:5: name is empty; leave it out for the default`},
		{"switch", minimal + "one-each: maybe\n", `p.yaml:5: one-each is "maybe"; it must be true or false`},
		{"duration without unit", minimal + "save-interval: 5\n", `p.yaml:5: save-interval is "5"; it must be a duration such as 500ms, 30s or 1h30m, or off (after every batch)`},
		{"negative duration", minimal + "grace-time: -5s\n", `p.yaml:5: grace-time is "-5s"; it must be a duration such as 500ms, 30s or 1h30m`},
		{"zero for off", minimal + "save-interval: 0s\n", `p.yaml:5: save-interval is "0s"; write off (after every batch), or leave it out for the default (1s)`},
		{"size", minimal + "max-batch-bytes: 4 megs\n", `p.yaml:5: max-batch-bytes is "4 megs"; it must be a size such as 512KiB or 4MiB, 1 or more`},
		{"count", minimal + "max-batch-events: 1.5\n", `p.yaml:5: max-batch-events is "1.5"; it must be a whole number, 1 or more`},
		{"mode", minimal + "full-document: UpdateLookup\n", `p.yaml:5: full-document is "UpdateLookup"; it must be default, updateLookup, whenAvailable or required`},
		{"twice", minimal + "store: file:x\n", `p.yaml:5: store stands here a second time (first in line 2)`},
		{"consent in a file", minimal + "accept-first-start: x\n", `p.yaml:5: accept-first-start applies to one start only and can't stand in a file, where it would apply to every start; give --accept-first-start`},
		{"no variable", minimal + "name: ${NOPE}\n", `p.yaml:5: name is not complete: the environment has no variable NOPE; set it, or write ${NOPE:-default}`},
		{"open brace", minimal + "name: ${NOPE\n", `p.yaml:5: name is not complete: ${ without its }; a dollar sign itself is written $$`},
		{"bad variable", minimal + "name: ${a-b}\n", `p.yaml:5: name is not complete: ${a-b} does not name a variable: write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign`},
		{"value of a variable", minimal + "log-level: ${LEVEL}\n", `p.yaml:5: log-level is "${LEVEL}"; it must be debug, info, warn or error`},
		{"name with a slash", minimal + "name: a/b\n", `p.yaml:5: name is "a/b"; it must be at most 512 bytes, without a slash, which separates it from the name of a stream`},
		{"a collection twice", minimal + "collections: a, a\n", `p.yaml:5: collections has an item twice: "a"`},
		{"empty", "", `p.yaml: the file is empty; a pipeline file has one field per line, as store: file:./state`},
		{"comment only", "# nothing\n", `p.yaml: the file is empty; a pipeline file has one field per line, as store: file:./state`},
		{"a list", "- a\n", `p.yaml:1: this is a list; a pipeline file has one field per line, as store: file:./state`},
		{"syntax", minimal + "name: [a\n", `p.yaml:6: this is not YAML: did not find expected ',' or ']' (while parsing a flow sequence)`},
		{"tab", minimal + "\tname: a\n", `p.yaml:5: this is not YAML: found a tab character that violates indentation (while scanning a plain scalar); the line begins with a tab, and YAML has blanks there`},
		{"two documents", minimal + "---\na: b\n", `p.yaml:5: a second document begins here, after ---; a pipeline file has one, for one pipeline`},
		{"a list for a key", minimal + "[a, b]: c\n", `p.yaml:5: a list stands where a field's name should`},
		{"scheme of store", "source: mongodb://h\nstore: mysql://u:hunter2@h\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store is "mysql://***@h": there is no store with this scheme; there are file:DIR, redis://USER:PASSWORD@HOST:PORT/DB, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB, redis+cluster://HOST:PORT,HOST:PORT, unix:///PATH, mongodb://USER:PASSWORD@HOST,HOST/DB.COLLECTION, postgres://USER:PASSWORD@HOST:PORT/DATABASE, memory:`},
		{"scheme of source", "source: http://u:hunter2@h\nstore: 'memory:'\nto: ndjson:-\ndatabase: d\n", `p.yaml:1: source is "http://***@h"; it must be the URL of a MongoDB server, which begins with mongodb:// or mongodb+srv://`},
		{"scheme of destination", "source: mongodb://h\nstore: 'memory:'\nto: kafka://h\ndatabase: d\n", `p.yaml:3: to is "kafka://h": there is no destination with this scheme; there are ndjson:DIR, ndjson:-, postgres://USER:PASSWORD@HOST:PORT/DATABASE, mongodb://USER:PASSWORD@HOST,HOST/DATABASE`},
		{"a store beside PostgreSQL", "source: mongodb://h\nto: {url: 'postgres://u:hunter2@h/db', mode: log}\ndatabase: d\nstore: file:./state\n", `p.yaml:4: store is given, and the destination (postgres) keeps the checkpoints itself; leave store out`},
		{"a store beside MongoDB", "source: mongodb://h\nto: mongodb://h2/copy\ndatabase: d\nstore: file:./state\n", `p.yaml:4: store is given, and the destination (mongodb) keeps the checkpoints itself; leave store out`},
		{"a mode that isn't", "source: mongodb://h\nto: postgres://u:hunter2@h/db?mode=miror\ndatabase: d\n", `p.yaml:2: to is "postgres://***@h/db": the URL's parameter mode is "miror"; it must be mirror or log`},
		{"an option of another mode", "source: mongodb://h\nto: {url: 'postgres://u:hunter2@h/db', mode: log, soft-delete: true}\ndatabase: d\n", `p.yaml:2: to can't be used: soft-delete is for a mirror; a log has a row for each delete`},
		{"a parameter of PostgreSQL", "source: mongodb://h\nto: postgres://u:hunter2@h/db?sslmode=perhaps\ndatabase: d\n", `p.yaml:2: to can't be used: the URL can't be read (sslmode is invalid); write postgres://USER:PASSWORD@HOST:PORT/DATABASE, and characters such as @ / ? # % in the password as %40 and the like`},
		{"a pattern of tables", "source: mongodb://h\nto: {url: 'postgres://u:hunter2@h/db', table: '{colection}'}\ndatabase: d\n", `p.yaml:2: to can't be used: table is "{colection}", which has {colection}; there are {collection} and {database}`},
		{"PostgreSQL without its scheme", "source: mongodb://h\nto: pg\ndatabase: d\n", `p.yaml:2: to is "pg": there is no destination with this scheme; write postgres://HOST/DATABASE`},
		{"store without a directory", "source: mongodb://h\nstore: 'file:'\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store is "file:": the URL names no directory; write file:DIR`},
		{"something after memory", "source: mongodb://h\nstore: memory:x\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store can't be used: the URL has more than "memory:"; write "memory:"`},
		{"password that breaks the URL", "source: mongodb://h\nstore: redis://u:hun%zz@h/1\nto: ndjson:-\ndatabase: d\n", `p.yaml:2: store is "redis://***@h/1": this is no URL; if it has a password, its special characters must be written as %40 for @, %3A for :, %2F for / and so on`},
		{"no name", "source: mongodb://h\nstore: 'memory:'\nto: ndjson:-\n", `p.yaml: --name, or name in the file, is missing: a stream of the whole deployment has no database to be named after; the checkpoint is kept under the name, as --name all`},
		{"missing", "source: mongodb://h\nto: ndjson:-\ndatabase: d\n", `p.yaml: --store, or store in the file, is missing: where the checkpoint is kept, as --store file:./state`},
		{"YAML's merge", "nam: &a {name: n}\n" + minimal + "<<: *a\n", `2 mistakes in the configuration:
  p.yaml:1: nam is no field; did you mean name?
  p.yaml:6: << is no field; YAML's merge is not known here; write its fields out`},
		{"a tag", minimal + "name: !env NAME\n", `p.yaml:5: name has the YAML tag !env, which is not known here; write a variable of the environment as ${NAME}, and the contents of a file as ${file:PATH}`},
		{"a tag in a list", minimal + "collections: [!!binary aGk=]\n", `p.yaml:5: collections has the YAML tag !!binary, which is not known here; write a variable of the environment as ${NAME}, and the contents of a file as ${file:PATH}`},
		{"a tag in JSON", minimal + "pipeline: [{$match: {a: !env X}}]\n", `p.yaml:5: pipeline is not complete: line 5 has the YAML tag !env, which is not known here; write a variable of the environment as ${NAME}, and the contents of a file as ${file:PATH}`},
		{"another encoding", minimal + "name: caf\xe9\n", `p.yaml:5: the byte 0xE9 is not UTF-8 text; save the file as UTF-8`},
		{"too large", minimal + "#" + strings.Repeat("x", 1<<20), `p.yaml: the file can't be read: it is larger than 1024 KiB, which no file of this kind is`},
		{"memory with its colon", "source: mongodb://h\nstore: memory:\nto: ndjson:-\n", `p.yaml:2: this is not YAML: mapping values are not allowed in this context; write memory without the colon at its end`},
		{"a colon in a value", minimal + "name: a: b\n", `p.yaml:5: this is not YAML: mapping values are not allowed in this context; a value with a colon at its end or before a blank needs quotes, and fields begin in the same column`},
		{"an at sign", minimal + "name: @x\n", "p.yaml:5: this is not YAML: found character that cannot start any token (while scanning for the next token); a value that begins with @, ` or % needs quotes"},
		{"an empty document after it", minimal + "---\n", `p.yaml:5: a second document begins here, after ---; a pipeline file has one, for one pipeline`},
		{"an empty variable", minimal + "name: ${EMPTY}\n", `p.yaml:5: name is not complete: the variable EMPTY of the environment is empty; set it, or write ${EMPTY:-} where it may be empty`},
		{"a variable without braces", "source: mongodb://u:$LEVEL@h\nstore: memory\nto: ndjson:-\ndatabase: d\n", `p.yaml:1: source is not complete: $LEVEL would stay as it is; write ${LEVEL} for the variable, or $$LEVEL for a dollar sign`},
		{"a missing file", minimal + "owner: ${file:nowhere}\n", `p.yaml:5: owner is not complete: ${file:…} names "nowhere": the file can't be read: no such file or directory`},
		{"a directory for a file", minimal + "owner: ${file:.}\n", `p.yaml:5: owner is not complete: ${file:…} names ".": the file can't be read: is a directory`},
		{"no file", minimal + "owner: ${file:}\n", `p.yaml:5: owner is not complete: ${file:…} names no file; write its path`},
		{"another's home", minimal + "owner: ${file:~x/y}\n", `p.yaml:5: owner is not complete: ${file:…} names a path that begins with "~x", which is not replaced by a home directory; write the path in full, or ./~x for that name`},
		{"a blank at the end", minimal + "owner: 'me '\n", `p.yaml:5: owner is "me ", which ends with a blank; take that out`},
		{"a block scalar", minimal + "owner: |\n  me\n", `p.yaml:5: owner is "me\n", which ends with a line break; take that out`},
		{"a line break in a variable", minimal + "owner: ${LINES}\n", `p.yaml:5: owner is "${LINES}", which has a line break in it; take that out`},
		{"an option of the destination", minimal + "max-file-age: 1h\n", `p.yaml:5: max-file-age is no field; it is an option of ndjson: write it beside url:, below to:`},
		{"an option of the store", minimal + "pool-size: 1\n", `p.yaml:5: pool-size is no field; it is an option of redis: write it beside url:, below store:`},
		{"a value for a field", minimal + "updateLookup: true\n", `p.yaml:5: updateLookup is no field; did you mean full-document: updateLookup?`},
		{"what doesn't fit", minimal + "retry-min: 5s\nretry-max: 1s\n", `p.yaml:6: retry-max (1s) is less than retry-min (5s)`},
		{"what doesn't fit, and is wrong", minimal + "retry-min: 5m\nretry-max: often\n", `p.yaml:6: retry-max is "often"; it must be a duration such as 500ms, 30s or 1h30m`},
		{"a connection string", "source: mongodb://u:hunt:er2@h\nstore: memory\nto: ndjson:-\ndatabase: d\none-each: true\n", `2 mistakes in the configuration:
  p.yaml:1: source can't be used: the connection string is not valid; in the user name and the password, the characters : / ? # [ ] @ % must be percent-encoded
  p.yaml:5: one-each needs collections, the collections to open a stream for`},
		{"an option of redis", "source: mongodb://h\nto: ndjson:-\ndatabase: d\nstore:\n  url: redis://h\n  min-retry-backoff: 1s\n  max-retry-backoff: 10ms\n", `p.yaml:4: store can't be used: min-retry-backoff (1s) is longer than max-retry-backoff (10ms)`},
		{"redis with TLS options", "source: mongodb://h\nto: ndjson:-\ndatabase: d\nstore: redis://h?tls-ca-file=x\n", `p.yaml:4: store can't be used: options tls-… are set, and the URL's scheme has no TLS; write rediss instead of redis`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := config.Read(config.Input{File: write(t, c.text), Env: env("LEVEL", "hunter2", "EMPTY", "", "LINES", "a\nb")})
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != c.want {
				t.Errorf("\n got %s\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "hun") {
				t.Errorf("the message has the secret")
			}
		})
	}
}

func TestAllMistakesInOneGoInTheOrderOfTheFile(t *testing.T) {
	file := write(t, "name: a/b\nsource: x\nstroe: y\nto: ndjson:-\n")
	_, err := config.Read(config.Input{File: file, Env: env()})
	want := `4 mistakes in the configuration:
  p.yaml: --store, or store in the file, is missing: where the checkpoint is kept, as --store file:./state
  p.yaml:1: name is "a/b"; it must be at most 512 bytes, without a slash, which separates it from the name of a stream
  p.yaml:2: source is "x"; it must be the URL of a MongoDB server, which begins with mongodb:// or mongodb+srv://
  p.yaml:3: stroe is no field; did you mean store?`
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestFlagsGoBeforeTheFile(t *testing.T) {
	file := write(t, minimal+"name: a/b\nsave-interval: 5s\ncollections: [x, y]\n")
	s, err := config.Read(config.Input{File: file, Env: env(), Flags: map[string][]string{"name": {"good"}, "collections": {"p, q"}, "one-each": {"true"}}})
	if err != nil {
		t.Fatal(err) // the file's bad name must not matter
	}
	if s.Pipeline.Name != "good" || s.Pipeline.SaveInterval != 5*time.Second || !s.Watch.OneEach || !reflect.DeepEqual(s.Watch.Collections, []string{"p", "q"}) {
		t.Errorf("got %+v", s)
	}
	_, err = config.Read(config.Input{File: file, Env: env(), Flags: map[string][]string{"name": {"x/y"}}})
	if want := `--name is "x/y"; it must be at most 512 bytes, without a slash, which separates it from the name of a stream`; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestVariablesAreFilledInAfterParsing(t *testing.T) {
	file := write(t, "source: mongodb://u:${PW}@h\nstore: ${STORE:-file:./state}\nto: ndjson:-\n"+
		"database: ${DB:-}shop\ncollections: ['${COLL}', b$b, c$]\nname: a$$b$${c}\n")
	_, err := config.Read(config.Input{File: file, Env: env("PW", "it's $3%3A ${X} -y|", "COLL", "with, comma", "STORE", "")})
	if err == nil || !strings.Contains(err.Error(), "collections") {
		t.Fatalf("a dollar in a collection's name is refused, got %v", err)
	}
	file = write(t, strings.Replace(mustRead(t, file), "b$b, c$", "b", 1))
	s, err := config.Read(config.Input{File: file, Env: env("PW", "it's $3%3A ${X} -y|", "COLL", "with, comma", "STORE", "")})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{s.Server.Source, s.Checkpoints.Store.Ref.Text, s.Output.To.Ref.Text, s.Watch.Database, s.Watch.Collections, s.Pipeline.Name}
	want := []any{"mongodb://u:it's $3%3A ${X} -y|@h", "file:./state", "ndjson:-", "shop", []string{"with, comma", "b"}, "a$b${c}"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	file := write(t, "source: mongodb://u:${urlencode:file:pw}@h/?appName=${urlencode:APP}\nstore: memory\nto: ndjson:-\ndatabase: d\nowner: ${file:./owner}\n")
	for name, text := range map[string]string{"pw": "p@s s:/w%rd\r\n", "owner": "me\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := config.Read(config.Input{File: file, Env: env("APP", "a&b")})
	if err != nil {
		t.Fatal(err)
	}
	if s.Server.Source != "mongodb://u:p%40s%20s%3A%2Fw%25rd@h/?appName=a%26b" || s.Pipeline.Owner != "me" {
		t.Errorf("got %q and %q", s.Server.Source, s.Pipeline.Owner)
	}
	for text, want := range map[string]string{"": `"./owner", which is empty`, "\n": `"./owner", which is empty`, strings.Repeat("x", 70<<10): "larger than 64 KiB", "a\nb": "has a line break in it", "a\n\n": "ends with a line break"} {
		if err := os.WriteFile("owner", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Read(config.Input{File: file, Env: env("APP", "x")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
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
		"source": "mongodb+srv://h/?x=y", "store": "rediss://h/1", "to": "ndjson:/tmp/a b?max-file-bytes=7&max-file-age=off", "database": "d",
		"max-batch-bytes": "512KiB", "max-in-flight-bytes": "1MB", "save-interval": "off", "max-batch-age": "-1",
		"lease-wait": "1h30m", "accept-first-start": "abc", "max-batch-events": "0",
	}
	s, err := config.Read(config.Input{Flags: single(flags), Env: env()})
	if err != nil {
		t.Fatal(err)
	}
	p := s.Pipeline
	got := []any{p.Name, p.MaxBatchBytes, p.MaxInFlightBytes, p.MaxBatchEvents, p.SaveInterval, p.MaxBatchAge, p.LeaseWait}
	want := []any{"d", 512 << 10, 1_000_000, 0, time.Duration(-1), time.Duration(-1), 90 * time.Minute}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&ndjson.Options{MaxFileBytes: 7, MaxFileAge: -1}, s.Output.To.Ref.Options); d != "" {
		t.Error(d)
	}
	if s.Pipeline.FirstStart.Accept != "abc" || s.Server.Source != flags["source"] || s.Checkpoints.Store.Ref.Text != flags["store"] {
		t.Errorf("got %+v", s)
	}
	for text, want := range map[string]config.Start{
		"now": {}, "none": {None: true}, "1794000000.2": {Time: bson.Timestamp{T: 1794000000, I: 2}},
		"2026-11-23T00:46:00+01:00": {Time: bson.Timestamp{T: uint32(time.Date(2026, 11, 22, 23, 46, 0, 0, time.UTC).Unix())}},
	} {
		flags["start"] = text
		if s, err := config.Read(config.Input{Flags: single(flags), Env: env()}); err != nil || s.Checkpoints.Start != want {
			t.Errorf("start %s: got %v, %v", text, s.Checkpoints.Start, err)
		}
	}
	for _, text := range []string{"yesterday", "1794000000", ".5", "0.1", "1.", "-1.1", "1900-01-01T00:00:00Z", "99999999999.1"} {
		flags["start"] = text
		_, err := config.Read(config.Input{Flags: single(flags), Env: env()})
		want := fmt.Sprintf("--start is %q; it must be now, a time such as 2026-11-23T00:46:00Z, a cluster time (seconds.increment) such as 1794000000.2, or none (refuse to begin without a checkpoint)", text)
		if err == nil || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
}

const server = "source: mongodb://h\ndatabase: d\n"

// A back end is a URL, or a mapping with the URL and its options.
func TestMappings(t *testing.T) {
	file := write(t, server+"store:\n  url: file:./state\nto:\n  url: ndjson:./${OUT}\n  max-file-bytes: 64MiB\n  max-file-age: off\n  format: canonical\n")
	s, err := config.Read(config.Input{File: file, Env: env("OUT", "out")})
	if err != nil {
		t.Fatal(err)
	}
	if s.Checkpoints.Store.Ref.Text != "file:./state" || s.Output.To.Ref.URL.Opaque != "./out" {
		t.Errorf("got %+v", s)
	}
	if d := cmp.Diff(&ndjson.Options{MaxFileBytes: 64 << 20, MaxFileAge: -1, Format: extjson.Canonical}, s.Output.To.Ref.Options); d != "" {
		t.Error(d)
	}
	// A flag overrides the whole mapping, with its mistakes.
	file = write(t, server+"store: 'memory:'\nto:\n  url: ndjson:./out\n  max-file-bytes: 0\n  nope: 1\n")
	s, err = config.Read(config.Input{File: file, Env: env(), Flags: map[string][]string{"to": {"ndjson:./other?format=canonical"}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&ndjson.Options{Format: extjson.Canonical}, s.Output.To.Ref.Options); d != "" {
		t.Error(d)
	}
}

// A destination that keeps the checkpoints itself takes the place of the store.
func TestDestinationWithCheckpoints(t *testing.T) {
	was := backend.Destinations
	defer func() { backend.Destinations = was }()
	backend.Destinations = append(slices.Clone(was), &backend.Kind{
		Schemes: []string{"ledger"}, Forms: [][2]string{{"ledger://HOST", "x"}}, Options: func() any { return &struct{}{} }, Checkpoints: true,
	})
	flags := single(map[string]string{"source": "mongodb://h", "to": "ledger://h", "database": "d"})
	if _, err := config.Read(config.Input{Flags: flags}); err != nil {
		t.Error(err)
	}
	flags["store"] = []string{"memory"}
	_, err := config.Read(config.Input{Flags: flags})
	if want := "--store is given, and the destination (ledger) keeps the checkpoints itself; leave store out"; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestMistakesInMappings(t *testing.T) {
	for _, c := range []struct{ to, want string }{
		{"{url: 'ndjson:./out', max-file-bytes: 0}", `p.yaml:4: to.max-file-bytes is "0"; write off (no limit), or leave it out for the default (128MiB)`},
		{"\n  url: ndjson:./out\n  max-file-byte: 1", `p.yaml:6: to.max-file-byte is no option of ndjson; did you mean max-file-bytes or max-file-age?`},
		{"\n  url: ndjson:./out\n  rotate-size: 1", `p.yaml:6: to.rotate-size is no option of ndjson; there are format, max-file-age, max-file-bytes`},
		{"\n  url: ndjson:./out\n  url: ndjson:./out", `p.yaml:6: to.url stands here a second time (first in line 5)`},
		{"\n  url: ndjson:./out\n  format: [a]", `p.yaml:6: to.format is a list; it must be a single value`},
		{"\n  url: ndjson:./out\n  format: ${X}", `p.yaml:6: to.format is "${X}"; it must be relaxed, canonical or simplified`},
		{"\n  url: ndjson:./out?format=canonical\n  format: relaxed", `p.yaml:6: to.format is a parameter of the url as well; write it once`},
		{"\n  url: ndjson:./out?rotate-size=1", `p.yaml:5: to.url is "ndjson:./out": the URL has the unknown parameter "rotate-size"; there are format, max-file-age, max-file-bytes`},
		{"\n  url: kafka://u:hunter2@h", `p.yaml:5: to.url is "kafka://***@h": there is no destination with this scheme; there are ndjson:DIR, ndjson:-, postgres://USER:PASSWORD@HOST:PORT/DATABASE, mongodb://USER:PASSWORD@HOST,HOST/DATABASE`},
		{"\n  url: ndjson:./out\n  [a]: b", `p.yaml:6: to has a list where an option's name should stand`},
		{"\n  url: ndjson:~x/out\n  canonical: True\n  max-file-age: 0", `3 mistakes in the configuration:
  p.yaml:5: to.url is "ndjson:~x/out": the path begins with "~x", which is not replaced by a home directory; write the path in full, or ./~x for that name
  p.yaml:6: to.canonical is no option of ndjson; did you mean format: canonical?
  p.yaml:7: to.max-file-age is "0"; write off (no limit), or leave it out for the default (1h)`},
		{"ndjson:./out?a=1&max-file-age=0", `p.yaml:4: to is "ndjson:./out": the URL has the unknown parameter "a"; there are format, max-file-age, max-file-bytes; the URL's parameter max-file-age is "0"; write off (no limit), or leave it out for the default (1h)`},
		{"{format: canonical}", `p.yaml:4: to has no url; where events go, as --to ndjson:./out`},
		{"{url: 'ndjson:-', max-file-age: 1h}", `p.yaml:4: to can't be used: max-file-bytes and max-file-age are for files; a writer has none`},
		{"[a]", `p.yaml:4: to is a list; it must be a single value`},
	} {
		_, err := config.Read(config.Input{File: write(t, server+"store: 'memory:'\nto: "+c.to+"\n"), Env: env("X", "hunter2")})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.to, err, c.want)
		}
	}
}

// The stages are a YAML list or Extended JSON, with their fields in order.
func TestPipelines(t *testing.T) {
	match := func(v any) changestream.Pipeline {
		return changestream.Pipeline{{{Key: "$match", Value: bson.D{{Key: "fullDocument.x", Value: v}}}}}
	}
	both := changestream.Pipeline{
		{{Key: "$match", Value: bson.D{{Key: "fullDocument.status", Value: bson.D{{Key: "$in", Value: bson.A{"a", "${b", "$$ROOT"}}}}}}},
		{{Key: "$set", Value: bson.D{{Key: "z", Value: int32(1)}, {Key: "a", Value: true}}}},
	}
	for text, want := range map[string]changestream.Pipeline{
		"\n  - $match: {fullDocument.status: {$in: [\"${A}\", '$${b', $$ROOT]}}\n  - $set: {z: 1, a: true}\n":         both,
		`'[{"$match": {"fullDocument.status": {"$in": ["${A}", "$${b", "$$ROOT"]}}}, {"$set": {"z": 1, "a": true}}]'`: both,
		`[{$match: {fullDocument.x: 0x10}}]`:                          match(int32(16)),
		`[{$match: {fullDocument.x: 1.0}}]`:                           match(1.0),
		`[{$match: {fullDocument.x: .inf}}]`:                          match(math.Inf(1)),
		`[{$match: {fullDocument.x: -.inf}}]`:                         match(math.Inf(-1)),
		`[{$match: {fullDocument.x: 1e300}}]`:                         match(1e300),
		`[{$match: {fullDocument.x: null}}]`:                          match(nil),
		`[{$match: {fullDocument.x: "1"}}]`:                           match("1"),
		`[{$match: {fullDocument.x: 9007199254740993}}]`:              match(int64(9007199254740993)),
		`[{$match: {fullDocument.x: 2026-01-31T00:00:00Z}}]`:          match(bson.NewDateTimeFromTime(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))),
		`[{$match: {fullDocument.x: {$date: 2026-01-31T00:00:00Z}}}]`: match(bson.NewDateTimeFromTime(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))),
	} {
		s, err := config.Read(config.Input{File: write(t, minimal+"pipeline: "+text+"\n"), Env: env("A", "a")})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, s.Watch.Pipeline); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for text, want := range map[string]string{
		"[{$lookup: {}}]":         `p.yaml:5: pipeline is "[{\"$lookup\":{}}]": stage[0]: $lookup is not possible in a change stream; the stages are $addFields, $match, $project, $redact, $replaceRoot, $replaceWith, $set, $unset`,
		"[{$unset: [_id, x]}]":    `p.yaml:5: pipeline is "[{\"$unset\":[\"_id\",\"x\"]}]": stage[0]: `,
		"{$match: {}}":            `p.yaml:5: pipeline is "{\"$match\":{}}": it must be a JSON array of stages, in brackets`,
		"[{$match: {[a]: 1}}]":    `p.yaml:5: pipeline is not complete: line 5 has a list where a field's name should stand`,
		"[{$match: {a: '${X}'}}]": `p.yaml:5: pipeline is not complete: the environment has no variable X; set it, or write ${X:-default}`,
		"&a [*a]":                 `p.yaml:5: pipeline is not complete: it is nested too deeply`,
	} {
		_, err := config.Read(config.Input{File: write(t, minimal+"pipeline: "+text+"\n"), Env: env()})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

// What a library finds wrong with the settings is said in the user's words.
func TestExplain(t *testing.T) {
	file := write(t, minimal+"retry-min: 5s\nretry-max: 10s\n")
	s, err := config.Read(config.Input{File: file, Env: env("RIGATONI_MAX_AWAIT", "2s"), Flags: map[string][]string{"collections": {"a"}}})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"rigatoni: Config.RetryMax (1s) is less than RetryMin (5s)":                "p.yaml:6: retry-max (1s) is less than retry-min (5s)",
		"changestream: Options.OneEach needs Options.Collections, the collections": "one-each needs collections, the collections",
		"changestream: Options.Collections has \"x\" twice":                        "--collections has \"x\" twice",
		"rigatoni: Config.AcceptChangedStream is wrong":                            "--accept-changed-stream is wrong",
		"rigatoni: Config.Source is nil":                                           "p.yaml:1: source is nil",
		"changestream: Options.MaxAwait is too long":                               "RIGATONI_MAX_AWAIT is too long",
		"the Database is gone":                                                     "the Database is gone",
	} {
		cause := errors.New(in)
		got := s.Explain(cause)
		if got.Error() != want || !errors.Is(got, cause) {
			t.Errorf("\n got %v\nwant %s", got, want)
		}
	}
}

func TestScrubber(t *testing.T) {
	s := config.NewScrubber("mongodb://user:p%40ss%3Aword@h/?tlsCertificateKeyFilePassword=kkey1", "redis://:0ther@h",
		"redis+sentinel://u:firstpw1@a:1,b:2/m?sentinel-username=watcher7&sentinel-password=secondpw2")
	for text, want := range map[string]string{
		"firstpw1 watcher7 secondpw2 mymaster a:1":                  "*** *** *** mymaster a:1",
		"p%40ss%3Aword p@ss:word kkey1 0ther user:p@ss:word, not h": "*** *** *** *** ***, not h",
		"p%40ss%3aword p@ss:word":                                   "*** ***", // as other libraries escape it
	} {
		if got := s.Text(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"--store=redis:bob:firstpw@h": "***@h", "--name=team@x": "--name=team@x", "--to=ndjson:./a@b": "--to=ndjson:./a@b",
	} {
		if got := config.NewScrubber(text).Text(text); got != want {
			t.Errorf("%s is shown as %s", text, got)
		}
	}
	if got := config.NewScrubber(`redis://:q%22u%5Co%0Ate@h`).Text("`q\"u\\o\nte` " + `"q\"u\\o\nte"`); got != "`***` \"***\"" {
		t.Errorf("escaped, it is shown as %s", got)
	}
	if got := (config.Scrubber{}).Text("as it is"); got != "as it is" {
		t.Errorf("got %q", got)
	}
}

// A password that is a word or a number is no reason to make messages unreadable, and
// is hidden where a password stands.
func TestSecretsThatAreWords(t *testing.T) {
	for _, secret := range []string{"a", "level", "shop", "27017", "ms", "Password", "7"} {
		s := config.NewScrubber("mongodb://user:" + secret + "@h")
		for _, text := range []string{"a lag of 7 ms at 127.0.0.1:27017: the level of shop is 27017", "level=INFO msg=ready pipeline=shop attempts=7 a=a"} {
			if got := s.Text(text); got != text {
				t.Errorf("%s: %s is shown as %s", secret, text, got)
			}
		}
		for _, leak := range []string{"mongodb://user:%s@h", "redis://:%s@h", "args: `%s`", `the value "%s"`, `\"%s\"`, "password=%s", "tlsPassword=%s&x", "AUTH: %s"} {
			want := strings.ReplaceAll(leak, "%s", "***")
			if got := s.Text(strings.ReplaceAll(leak, "%s", secret)); strings.ReplaceAll(got, "user:***", "***") != strings.ReplaceAll(want, "user:***", "***") {
				t.Errorf("%s: shown as %s, want %s", secret, got, want)
			}
		}
	}
}

func TestSecretsInAMapping(t *testing.T) {
	file := write(t, "source: mongodb://u:firstpw1@h\ndatabase: d\nto: ndjson:-\nstore:\n  url: redis+sentinel://u:secondpw2@a:1,b:2/m\n  sentinel-password: ${PW}\n")
	s, err := config.Read(config.Input{File: file, Env: env("PW", "thirdpw3")})
	if err != nil {
		t.Fatal(err)
	}
	scrub := s.Scrubber()
	if got := scrub.Text("firstpw1 secondpw2 thirdpw3 mymaster"); got != "*** *** *** mymaster" {
		t.Errorf("got %q", got)
	}
	if got := s.Checkpoints.Store.Ref.String(); got != "redis+sentinel://***@a:1,b:2/m" {
		t.Errorf("the store is shown as %s", got)
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
		case err == nil && (s.Server.Source == "" || s.Checkpoints.Store.Ref.Kind == nil || s.Output.To.Ref.Kind == nil || s.Pipeline.Name == ""):
			t.Errorf("taken without all it needs: %+v", s)
		case err != nil && (!errors.As(err, &problems) || len(problems) == 0 || err.Error() == ""):
			t.Errorf("not a list of problems: %v", err)
		}
	})
}
