package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

//go:generate go test -run TestExampleFile -update .

var update = flag.Bool("update", false, "write pipeline.example.yaml")

// TestExampleFile compares the committed file with what the declarations make.
func TestExampleFile(t *testing.T) {
	file := filepath.Join("..", "..", "pipeline.example.yaml")
	want := exampleFile()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustRead(t, file); got != want {
		t.Errorf("%s is not what the options say; write it with go generate ./cmd/rigatoni/internal/config", file)
	}
	if _, err := config.Read(config.Input{File: file, Env: env()}); err != nil {
		t.Error(err)
	}
	everything := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(everything, []byte(uncommented(want)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Read(config.Input{File: everything, Env: env()}); err != nil {
		t.Errorf("with the fields that are comments: %v", err)
	}
}

// examples are the values that stand in the file where there is no default.
var examples = map[string]string{
	"source":      "${MONGODB_URI:-mongodb://localhost:27017/?replicaSet=rs0}",
	"database":    "shop",
	"collections": "[orders, users]",
	"name":        "shop",
	"to":          "ndjson:./out",
	"store":       "file:./state",
}

// others are the values of fields that stand in the file as comments.
var others = map[string]string{
	"http": "9600", "ready-checkpoint-age": "5m",
	"one-each":                    "true",
	"operations":                  "[insert, update, replace, delete]",
	"pipeline":                    "[{$match: {fullDocument.status: paid}}]",
	"full-document":               "updateLookup",
	"full-document-before-change": "whenAvailable",
	"expanded-events":             "true",
	"owner":                       "${HOSTNAME:-this-machine}",
	"lease-ttl":                   "15s",
	"lease-wait":                  "1m",
	"max-attempts":                "10",
	"max-batch-age":               "100ms",
	"dead-letters":                "./dead",
}

const exampleHead = `# A pipeline of rigatoni, with every field. Run it with
#
#     rigatoni run pipeline.yaml
#
# Required are source, store and to, and database or name. The other fields have
# their defaults here, or are comments with an example. Each field is a flag as
# well (rigatoni run --help), which overrides the file.
#
# ${NAME} is a variable of the environment, ${NAME:-default} one that may be
# missing, and $$ a dollar sign. The value of a variable is taken as it is.
`

func exampleFile() string {
	var b strings.Builder
	b.WriteString(exampleHead)
	group := ""
	for _, f := range config.Fields {
		if f.Option.Once {
			continue
		}
		if f.Option.Group != group {
			group = f.Option.Group
			fmt.Fprintf(&b, "\n# --- %s ---\n\n", group)
		}
		exampleOption(&b, "", f.Option, f.Kinds)
	}
	return b.String()
}

// exampleOption writes an option with its help.
func exampleOption(b *strings.Builder, indent string, o option.Option, kinds []*backend.Kind) {
	help := config.Describe(o)
	comment(b, indent, strings.ToUpper(help[:1])+help[1:]+".")
	for _, k := range kinds {
		for _, form := range k.Forms {
			fmt.Fprintf(b, "%s#   %-36s %s\n", indent, form[0], form[1])
		}
	}
	value, comments := examples[o.Name], ""
	switch {
	case indent == "" && value != "":
	case o.Default != "":
		value = o.Default
	default:
		value, comments = others[o.Name], "# "
		if value == "" {
			panic(o.Name + " has no default, and no example value in this test")
		}
	}
	if kinds == nil {
		fmt.Fprintf(b, "%s%s%s: %s\n", indent, comments, o.Name, value)
		return
	}
	fmt.Fprintf(b, "%s:\n  url: %s\n", o.Name, value)
	for _, k := range kinds {
		if used := strings.HasPrefix(value, k.Name()+":"); used {
			for _, o := range option.Of(k.Options()) {
				exampleOption(b, "  ", o, nil)
			}
		}
	}
}

func comment(b *strings.Builder, indent, text string) {
	line := indent + "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 80 {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// uncommented is the file with the fields that are comments in it.
func uncommented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		name, _, isField := strings.Cut(rest, ": ")
		if ok && isField && others[name] != "" {
			lines[i] = strings.Replace(line, "# ", "", 1)
		}
	}
	return strings.Join(lines, "\n")
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Each configuration in the documentation that is there is valid; what is required and not there is added.
func TestDocumentedConfigurations(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	more, _ := filepath.Glob(filepath.Join(root, "docs", "*", "*.md"))
	checked := 0
	for _, page := range append(append(pages, more...), filepath.Join(root, "README.md")) {
		for _, block := range yamlBlock.FindAllStringSubmatch(mustRead(t, page), -1) {
			text := block[1]
			for field, line := range map[string]string{"source": "source: mongodb://h", "database": "database: d", "store": "store: 'memory:'", "to": "to: ndjson:./out"} {
				if !regexp.MustCompile(`(?m)^` + field + `:`).MatchString(text) {
					text += line + "\n"
				}
			}
			file := filepath.Join(t.TempDir(), "p.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			checked++
			if _, err := config.Read(config.Input{File: file, Env: func(string) (string, bool) { return "mongodb://h", true }}); err != nil {
				t.Errorf("%s:\n%s\n%v", page, block[1], err)
			}
		}
	}
	if checked == 0 {
		t.Error("there is none")
	}
}
