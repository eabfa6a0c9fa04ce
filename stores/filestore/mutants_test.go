package filestore

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// A mutant is the store with one of the well-known mistakes. All of them are in one test
// binary, made of this package with some texts replaced, where a variable of the
// environment says which mistake to make.
type mutant struct {
	name  string
	edits []edit
	// by is the tests that must find it, "" where only a disk that is cut off can.
	by string
}

// An edit replaces a text, which must stand in the file exactly once. In the new one, M
// is whether the mutant is the one to be.
type edit struct{ file, old, new string }

const (
	bySaves  = "TestSimulatedCrashes"
	byCrowds = "TestSimulatedCrowd"

	mutantVar = "RIGATONI_MUTANT"
)

var mutants = []mutant{
	{"no flush", []edit{
		{"change.go", "	f := c.file()\n	do := f.Sync\n", "	if M && c.replacement == nil {\n		return\n	}\n	f := c.file()\n	do := f.Sync\n"},
	}, bySaves},
	{"no directory flush at creation", []edit{
		{"change.go", "	err := s.flusher.dir.join(nil, renamed)\n", "	var err error\n	if !M {\n		err = s.flusher.dir.join(nil, renamed)\n	}\n"},
	}, bySaves},
	{"rename without flush", []edit{
		{"change.go", "func (c *change) flush() {\n", "func (c *change) flush() {\n	if M && c.replacement != nil {\n		return\n	}\n"},
	}, bySaves},
	{"one slot in place", []edit{
		{"change.go", "	k.next = 1 - k.next\n", "	if !M {\n		k.next = 1 - k.next\n	}\n"},
	}, bySaves},
	{"flush again after a failure", []edit{
		{"change.go", "	if err := c.k.s.flusher.one(f, do, c.began); err != nil {\n",
			"	err := c.k.s.flusher.one(f, do, c.began)\n	if M && err != nil {\n		err = do()\n	}\n	if err != nil {\n"},
	}, bySaves},
	{"the slot in force chosen by sequence", []edit{
		{"read.go", "		if b.mark.generation > a.mark.generation {\n",
			"		if M {\n			ra, _, _ := a.parse()\n			rb, _, _ := b.parse()\n			if rb.Checkpoint.Sequence > ra.Checkpoint.Sequence {\n" +
				"				f.force = 1\n			}\n			return nil\n		}\n		if b.mark.generation > a.mark.generation {\n"},
	}, bySaves},
	{"the other slot not known to be flushed", []edit{
		{"keyfile.go", "	s.warn(key, path, found.bad)\n",
			"	s.warn(key, path, found.bad)\n	if M {\n		k.flushed, k.slot, k.next = true, found.slot, 1-found.force\n	}\n"},
	}, bySaves},
	{"the path is not looked at", []edit{
		{"change.go", "	case same && size == int64(2*k.slot):\n", "	case M || same && size == int64(2*k.slot):\n"},
	}, bySaves},
	{"syncfs failure is ignored", []edit{
		{"flush.go", "	if err := fl.syncer.SyncFS(); err != nil {\n", "	if err := fl.syncer.SyncFS(); err != nil && !M {\n"},
	}, byCrowds},
	{"a failure fails only its own group", []edit{
		{"flush.go", "	if r.err == nil && r.ended != began {\n", "	if r.err == nil && r.ended != began && !M {\n"},
	}, byCrowds},
	{"a flush that has begun serves those who come later", []edit{
		{"flush.go", "	s.mu.Lock()\n	s.next = nil\n	s.mu.Unlock()\n", "	s.mu.Lock()\n	if !M {\n		s.next = nil\n	}\n	s.mu.Unlock()\n"},
		{"flush.go", "	close(r.done)\n", "	if M {\n		s.next = nil\n	}\n	close(r.done)\n"},
	}, byCrowds},
	{"renames before the flush in a batch", []edit{
		{"change.go", "	s.flush(cs)\n	renamed := s.flusher.dir.began()\n",
			"	early := M && len(cs) > 1\n	if early {\n		for _, c := range cs {\n			if c.replacement != nil {\n				c.rename()\n			}\n		}\n	}\n" +
				"	s.flush(cs)\n	renamed := s.flusher.dir.began()\n"},
		{"change.go", "		default:\n			c.rename()\n", "		case early:\n		default:\n			c.rename()\n"},
	}, bySaves},
	{"no directory flush in a batch", []edit{
		{"change.go", "	if len(replacing) == 0 {\n", "	if len(replacing) == 0 || M && len(cs) > 1 {\n		for _, c := range replacing {\n			c.adopt(nil)\n		}\n"},
	}, bySaves},
	{"no fdatasync after syncfs", []edit{
		{"flush.go", "	return f.Datasync()\n", "	if M {\n		return nil\n	}\n	return f.Datasync()\n"},
	}, ""},
}

