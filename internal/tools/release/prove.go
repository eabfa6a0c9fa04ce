package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// prove performs the steps of a release and of its users.
func (t *trial) prove(ctx context.Context) error {
	if err := t.tidyAll(ctx); err != nil {
		return err
	}
	if err := t.step("tag all at one commit", func() error { return t.lockstep(ctx) }); err != nil {
		return err
	}
	// Before the steps of users: here every downloaded module is checked
	// against a go.sum, and these copies are used from here on.
	for _, m := range modules {
		err := t.step("build "+m.path(), func() error {
			_, err := output(ctx, filepath.Join(t.repo(), m.dir), t.inClone(), "go", "build", "./...")
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := t.step("go install", func() error { return t.install(ctx) }); err != nil {
		return err
	}
	for _, p := range programs {
		if err := t.step("a user's program, "+p.name, func() error { return p.prove(ctx, t) }); err != nil {
			return err
		}
	}
	return nil
}

// asUser is the environment of a user's go command. It uses no checksum
// database: everything was compared with our go.sum files before, and is
// cached.
func (t *trial) asUser(more ...string) []string {
	return t.goEnv(append(more, "GOSUMDB=off")...)
}

// install installs the command by its version and, as in the README, by
// "latest".
func (t *trial) install(ctx context.Context) error {
	command := path.Join(base, "cmd", "rigatoni")
	for _, query := range []string{t.version, "latest"} {
		bin := filepath.Join(t.dir, "bin-"+query)
		if _, err := output(ctx, t.dir, t.asUser("GOBIN="+bin), "go", "install", command+"@"+query); err != nil {
			return err
		}
		said, err := output(ctx, t.dir, nil, filepath.Join(bin, "rigatoni"+exe), "version")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(said, "rigatoni "+t.version+" ") {
			return fmt.Errorf("what @%s installs calls itself %q, not %s", query, said, t.version)
		}
	}
	return nil
}

// exe returns the file name of a program.
var exe = map[string]string{"windows": ".exe"}[runtime.GOOS]

//go:embed testdata
var testdata embed.FS

const (
	driverClient = "go.mongodb.org/mongo-driver/v2/mongo"
	redisClient  = "github.com/redis/go-redis/v9"
)

// A program is one of a user, in testdata, with what it must link and what it
// must not.
type program struct {
	name      string
	get       string // the module that a user gets
	wants     []string
	refuses   []string
	runsTwice []string // its output in the first and second run; nil if it is not run
}

var programs = []program{
	{
		name: "usefile", get: base,
		wants:     []string{base + "/state", base + "/stores/filestore"},
		refuses:   []string{driverClient, redisClient, base + "/changestream", "github.com/spf13/cobra"},
		runsTwice: []string{"a first start", "go on after resume token (2026-11-07T17:23:12Z, 47 bytes)"},
	},
	{
		name: "useredis", get: base + "/stores/redisstore",
		wants:   []string{base + "/state", base + "/stores/redisstore", redisClient},
		refuses: []string{driverClient, base + "/stores/filestore", base + "/changestream", "github.com/spf13/cobra"},
	},
}

// prove creates a module of the program as a user would, builds it and checks
// its contents.
func (p program) prove(ctx context.Context, t *trial) error {
	dir := filepath.Join(t.dir, p.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	text, err := testdata.ReadFile(path.Join("testdata", p.name, "main.go"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), text, 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mod", "init", "example.com/" + p.name}, {"get", p.get + "@" + t.version}, {"mod", "tidy"}, {"build", "-o", p.name + exe, "."},
	} {
		if _, err := output(ctx, dir, t.asUser(), "go", args...); err != nil {
			return err
		}
	}
	return errors.Join(p.checkLinked(ctx, t, dir), p.checkRuns(ctx, dir))
}

// checkLinked checks both what the go command links and what the program
// contains.
func (p program) checkLinked(ctx context.Context, t *trial, dir string) error {
	deps, err := output(ctx, dir, t.asUser(), "go", "list", "-deps", ".")
	if err != nil {
		return err
	}
	inside, err := output(ctx, dir, t.asUser(), "go", "version", "-m", p.name+exe)
	if err != nil {
		return err
	}
	var wrong error
	packages := strings.Fields(deps)
	for _, pkg := range p.wants {
		if !slices.Contains(packages, pkg) {
			wrong = errors.Join(wrong, fmt.Errorf("does not link %s", pkg))
		}
	}
	for _, refused := range p.refuses {
		if i := slices.IndexFunc(packages, func(pkg string) bool { return within(pkg, refused) }); i >= 0 {
			wrong = errors.Join(wrong, fmt.Errorf("links %s", packages[i]))
		}
		if strings.Contains(inside, "\tdep\t"+refused+"\t") {
			wrong = errors.Join(wrong, fmt.Errorf("has module %s inside", refused))
		}
	}
	if !strings.Contains(inside, "\tdep\t"+p.get+"\t"+t.version+"\t"+t.sums[p.get]) {
		wrong = errors.Join(wrong, fmt.Errorf("does not have %s %s (%s) inside:\n%s", p.get, t.version, t.sums[p.get], inside))
	}
	return wrong
}

// within reports whether a package is dir or below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

func (p program) checkRuns(ctx context.Context, dir string) error {
	for i, want := range p.runsTwice {
		got, err := output(ctx, dir, nil, filepath.Join(dir, p.name+exe), filepath.Join(dir, "state"))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("run %d prints %q, want %q", i+1, got, want)
		}
	}
	return nil
}
