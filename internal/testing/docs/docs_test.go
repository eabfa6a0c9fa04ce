// Package docs tests the documentation: what it refers to must exist, and what it
// quotes must be code that is compiled.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// pages returns the texts of the Markdown files, by their path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/destinations/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name, _ := filepath.Rel(root, path)
			found[filepath.ToSlash(name)] = read(t, path)
		}
	}
	if len(found) < 5 {
		t.Fatalf("found only %d pages", len(found))
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// source returns the text of all Go files.
func source(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") {
			all.WriteString(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile("[^a-z0-9 _-]")
	test    = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	block   = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
)

// TestLinks follows each relative link, to a file and to a heading in it.
func TestLinks(t *testing.T) {
	all := pages(t)
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
			if anchor != "" && !anchors(all[target])[anchor] {
				t.Errorf("%s: the link to %s leads to no heading", name, m[1])
			}
		}
	}
}

// anchors are the headings of a page, as a browser finds them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return found
}

// TestNamedTests looks for each test that a page names.
func TestNamedTests(t *testing.T) {
	code := source(t)
	for name, text := range pages(t) {
		for _, m := range test.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(code, "func "+m[1]+"(") {
				t.Errorf("%s names %s, and there is no such test", name, m[1])
			}
		}
	}
}

// TestQuotedCode looks for each line of Go code in the repository, so that what a
// page shows has been compiled. Lines with an ellipsis leave something out.
func TestQuotedCode(t *testing.T) {
	lines := map[string]bool{}
	for l := range strings.Lines(source(t)) {
		lines[squeeze(l)] = true
	}
	for name, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			for l := range strings.Lines(m[1]) {
				if l = squeeze(l); l != "" && !strings.Contains(l, "…") && !lines[l] {
					t.Errorf("%s: this line is in no Go file: %s", name, l)
				}
			}
		}
	}
}

// squeeze removes white space, and a comment at the end of the line.
func squeeze(line string) string {
	code, _, _ := strings.Cut(line, " //")
	return strings.Join(strings.Fields(code), " ")
}

var message = regexp.MustCompile("(?m)^\\| `([^`]+)`[^|]*\\|")

// TestMessages looks for each message of the troubleshooting page, and of that about
// the configuration, in the code.
func TestMessages(t *testing.T) {
	code, all := source(t), pages(t)
	_, ofConfig, _ := strings.Cut(all["docs/configuration.md"], "\n## Messages\n")
	for page, least := range map[string]int{all["docs/troubleshooting.md"]: 20, ofConfig: 10} {
		found := message.FindAllStringSubmatch(page, -1)
		if len(found) < least {
			t.Fatalf("found only %d messages", len(found))
		}
		for _, m := range found {
			for part := range strings.SplitSeq(m[1], "…") {
				if part = strings.TrimSpace(part); !strings.Contains(code, part) {
					t.Errorf("no message in the code has %q", part)
				}
			}
		}
	}
}

var file = regexp.MustCompile("`([a-z]+\\.go)`")

// TestNamedFiles looks for each file of the root package that the architecture
// page names, and for each file of the root package on that page.
func TestNamedFiles(t *testing.T) {
	named := map[string]bool{}
	for _, m := range file.FindAllStringSubmatch(pages(t)["docs/architecture.md"], -1) {
		named[m[1]] = true
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("the page names %s, and there is no such file", m[1])
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		if !strings.HasSuffix(name, "_test.go") && name != "doc.go" && !named[name] {
			t.Errorf("the page doesn't name %s", name)
		}
	}
}
