package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A trial is a release in a directory of its own. The user's module cache is
// read and never written: a version that was never published would remain there
// forever.
type trial struct {
	source  string // the repository
	head    string // the commit that is tried
	version string
	dir     string
	keep    bool
	goproxy string // of the user
	cache   string // the user's module cache
	log     io.Writer

	untidy []string          // files that are not as the go command writes them
	sums   map[string]string // of each module as it was published, by path
}

// repository returns the root of the git repository that contains dir.
func repository(ctx context.Context, dir string) (string, error) {
	out, err := output(ctx, dir, nil, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", fmt.Errorf("a release is made from a git repository: %w", err)
	}
	root := filepath.FromSlash(out)
	mod, err := readMod(ctx, filepath.Join(root, "go.mod"))
	if err != nil {
		return "", err
	}
	if mod.Module.Path != base {
		return "", fmt.Errorf("%s is not the repository of %s", root, base)
	}
	return root, nil
}

// newTrial clones HEAD of the repository source. The directory keep is created
// and kept; if it is empty a temporary one is used, until close.
func newTrial(ctx context.Context, source, keep, version string, log io.Writer) (*trial, error) {
	t := &trial{source: source, keep: keep != "", log: log, sums: map[string]string{}}
	var err error
	if t.head, err = output(ctx, source, nil, "git", "rev-parse", "HEAD"); err != nil {
		return nil, err
	}
	env, err := output(ctx, source, nil, "go", "env", "GOPROXY", "GOMODCACHE")
	if err != nil {
		return nil, err
	}
	t.goproxy, t.cache, _ = strings.Cut(env, "\n")
	if t.dir, err = workDir(keep); err != nil {
		return nil, err
	}
	if err := t.clone(ctx, version); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func workDir(keep string) (string, error) {
	if keep == "" {
		dir, err := os.MkdirTemp("", "rigatoni-release-")
		if err != nil {
			return "", err
		}
		return filepath.EvalSymlinks(dir) // git and go print paths in this form
	}
	dir, err := filepath.Abs(keep)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("-keep takes a directory that isn't there yet: %w", err)
	}
	return dir, nil
}

func (t *trial) clone(ctx context.Context, version string) error {
	if _, err := output(ctx, t.dir, nil, "git", "clone", "-q", "--no-tags", t.source, "clone"); err != nil {
		return err
	}
	if _, err := output(ctx, t.repo(), nil, "git", "checkout", "-q", "--detach", t.head); err != nil {
		return err
	}
	asked, err := t.askedVersion(ctx)
	if err != nil {
		return err
	}
	t.version = cmp.Or(version, asked)
	return checkVersion(t.version)
}

// askedVersion returns the version of the root module that the others require.
func (t *trial) askedVersion(ctx context.Context) (string, error) {
	name := modules[1].file("go.mod")
	mod, err := readMod(ctx, filepath.Join(t.repo(), name))
	if err != nil {
		return "", err
	}
	for _, r := range mod.Require {
		if r.Path == base {
			return r.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not ask for %s", name, base)
}

var versionForm = regexp.MustCompile(`^v[01]\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func checkVersion(v string) error {
	if !versionForm.MatchString(v) {
		return fmt.Errorf("version %q: want the form v0.1.0 or v1.2.3-rc.1 (from v2 on the module path would have to end in /v2)", v)
	}
	return nil
}

func (t *trial) close() error {
	if t.keep {
		fmt.Fprintln(t.log, "kept:", t.dir)
		return nil
	}
	return os.RemoveAll(t.dir)
}

func (t *trial) repo() string  { return filepath.Join(t.dir, "clone") }
func (t *trial) proxy() string { return filepath.Join(t.dir, "proxy", "cache", "download") }

// step runs f and logs how long it took.
func (t *trial) step(what string, f func() error) error {
	begin := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintf(t.log, "%5.1f s  %s\n", time.Since(begin).Seconds(), what)
	return nil
}

// common is for every go command of a trial. With -trimpath the build cache is
// shared between trials, though each has a new module cache.
var common = []string{"GOWORK=off", "GOFLAGS=-trimpath -modcacherw", "GOTOOLCHAIN=local", "GONOPROXY=none"}

// goEnv is the environment of a user's go command: our modules come from the
// proxy created here, the rest from the user's cache or else from where it is
// always fetched.
func (t *trial) goEnv(more ...string) []string {
	return append(append(more,
		"GOMODCACHE="+filepath.Join(t.dir, "modcache"),
		"GOPROXY="+fileURL(t.proxy())+","+fileURL(filepath.Join(t.cache, "cache", "download"))+","+t.goproxy,
	), common...)
}

// ownUnknown makes the go command use the checksum database for all modules
// except ours, which it can't know.
const ownUnknown = "GONOSUMDB=" + base

// inClone is the environment of a go command that works on the clone's modules.
func (t *trial) inClone() []string { return t.goEnv(ownUnknown) }

func fileURL(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter
	}
	return "file://" + path
}

// modFile is the relevant part of "go mod edit -json".
type modFile struct {
	Module  struct{ Path string }
	Require []struct{ Path, Version string }
}

func readMod(ctx context.Context, name string) (modFile, error) {
	var mod modFile
	out, err := output(ctx, filepath.Dir(name), nil, "go", "mod", "edit", "-json", filepath.Base(name))
	if err != nil {
		return mod, err
	}
	return mod, json.Unmarshal([]byte(out), &mod)
}

// output returns the output of a command, without the final line break. The
// error contains its standard error.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimRight(stdout.String(), "\r\n"), nil
}
