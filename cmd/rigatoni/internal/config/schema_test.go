package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// TestSchema compares the committed file with what the declarations make.
func TestSchema(t *testing.T) {
	file := filepath.Join("..", "..", "pipeline.schema.json")
	want := config.Schema()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustRead(t, file); got != string(want) {
		t.Errorf("%s is not what the options say; write it with go generate ./cmd/rigatoni/internal/config", file)
	}
}

// schema is the schema, compiled by a library that has the rules of JSON Schema.
func schema(t *testing.T) func(text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("pipeline.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("pipeline.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		var v any
		if err := yaml.Load([]byte(text), &v, yaml.WithV4Defaults()); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		inst, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatal(err)
		}
		return compiled.Validate(inst)
	}
}

// What the command takes is valid, the example file and all of it above all.
func TestSchemaTakesWhatTheCommandTakes(t *testing.T) {
	check := schema(t)
	for _, text := range []string{exampleFile(), uncommented(exampleFile())} {
		if err := check(text); err != nil {
			t.Errorf("the example file: %v", err)
		}
	}
	for _, line := range []string{
		"one-each: True", "one-each: 'yes'", "one-each: 'ON'", "one-each: 1", "expanded-events: ${X}", "name: 2024", "name: true", "database: shop_*", "collections: a, b", "collections: [a, 7]",
		"save-interval: off", "save-interval: 1h30m", "save-interval: -1", "save-interval: '-1'", "save-interval: ${X}", "save-interval: 0.5s", "max-batch-events: 0", "max-batch-events: '7'",
		"max-batch-bytes: 65536", "max-batch-bytes: 4 MiB", "max-batch-bytes: 1GB", "max-attempts: off", "max-attempts: 3", "store: memory", "store: file:~/state", "store: ${STORE}",
		"store: {url: '${STORE}', pool-size: 3}", "store: {url: 'redis+cluster://a,b', ttl: 24h, db: 0}", "store: {url: memory}", "to: {url: 'ndjson:-', format: simplified}",
		"pipeline: '[{\"$match\": {}}]'", "pipeline: [{$match: {a: 1}}]", "start: none", "start: 1794000000.2", "full-document-before-change: off", "source: mongodb+srv://h", "source: ${SOURCE}", "operations: [insert]",
		"log-level: ${LEVEL:-info}", "dead-letters: ~/dead",
	} {
		field, _, _ := strings.Cut(line, ":")
		text := line + "\n"
		for _, other := range []string{"source: mongodb://h", "database: d", "collections: [c]", "store: memory", "to: ndjson:./out"} {
			if name, _, _ := strings.Cut(other, ":"); name != field {
				text += other + "\n"
			}
		}
		file := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		values := map[string]string{"expanded-events": "yes", "save-interval": "1s", "store": "redis://h", "source": "mongodb://h"}
		if _, err := config.Read(config.Input{File: file, Env: func(name string) (string, bool) {
			return values[field], !strings.HasPrefix(name, "RIGATONI_")
		}}); err != nil {
			t.Errorf("%s: the command: %v", line, err)
		}
		if err := check(text); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// What the schema refuses, the command refuses.
func TestSchemaRefuses(t *testing.T) {
	check := schema(t)
	for _, line := range []string{
		"colections: a", "one-each: perhaps", "one-each: 2", "name: [a]", "name: ''", "name: a/b", "collections: []", "collections: [a, a]", "collections: {a: b}", "save-interval: 5", "save-interval: 0", "save-interval: often",
		"max-batch-events: 1.5", "max-batch-events: -1", "batch-size: 99999999", "max-attempts: 0", "max-batch-bytes: 4 megs", "store: ./state", "store: {ttl: 1h}", "store: {url: 'redis://h', poolsize: 3}", "store: {url: 'file:x', ttl: 1h}",
		"to: {url: 'ndjson:x', format: yes please}", "to: {url: 'ndjson:x', max-file-age: 0}", "accept-output: abc", "full-document: UpdateLookup", "operations: [upsert]", "source: http://h", "source: 5432", "log-level: loud", "pipeline: {a: b}", "lease-wait: {}",
	} {
		field, _, _ := strings.Cut(line, ":")
		text := line + "\n"
		for _, other := range []string{"source: mongodb://h", "database: d", "store: memory", "to: ndjson:./out"} {
			if name, _, _ := strings.Cut(other, ":"); name != field {
				text += other + "\n"
			}
		}
		file := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Read(config.Input{File: file, Env: env()}); err == nil {
			t.Errorf("%s: the command takes it", line)
		}
		if err := check(text); err == nil {
			t.Errorf("%s: the schema takes it", line)
		}
	}
}
