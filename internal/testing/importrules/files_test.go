package importrules

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Among the files of package rigatoni no uses run in a circle: each part can be
// read, and changed, without those that are built on it.
func TestRootFilesFormNoCircle(t *testing.T) {
	uses := fileUses(t, "../../..")
	if len(uses["session.go"]) < 5 || !uses["session.go"]["tracker.go"] {
		t.Fatalf("the test sees too little: session.go uses %v", slices.Sorted(maps.Keys(uses["session.go"])))
	}
	if circle := findCircle(uses); circle != nil {
		t.Errorf("these files use each other in a circle: %s", strings.Join(circle, " → "))
	}
}

func TestFindCircle(t *testing.T) {
	set := func(names ...string) map[string]bool {
		s := map[string]bool{}
		for _, n := range names {
			s[n] = true
		}
		return s
	}
	if c := findCircle(map[string]map[string]bool{"a": set("b", "c"), "b": set("c")}); c != nil {
		t.Errorf("found %v", c)
	}
	if c := findCircle(map[string]map[string]bool{"a": set("b"), "b": set("c"), "c": set("b")}); len(c) != 3 {
		t.Errorf("found %v", c)
	}
}

// findCircle returns files that use each other, the first one again at the end.
func findCircle(uses map[string]map[string]bool) []string {
	done := map[string]bool{}
	var path []string
	var visit func(file string) []string
	visit = func(file string) []string {
		if i := slices.Index(path, file); i >= 0 {
			return append(slices.Clone(path[i:]), file)
		}
		if done[file] {
			return nil
		}
		path = append(path, file)
		for _, next := range slices.Sorted(maps.Keys(uses[file])) {
			if c := visit(next); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		done[file] = true
		return nil
	}
	for _, file := range slices.Sorted(maps.Keys(uses)) {
		if c := visit(file); c != nil {
			return c
		}
	}
	return nil
}

// fileUses returns, for each file of the package in dir, the others that declare
// something which it names.
func fileUses(t *testing.T, dir string) map[string]map[string]bool {
	t.Helper()
	fset := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	cfg := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t, dir))}
	pkg, err := cfg.Check("github.com/rigatoni-etl/rigatoni", fset, files, &info)
	if err != nil {
		t.Fatal(err)
	}
	name := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	uses := map[string]map[string]bool{}
	for id, obj := range info.Uses {
		from, to := name(id.Pos()), name(obj.Pos())
		if obj.Pkg() != pkg || from == to {
			continue
		}
		if uses[from] == nil {
			uses[from] = map[string]bool{}
		}
		uses[from][to] = true
	}
	return uses
}

// exportData finds what the compiler knows of the packages that the one in dir imports.
func exportData(t *testing.T, dir string) importer.Lookup {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			exports[path] = file
		}
	}
	return func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	}
}
