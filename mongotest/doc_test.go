package mongotest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
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
	names = append(names, updateOperatorNames()...)
	for _, name := range append(names, streamStages...) {
		if _, err := compileStages([]bson.Raw{newBuilder().str(name, "").done()}, true); err != nil && asCommandError(err).code == codeNotImplemented {
			continue
		}
		if !slices.Contains(words, name) {
			t.Errorf("the documentation does not name %s", name)
		}
	}
}
