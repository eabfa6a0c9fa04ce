package pgserver

import (
	"errors"
	"os"
	"testing"
)

// RequireEnv, set to anything, makes a missing server fail the test instead of
// skipping it, as CI does.
const RequireEnv = "RIGATONI_REQUIRE_SERVERS"

// Start is [New] for a test, and closes the server at its end. Without PostgreSQL the
// test is skipped, or fails if CI or [RequireEnv] is set.
func Start(t testing.TB, o *Options) *Server {
	t.Helper()
	s, err := New(t.Context(), o)
	switch {
	case errors.Is(err, ErrNotInstalled) && os.Getenv("CI") == "" && os.Getenv(RequireEnv) == "":
		t.Skipf("%v (%s=1 makes this a failure)", err, RequireEnv)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && testing.Verbose() {
			t.Logf("log of PostgreSQL on port %d:\n%s", s.Port, s.Log())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
