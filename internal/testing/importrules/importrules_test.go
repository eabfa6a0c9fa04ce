// Package importrules holds the rules of who may import whom, as a test. The
// point of most of them: a program that needs only one store links no client
// library but that store's.
package importrules

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rigatoni-etl/rigatoni"

// A rule says which modules and packages may be linked, besides the standard
// library, by a program that imports a package.
type rule struct {
	dir string // of the Go module, from the root of the repository
	pkg string // below module
	may []string
	why string
}

const (
	bson  = "go.mongodb.org/mongo-driver/v2/bson"
	bsonX = "go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore" // bson's own
	intl  = "go.mongodb.org/mongo-driver/v2/internal/"        // bson's own
	drv   = "go.mongodb.org/mongo-driver/v2/"
	sys   = "golang.org/x/sys/"

	option = "/internal/option"
)

// helpers link the standard library only, so every package may import them.
var helpers = []string{"/internal/backoff", "/internal/glob", "/internal/quote", option}

var rules = []rule{
	{".", "/resumetoken", []string{bson, bsonX, intl}, "the standard library and bson"},
	{".", "/state", []string{"/resumetoken", bson, bsonX, intl, sys}, "the contract drags nothing in"},
	{".", "/state/record", []string{"/state", "/resumetoken", bson, bsonX, intl, sys}, "the kit for stores drags nothing in"},
	{".", "/state/statetest", []string{"/state", "/state/record", "/resumetoken", bson, bsonX, intl, sys}, "a store's author gets no other store"},
	{".", "/stores/memstore", []string{"/state", "/state/record", "/resumetoken", bson, bsonX, intl, sys}, "a store imports state and its kit"},
	{".", "/stores/filestore", []string{"/state", "/state/record", "/resumetoken", bson, bsonX, intl, sys}, "a store imports state and its kit, and the file store no client"},
	{".", "", []string{"/state", "/resumetoken", bson, bsonX, intl, sys}, "the pipeline imports state and bson, never the driver's client, a store or a destination"},
	{".", "/rigatonitest", []string{"", "/state", "/state/record", "/resumetoken", bson, bsonX, intl, sys}, "users' unit tests need no server and no driver"},
	{".", "/extjson", []string{bson, bsonX, intl}, "the standard library and bson"},
	{".", "/destinations/ndjson", []string{"", "/extjson", "/internal/writable", "/state", "/resumetoken", bson, bsonX, intl, sys}, "a destination imports the root"},
	{".", "/destinations/mongodb", []string{"", "/stores/mongostore", "/internal/mongoclient", "/internal/mongorights", "/state", "/state/record", "/resumetoken", drv, sys, "golang.org/x/", "github.com/klauspost/compress", "github.com/xdg-go/", "github.com/youmark/pkcs8"}, "a destination imports the root, its store and the driver"},
	{".", "/mongotest", []string{"/mongotest/internal/query", "/mongotest/internal/cmderr", "/mongotest/internal/bsondoc", "/resumetoken", bson, bsonX, intl}, "users' tests link no client of the server that they start"},
	{".", "/mongotest/internal/query", []string{"/mongotest/internal/cmderr", "/mongotest/internal/bsondoc", bson, bsonX, intl}, "the query language knows nothing of the server"},
	{".", "/changestream", []string{"", "/internal/mongoclient", "/internal/mongorights", "/state", "/resumetoken", drv, sys, "golang.org/x/", "github.com/klauspost/compress", "github.com/xdg-go/", "github.com/youmark/pkcs8"}, "the source imports the root, state and the driver"},
	{"stores/pgstore", "/stores/pgstore", []string{"/state", "/state/record", "/resumetoken", bson, bsonX, intl, sys, "github.com/jackc/", "golang.org/x/text/", "golang.org/x/sync/"}, "a store imports state, its kit and its own client"},
	{"destinations/postgres", "/destinations/postgres", []string{"", "/stores/pgstore", "/state", "/state/record", "/resumetoken", "/extjson", bson, bsonX, intl, sys, "github.com/jackc/", "golang.org/x/text/", "golang.org/x/sync/"}, "a destination imports the root, its store and their client"},
	{"stores/redisstore", "/stores/redisstore", []string{"/stores/redisstore/internal/keyspace", "/state", "/state/record", "/resumetoken", bson, bsonX, intl, sys, "github.com/redis/go-redis/", "github.com/cespare/xxhash", "go.uber.org/atomic"}, "a store imports state, its kit and its own client"},
	{"otelrigatoni", "/otelrigatoni", []string{"", "/state", "/resumetoken", bson, bsonX, intl, sys, "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/internal/", "go.opentelemetry.io/otel/semconv", "go.opentelemetry.io/otel/codes", "github.com/cespare/xxhash"}, "metrics need OpenTelemetry's API, and no SDK"},
}

