package mongotest

import (
	"testing"

	"go.uber.org/goleak"
)

// A server leaves nothing running when its test ends. The real one, which all
// tests share, waits for its process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/rigatoni-etl/rigatoni/rigatonitest/mongod.startProcess.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
	)
}
