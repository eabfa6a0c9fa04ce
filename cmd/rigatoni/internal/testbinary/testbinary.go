// Package testbinary builds the command for tests that run it as a process.
package testbinary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Path returns the path of the command, called rigatoni, alone in a directory. It
// is built once for a test binary, with the race detector if that has it.
func Path(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built string // the directory to remove

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rigatoni-binary-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "rigatoni")
	if err := Build(path); err != nil {
		return "", err
	}
	return path, nil
})

// Build builds the command, with the race detector if the test has it and with
// further flags of "go build".
func Build(path string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	if race {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/rigatoni-etl/rigatoni/cmd/rigatoni")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the command: %w\n%s", err, out)
	}
	return nil
}

// Main runs the tests, and removes what Path built.
func Main(m *testing.M) int {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built) // the system cleans its temporary directory
	}
	return code
}