func TestImports(t *testing.T) {
	all := slices.Clone(rules)
	for _, pkg := range helpers {
		all = append(all, rule{".", pkg, nil, "a helper links the standard library only"})
	}
	for _, r := range all {
		t.Run(strings.TrimPrefix(module+r.pkg, "github.com/rigatoni-etl/"), func(t *testing.T) {
			for _, dep := range deps(t, r.dir, module+r.pkg) {
				if dep != module+r.pkg && !slices.ContainsFunc(slices.Concat(r.may, helpers), func(may string) bool { return allows(may, dep) }) {
					t.Errorf("%s links %s\nrule: %s", r.pkg, dep, r.why)
				}
			}
		})
	}
}

// allows reports whether a rule's entry lets dep in. One of our own packages is
// named exactly; a library's by the beginning of its path.
func allows(may, dep string) bool {
	if may == "" || strings.HasPrefix(may, "/") {
		return dep == module+may
	}
	return strings.HasPrefix(dep, may)
}

// TestNestedModules: outside its tests a nested module never imports the root's
// internal packages, because it would stop compiling when only the root is
// upgraded. Only stable ones may be used:
// their docs promise to stay compatible.
func TestNestedModules(t *testing.T) {
	stable := []string{option, "/internal/backoff", "/internal/glob", "/internal/writable", "/internal/mongoclient"}
	for _, dir := range []string{"stores/pgstore", "stores/redisstore", "destinations/postgres", "otelrigatoni", "cmd/rigatoni", "examples"} {
		imports := run(t, dir, "go", "list", "-f", `{{join .Imports "\n"}}`, "./...")
		for _, dep := range strings.Fields(string(imports)) {
			if strings.HasPrefix(dep, module+"/internal/") && !slices.Contains(stable, strings.TrimPrefix(dep, module)) {
				t.Errorf("%s links %s", dir, dep)
			}
		}
	}
}

// TestTestingOnly: what users link is free of what only tests and make use.
func TestTestingOnly(t *testing.T) {
	own := func(pkg string) bool {
		return strings.HasPrefix(pkg, module+"/internal/testing/") || strings.HasPrefix(pkg, module+"/internal/tools/")
	}
	for _, pkg := range strings.Fields(string(run(t, ".", "go", "list", "./..."))) {
		if own(pkg) {
			continue
		}
		if i := slices.IndexFunc(deps(t, ".", pkg), own); i >= 0 {
			t.Errorf("%s links %s", pkg, deps(t, ".", pkg)[i])
		}
	}
}

// TestNoReplace: "go install …@latest" refuses a module whose go.mod has a
// replace directive.
func TestNoReplace(t *testing.T) {
	for _, dir := range []string{".", "stores/pgstore", "stores/redisstore", "destinations/postgres", "otelrigatoni", "cmd/rigatoni", "examples"} {
		if out := run(t, dir, "go", "mod", "edit", "-json"); bytes.Contains(out, []byte(`"Replace": [`)) {
			t.Errorf("%s/go.mod has a replace directive", dir)
		}
	}
}

// deps are the packages that pkg links, without the standard library's.
func deps(t *testing.T, dir, pkg string) []string {
	out := run(t, dir, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
	found := strings.Fields(string(out))
	if len(found) == 0 {
		t.Fatalf("go list -deps %s says nothing", pkg)
	}
	return found
}

func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join("..", "..", "..", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return out
}