// Of every mutant, a simulated campaign must find what it loses. Without any, the same
// binary finds nothing.
func TestMutants(t *testing.T) {
	childBinary(t, mutants[0].name) // so that the time isn't the first one's
	for _, m := range mutants {
		if m.by == "" {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			out, failed := runSimulated(t, m.name, m.by, "60")
			finding := regexp.MustCompile(`life \d+: (lost|wrong answer): .*`).FindString(out)
			if !failed || finding == "" || !strings.Contains(out, "--- FAIL: "+m.by) || strings.Contains(out, "panic:") {
				t.Fatalf("not found: %s", out)
			}
			t.Logf("%s: %.200s", regexp.MustCompile(`after \d+ crashes`).FindString(out), finding)
		})
	}
	t.Run("none", func(t *testing.T) {
		out, failed := runSimulated(t, "none", bySaves+"|"+byCrowds, "1")
		if failed || strings.Count(out, "--- PASS") != 2 {
			t.Fatalf("without a mistake: %s", out)
		}
	})
}

func runSimulated(t *testing.T, mutant, tests, seconds string) (out string, failed bool) {
	cmd := exec.Command(childBinary(t, mutant), "-test.run=^("+tests+")$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, campaign.Var) }),
		simPatienceVar+"="+seconds)
	text, err := cmd.CombinedOutput()
	return string(text), err != nil
}

// childBinary is a test binary of this package with a mistake, or this one for "".
func childBinary(t testing.TB, mutant string) string {
	t.Helper()
	if mutant == "" {
		return os.Args[0]
	}
	dir := mutantDir.use(t)
	path := filepath.Join(dir, regexp.MustCompile(`\W+`).ReplaceAllString(mutant, "-"))
	script := fmt.Sprintf("#!/bin/sh\n%s='%s'\nexport %s\nexec '%s' \"$@\"\n", mutantVar, mutant, mutantVar, filepath.Join(dir, "mutants.test"))
	must(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

// mutantDir is where the binary with all mistakes is, as long as a test uses it.
var mutantDir mutantBinary

type mutantBinary struct {
	mu    sync.Mutex
	users int
	dir   string
}

func (b *mutantBinary) use(t testing.TB) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the mutants are started by a shell script")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == 0 {
		dir, err := os.MkdirTemp("", "filestore-mutants")
		must(t, err)
		b.dir = dir
		start := time.Now()
		buildMutants(t, dir)
		t.Logf("built in %v", time.Since(start).Round(time.Millisecond))
	}
	b.users++
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.users--; b.users == 0 {
			os.RemoveAll(b.dir)
		}
	})
	return b.dir
}

// buildMutants builds the binary as dir/mutants.test.
func buildMutants(t testing.TB, dir string) {
	t.Helper()
	wd, err := os.Getwd()
	must(t, err)
	overlay := make(map[string]string)
	add := func(name, text string) {
		overlay[filepath.Join(wd, name)] = filepath.Join(dir, name)
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for name, text := range mutate(t) {
		add(name, text)
	}
	add("mutant.go", "package filestore\n\nimport \"os\"\n\nvar mutantName = os.Getenv(\""+mutantVar+"\")\n")
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "overlay.json"), text, 0o600))
	build := exec.Command("go", "test", "-c", "-race=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "mutants.test"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
}

// mutate is the files that the mutants change.
func mutate(t testing.TB) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, m := range mutants {
		for _, e := range m.edits {
			if _, ok := files[e.file]; !ok {
				text, err := os.ReadFile(e.file)
				must(t, err)
				files[e.file] = string(text)
			}
			if n := strings.Count(files[e.file], e.old); n != 1 {
				t.Fatalf("the mutant %q: the text to be replaced stands in %s %d times, and not once:\n%s", m.name, e.file, n, e.old)
			}
			is := fmt.Sprintf("(mutantName == %q)", m.name)
			files[e.file] = strings.Replace(files[e.file], e.old, regexp.MustCompile(`\bM\b`).ReplaceAllLiteralString(e.new, is), 1)
		}
	}
	return files
}
