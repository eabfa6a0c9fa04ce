package mongotest

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing of a server may be left when its test is over. The real one, which
// all tests share, waits for its process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/rigatoni-etl/rigatoni/rigatonitest/mongod.startProcess.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
	)
}
