package mongotest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The package's documentation names all that the server answers.
func TestDocumentationIsComplete(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	does, _, _ := strings.Cut(string(text), "# What it does not do")
	words := regexp.MustCompile(`\$?\w+`).FindAllString(does, -1)
	var names []string
	for name := range allCommands() {
		if name != "ismaster" && name != "buildinfo" && name != "findandmodify" { // other spellings
			names = append(names, name)
		}
	}
	for name := range updateOperators {
		names = append(names, name)
	}
	for _, name := range append(names, streamStages...) {
		if _, err := compileStage(newBuilder().str(name, "").done(), true); err != nil && asCommandError(err).code == codeNotImplemented {
			continue
		}
		if !slices.Contains(words, name) {
			t.Errorf("the documentation does not name %s", name)
		}
	}
}
