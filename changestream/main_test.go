package changestream

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing of a stream may be left when the tests are over. The shared server's
// own goroutines wait for its processes.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/rigatoni-etl/rigatoni/rigatonitest/mongod.startProcess.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
	)
}
