package redisserver

import (
	"errors"
	"os"
	"testing"
)

// RequireEnv, set to anything, makes a missing server fail the test instead of
// skipping it, as CI does.
const RequireEnv = "RIGATONI_REQUIRE_SERVERS"

// Start is [New] for a test, and closes the server at its end. Without
// redis-server the test is skipped, or fails if CI or [RequireEnv] is set.
func Start(t testing.TB, o *Options) *Server {
	t.Helper()
	s, err := New(t.Context(), o)
	orSkip(t, err)
	closeWith(t, s.Close, s)
	return s
}

// StartSentinel is [NewSentinel] for a test, as [Start] is New.
func StartSentinel(t testing.TB, o *SentinelOptions) *Sentinel {
	t.Helper()
	s, err := NewSentinel(t.Context(), o)
	orSkip(t, err)
	closeWith(t, s.Close, s.All()...)
	return s
}

// StartCluster is [NewCluster] for a test, as [Start] is New.
func StartCluster(t testing.TB, o *ClusterOptions) *Cluster {
	t.Helper()
	c, err := NewCluster(t.Context(), o)
	orSkip(t, err)
	closeWith(t, c.Close, c.Nodes...)
	return c
}

// TestPKI is [NewPKI] in a temporary directory of the test.
func TestPKI(t testing.TB) *PKI {
	t.Helper()
	p, err := NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func orSkip(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrNotInstalled) && os.Getenv("CI") == "" && os.Getenv(RequireEnv) == "":
		t.Skipf("%v (%s=1 makes this a failure)", err, RequireEnv)
	case err != nil:
		t.Fatal(err)
	}
}

func closeWith(t testing.TB, end func() error, servers ...*Server) {
	t.Cleanup(func() {
		if t.Failed() && testing.Verbose() {
			for _, s := range servers {
				t.Logf("log of redis-server %s:\n%s", s.Addr, s.Log())
			}
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
