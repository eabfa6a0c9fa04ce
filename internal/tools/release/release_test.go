package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRelease goes through a whole release of what is committed at HEAD.
func TestRelease(t *testing.T) {
	if os.Getenv("RIGATONI_RELEASE") == "" {
		t.Skip("the proof of a release builds everything from scratch, which takes minutes: run make release, or set RIGATONI_RELEASE")
	}
	source := repositoryOrSkip(t)
	// The work is done by other processes. That go test sees when its cached
	// result is out of date, it must see this one look at what moves with HEAD.
	for _, name := range []string{"HEAD", "logs/HEAD"} {
		if _, err := os.ReadFile(filepath.Join(source, ".git", name)); err != nil {
			t.Log("the result may be cached:", err)
		}
	}

	tr, err := newTrial(t.Context(), source, "", "", testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := tr.prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(tr.untidy) > 0 {
		t.Errorf("not tidy at HEAD: %s\nto mend it: go run ./internal/tools/release -tidy", strings.Join(tr.untidy, ", "))
	}
}

func repositoryOrSkip(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	if _, err := os.Stat(filepath.Join("..", "..", "..", ".git")); errors.Is(err, os.ErrNotExist) {
		t.Skip("needs a git clone: there is no .git here to make a release from")
	}
	source, err := repository(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	return source
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// TestModules: a module that is in the workspace and not in the list would never
// be released.
func TestModules(t *testing.T) {
	out, err := output(t.Context(), filepath.Join("..", "..", ".."), nil, "go", "work", "edit", "-json")
	if err != nil {
		t.Fatal(err)
	}
	var work struct{ Use []struct{ DiskPath string } }
	if err := json.Unmarshal([]byte(out), &work); err != nil {
		t.Fatal(err)
	}
	var used, listed []string
	for _, u := range work.Use {
		used = append(used, filepath.ToSlash(filepath.Clean(u.DiskPath)))
	}
	for _, m := range modules {
		listed = append(listed, m.dir)
		mod, err := readMod(t.Context(), filepath.Join("..", "..", "..", m.file("go.mod")))
		if err != nil {
			t.Fatal(err)
		}
		if mod.Module.Path != m.path() {
			t.Errorf("%s is %s, want %s", m.file("go.mod"), mod.Module.Path, m.path())
		}
	}
	slices.Sort(used)
	slices.Sort(listed)
	if !slices.Equal(used, listed) {
		t.Errorf("go.work uses %q, a release is made of %q", used, listed)
	}
}

// small is a repository with modules as ours, of which only go.mod, go.sum and
// go.work are of interest, committed.
func small(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module "+base+"\n\ngo 1.26.0\n")
	write("go.work", "go 1.26.0\n\nuse .\n\nreplace "+base+" v0.1.0 => ./\n")
	write("LICENSE", "a licence\n")
	write("root.go", "package rigatoni\n")
	for _, m := range modules[1:] {
		write(m.file("go.mod"), "module "+m.path()+"\n\ngo 1.26.0\n\nrequire "+base+" v0.1.0\n")
		write(m.file("go.sum"), base+" v0.1.0 h1:anearlieronethatisnottrueanymoreAAAAAAAAAAAA=\n"+base+" v0.1.0/go.mod h1:anearlieronethatisnottrueanymoreAAAAAAAAAAAA=\n")
		write(m.file("x.go"), "package x\n\nimport _ \""+base+"\"\n")
	}
	mustGit(t, dir, "init", "-q")
	mustGit(t, dir, "add", "--all")
	mustGit(t, dir, "commit", "-q", "-m", "all")
	return dir
}

func mustGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	id := []string{"-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false"}
	out, err := output(t.Context(), dir, nil, "git", append(id, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func trialOf(t *testing.T, source, version string) *trial {
	t.Helper()
	tr, err := newTrial(t.Context(), source, "", version, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// The next version is asked for everywhere, sums of an earlier trial are replaced,
// and what was written and committed needs nothing more.
func TestWriteWhatIsCommitted(t *testing.T) {
	source := small(t)
	tr := trialOf(t, source, "v0.2.0")
	if err := errors.Join(tr.tidyAll(t.Context()), tr.lockstep(t.Context())); err != nil {
		t.Fatal(err)
	}
	if len(tr.untidy) > 0 {
		t.Errorf("not tidy: %q; a new version and its sums are no untidiness", tr.untidy)
	}
	files, err := tr.changed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(files, "go.work") || slices.Contains(files, "go.mod") {
		t.Errorf("to be committed: %q; want go.work and not the root's go.mod", files)
	}
	if err := tr.writeBack(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	for _, m := range modules[1:] {
		sums, err := os.ReadFile(filepath.Join(source, m.file("go.sum")))
		if err != nil {
			t.Fatal(err)
		}
		if want := base + " v0.2.0 " + tr.sums[base] + "\n"; !strings.Contains(string(sums), want) || strings.Contains(string(sums), "v0.1.0") {
			t.Errorf("%s: got\n%swant in it %s", m.file("go.sum"), sums, want)
		}
	}
	mustGit(t, source, "commit", "-q", "-a", "-m", "release")

	again := trialOf(t, source, "")
	if again.version != "v0.2.0" {
		t.Errorf("the version asked for is %s, want v0.2.0", again.version)
	}
	if err := again.tidyAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if files, err := again.changed(t.Context()); err != nil || len(files) > 0 {
		t.Errorf("after the commit there is %q left to commit (%v)", files, err)
	}
}

func TestUntidy(t *testing.T) {
	source := small(t)
	name := filepath.Join(source, "cmd", "rigatoni", "x.go")
	if err := os.WriteFile(name, []byte("package x\n"), 0o644); err != nil { // asks for the root, and doesn't use it
		t.Fatal(err)
	}
	mustGit(t, source, "commit", "-q", "-a", "-m", "untidy")
	tr := trialOf(t, source, "")
	if err := tr.tidyOnly(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if want := []string{"cmd/rigatoni/go.mod"}; !slices.Equal(tr.untidy, want) {
		t.Errorf("not tidy: %q, want %q", tr.untidy, want)
	}
	for _, m := range modules {
		sums, err := readIfThere(filepath.Join(source, m.file("go.sum")))
		if err != nil || strings.Contains(string(sums), base) {
			t.Errorf("%s has sums of our own (%v):\n%s", m.file("go.sum"), err, sums)
		}
	}
	mod, err := os.ReadFile(filepath.Join(source, "cmd", "rigatoni", "go.mod"))
	if err != nil || strings.Contains(string(mod), "require") {
		t.Errorf("cmd/rigatoni/go.mod was not tidied (%v):\n%s", err, mod)
	}
}

// What somebody is working on is never overwritten.
func TestWriteRefusesUncommitted(t *testing.T) {
	source := small(t)
	name := filepath.Join(source, "examples", "go.mod")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	mine := string(text) + "// mine\n"
	if err := os.WriteFile(name, []byte(mine), 0o644); err != nil {
		t.Fatal(err)
	}
	err = trialOf(t, source, "").writeBack(t.Context(), []string{"go.mod", "examples/go.mod"})
	if err == nil || !strings.Contains(err.Error(), "examples/go.mod") {
		t.Errorf("want a refusal that names examples/go.mod, got %v", err)
	}
	if now, err := os.ReadFile(name); err != nil || string(now) != mine {
		t.Errorf("overwritten (%v):\n%s", err, now)
	}
}

func TestRefuseTagged(t *testing.T) {
	source := small(t)
	mustGit(t, source, "tag", "cmd/rigatoni/v0.1.0")
	if err := trialOf(t, source, "").refuseTagged(t.Context()); err == nil || !strings.Contains(err.Error(), "cmd/rigatoni/v0.1.0") {
		t.Errorf("want a refusal that names the tag, got %v", err)
	}
	if err := trialOf(t, source, "v0.2.0").refuseTagged(t.Context()); err != nil {
		t.Error(err)
	}
}

// A module whose files depend on those of another can't be tagged where that one is.
func TestLockstepSeesAnotherSum(t *testing.T) {
	tr := trialOf(t, small(t), "")
	if err := tr.tidyAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tr.repo(), "root.go"), []byte("package rigatoni // changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tr.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tr.lockstep(t.Context()); err == nil || !strings.HasPrefix(err.Error(), base+" is h1:") {
		t.Errorf("want a refusal that names the root, got %v", err)
	}
}

func TestCheckVersion(t *testing.T) {
	for _, v := range []string{"v0.1.0", "v1.20.3", "v0.2.0-rc.1"} {
		if err := checkVersion(v); err != nil {
			t.Error(err)
		}
	}
	for _, v := range []string{"0.1.0", "v0.1", "v2.0.0", "v0.01.0", "v0.1.0-", "v0.1.0+meta", "latest", "v0.1.0 ", "v0.1.0;x"} {
		if checkVersion(v) == nil {
			t.Errorf("%q is taken", v)
		}
	}
}

func TestInstructions(t *testing.T) {
	const tags = `
Then tag all modules at the one commit, and push:

    git tag v0.3.0
    git tag stores/pgstore/v0.3.0
    git tag stores/redisstore/v0.3.0
    git tag destinations/postgres/v0.3.0
    git tag otelrigatoni/v0.3.0
    git tag cmd/rigatoni/v0.3.0
    git push --atomic origin HEAD v0.3.0 stores/pgstore/v0.3.0 stores/redisstore/v0.3.0 destinations/postgres/v0.3.0 otelrigatoni/v0.3.0 cmd/rigatoni/v0.3.0
`
	if got := instructions("v0.3.0", nil, false); got != tags {
		t.Errorf("with nothing to commit:\n%s", got)
	}
	got := instructions("v0.3.0", []string{"go.work", "examples/go.sum"}, false)
	for _, want := range []string{"-version v0.3.0 -write\n", "git commit -m 'Release v0.3.0' -- go.work examples/go.sum\n", tags} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"v0.1.0":            "is no flag",
		"-version 1.0":      "want the form",
		"-keep .":           "isn't there yet",
		"-wrong":            "not defined",
		"-version v0.1.0 x": "is no flag",
	} {
		repositoryOrSkip(t)
		err := run(context.WithoutCancel(t.Context()), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %q, got %v", args, want, err)
		}
	}
}
