package state_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No lease may leave its renewer behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
