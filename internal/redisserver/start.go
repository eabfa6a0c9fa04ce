package redisserver

import (
	"errors"
	"os"
	"testing"
)

// RequireEnv, set to anything, makes a missing server a failure rather than a
// skipped test, as CI does.
const RequireEnv = "RIGATONI_REQUIRE_SERVERS"

// Start is [New] for a test: the server ends with it. Where no redis-server is
// installed the test is skipped, or fails if CI or [RequireEnv] is set.
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
			t.Logf("log of redis-server %s:\n%s", s.Addr, s.Log())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
