package changestream

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// Nothing of a stream may be left when the tests are over. The shared server's
// own goroutines wait for its processes.
func TestMain(m *testing.M) {
	skipExampleWithoutServer()
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/rigatoni-etl/rigatoni/rigatonitest/mongod.startProcess.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
	)
}

// An example can't skip itself where there is no server to run.
func skipExampleWithoutServer() {
	if _, err := mongod.Find(context.Background(), mongod.FindOptions{Fetch: true}); errors.Is(err, mongod.ErrNotFound) {
		fmt.Fprintln(os.Stderr, "skipping the example, no MongoDB server for it:", err)
		flag.Set("test.skip", "^Example")
	}
}
