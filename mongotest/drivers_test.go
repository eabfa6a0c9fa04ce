package mongotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// The change-stream tests of the official driver have the same results here as
// on a real server: those that pass there pass here.
func TestDriversOwnTests(t *testing.T) {
	t.Parallel()
	own := driversTests(t)
	here := own.run(t, Start(t).URI())
	for _, name := range slices.Sorted(maps.Keys(here)) {
		if here[name] == "fail" {
			t.Errorf("fails on mongotest: %s", name)
		}
	}
	t.Run("mongod", func(t *testing.T) {
		uri := mongod.ForTest(t).URI
		real := own.run(t, uri)
		// Some give the server a tenth of a second, which a busy machine may not have.
		for range 2 {
			if maps.Equal(here, real) {
				break
			}
			real = own.run(t, uri)
		}
		t.Logf("as on mongod:\n%s", tell(here))
		if !maps.Equal(here, real) {
			t.Errorf("the driver's tests end like this on mongotest:\n%s\nand like this on mongod:\n%s", tell(here), tell(real))
		}
	})
}

func tell(results map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(results)) {
		fmt.Fprintf(&b, "  %s %s\n", results[name], name)
	}
	return b.String()
}

// A driversTest runs the tests of the driver version that this module uses.
type driversTest struct{ modfile string }

const driversPackage = "go.mongodb.org/mongo-driver/v2/internal/integration"

// driversTests prepares them. Their further imports are downloaded, and
// recorded in a go.mod of their own.
func driversTests(t *testing.T) driversTest {
	t.Helper()
	d := driversTest{filepath.Join(t.TempDir(), "go.mod")}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(d.modfile), name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	list := d.command(t, "list", "-deps", "-test", driversPackage)
	list.Stderr = &stderr
	if err := list.Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the driver's tests can't be had: %v\n%s", err, &stderr)
		}
		t.Skipf("the driver's tests can't be had (is there a module proxy?): %v\n%s", err, &stderr)
	}
	return d
}

func (d driversTest) command(t *testing.T, verb string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "go", append([]string{verb, "-modfile", d.modfile, "-mod=mod"}, args...)...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	return cmd
}

// run returns the result of each test on the server: pass, fail or skip.
func (d driversTest) run(t *testing.T, uri string) map[string]string {
	t.Helper()
	cmd := d.command(t, "test", "-json", "-count=1", "-timeout=5m", "-run", `TestChangeStream_|TestCSOT_.*ChangeStream`, driversPackage)
	cmd.Env = append(cmd.Env, "MONGODB_URI="+uri)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	ends := map[string]string{}
	var log strings.Builder
	for lines := json.NewDecoder(bytes.NewReader(out)); ; {
		var line struct{ Action, Test, Output string }
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading what go test wrote: %v\n%s", err, out)
		}
		log.WriteString(line.Output)
		if line.Test != "" && slices.Contains([]string{"pass", "fail", "skip"}, line.Action) {
			ends[line.Test] = line.Action
		}
	}
	if err != nil {
		t.Logf("%s", log.String())
	}
	if len(ends) < 20 {
		t.Fatalf("only %d of the driver's tests ran: %v", len(ends), err)
	}
	return ends
}
