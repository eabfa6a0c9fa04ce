package mongotest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// The package documentation names everything that the server supports.
func TestDocumentationIsComplete(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	does, _, _ := strings.Cut(string(text), "# What it does not support")
	words := regexp.MustCompile(`\$?\w+`).FindAllString(does, -1)
	var names []string
	for name := range allCommands() {
		if name != "ismaster" && name != "buildinfo" && name != "findandmodify" { // other spellings
			names = append(names, name)
		}
	}
	names = append(names, query.UpdateOperatorNames()...)
	for _, name := range append(names, query.StreamStages...) {
		if _, err := query.CompileStages([]bson.Raw{bsondoc.New().Str(name, "").Done()}, true); err != nil && cmderr.From(err).Code == cmderr.NotImplemented {
			continue
		}
		if !slices.Contains(words, name) {
			t.Errorf("the documentation does not name %s", name)
		}
	}
}
