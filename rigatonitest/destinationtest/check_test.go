package destinationtest

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// TestRulesAreTheContract wants every rule to be a sentence of the doc comments of package
// rigatoni, so that suite and contract can't drift apart.
func TestRulesAreTheContract(t *testing.T) {
	text := comments(t, "../..")
	seen := map[string]bool{}
	for _, c := range cases() {
		if !strings.Contains(text, plain(c.rule)) {
			t.Errorf("%s: the contract does not say %q", c.name, c.rule)
		}
		if seen[c.name] {
			t.Errorf("two cases are named %s", c.name)
		}
		seen[c.name] = true
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
	return strings.Join(strings.Fields(strings.NewReplacer("[*", "", "[", "", "]", "").Replace(text)), " ")
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	h := newRef("tx", "a repetition is applied")
	h.Seed = 7
	report, err := Check(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "Transaction/Repetition") || report.Seed != 7 {
		t.Errorf("Check of a broken destination: %v, seed %d", err, report.Seed)
	}
	for _, want := range []string{
		"failed   Transaction/Repetition\n", "    the contract says: Where cp is a repetition",
		"is there twice; a reader finds n = ", "skipped  Sync/Durable: ", "; seed 7\n",
	} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, report)
		}
	}
}

func TestCheckHarness(t *testing.T) {
	whole := newRef("plain", "")
	noOpen, noRead := whole, whole
	noOpen.Open, noRead.Read = nil, nil
	for _, h := range []Harness{noOpen, noRead} {
		if _, err := Check(t.Context(), h); err == nil || !strings.Contains(err.Error(), "Harness.") {
			t.Errorf("Check of an incomplete harness: %v", err)
		}
	}
	refused := whole
	refused.Open = func(context.Context) (rigatoni.Destination, error) { return nil, errors.New("no route to host") }
	if report, err := Check(t.Context(), refused); err == nil || !strings.Contains(report.String(), "no route to host") {
		t.Errorf("Check of a destination that can't be opened: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, whole); !errors.Is(err, context.Canceled) {
		t.Errorf("Check with a context that has ended: %v", err)
	}
}

// TestAPanicIsAFailure, and the suite goes on.
func TestAPanicIsAFailure(t *testing.T) {
	h := newRef("plain", "")
	h.Open = func(context.Context) (rigatoni.Destination, error) { return panicking{}, nil }
	h, err := h.complete()
	if err != nil {
		t.Fatal(err)
	}
	if r := cases()[0].try(t.Context(), h); r.Status != Failed || !strings.Contains(r.Detail, "Open panics: oops") {
		t.Errorf("%s: %.200s", r.Status, r.Detail)
	}
}

type panicking struct{}

func (panicking) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { panic("oops") }

// TestACallThatHangsIsAFailure.
func TestACallThatHangsIsAFailure(t *testing.T) {
	h := newRef("plain", "")
	h.Timeout = 10 * time.Millisecond
	h.Read = func(context.Context, string) ([]Record, error) { select {} }
	h, err := h.complete()
	if err != nil {
		t.Fatal(err)
	}
	if r := cases()[0].try(t.Context(), h); r.Status != Failed || !strings.Contains(r.Detail, "has not returned") {
		t.Errorf("%s: %s", r.Status, r.Detail)
	}
}

func TestCompareEvents(t *testing.T) {
	want := []Record{{1, 1}, {2, 2}, {1, 3}, {1, 0}, {1, 5}}
	for _, c := range []struct {
		got             []Record
		complete, exact bool
		wrong           string
	}{
		{want, true, true, ""},
		{[]Record{{2, 2}, {1, 1}, {1, 3}, {1, 0}, {1, 5}}, true, true, ""}, // order is that of a document
		{want[:3], false, true, ""},
		{nil, false, true, ""},
		{nil, true, true, "nothing is there"},
		{want[:4], true, false, "n = 5 is missing at the end"},
		{[]Record{{1, 1}, {2, 2}, {1, 3}, {1, 1}, {1, 3}, {1, 0}, {1, 5}}, true, false, ""},
		{[]Record{{1, 1}, {2, 2}, {1, 3}, {1, 1}, {1, 3}, {1, 0}, {1, 5}}, true, true, "n = 1 is there twice"},
		{[]Record{{1, 1}, {1, 0}}, false, false, "n = 0 comes where n = 3 is next"},
		{[]Record{{1, 3}, {1, 1}}, false, true, "n = 3 comes where n = 1 is next"},
		{[]Record{{1, 1}, {1, 7}}, false, false, "n = 7 was not delivered"},
		{[]Record{{9, 1}}, false, false, "of the document 9"},
		{[]Record{{1, 1}, {1, 3}, {1, 0}, {1, 5}, {1, 3}, {2, 2}}, true, false, "missing at the end"}, // an older one is the last
	} {
		if got := compareEvents(want, c.got, c.complete, c.exact); (got == "") != (c.wrong == "") || !strings.Contains(got, c.wrong) {
			t.Errorf("%v, complete %v, exact %v: %q, want %q", c.got, c.complete, c.exact, got, c.wrong)
		}
	}
}
