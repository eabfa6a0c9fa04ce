package statetest

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"strings"
	"testing"
)

// TestRulesAreTheContract wants every rule to be a sentence of the doc comments of
// packages state and record (or of Harness), so that suite and contract can't drift apart.
func TestRulesAreTheContract(t *testing.T) {
	text := comments(t, "..") + comments(t, "../record") + comments(t, ".")
	for _, c := range cases() {
		if !strings.Contains(text, plain(c.rule)) {
			t.Errorf("%s: the contract does not say %q", c.name, c.rule)
		}
	}
}

func comments(t *testing.T, dir string) string {
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), dir+"/"+f.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if group, ok := n.(*ast.CommentGroup); ok {
				b.WriteString(plain(group.Text()) + " ")
			}
			return true
		})
	}
	return b.String()
}

// plain is text without line ends and links.
func plain(text string) string {
	text = strings.NewReplacer("[*", "", "[state.", "", "[", "", "]", "", "*Error", "Error").Replace(text)
	return strings.Join(strings.Fields(text), " ")
}

func TestCaseNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range cases() {
		if seen[c.name] {
			t.Errorf("two cases are named %s", c.name)
		}
		seen[c.name] = true
	}
}
