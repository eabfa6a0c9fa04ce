package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// RequireEnv, set to anything, makes a missing server fail the test instead of
// skipping it, as CI does.
const RequireEnv = "RIGATONI_REQUIRE_SERVERS"

// shared is the server of [Main]; nil if there is none.
var shared *Server

// Main runs the tests of a package, which then share a server that they don't disturb:
// see [Database]. Use it in TestMain.
func Main(m *testing.M) (code int) {
	s, err := New(context.Background(), &Options{Config: []string{"fsync=off", "max_connections=400"}})
	switch {
	case err == nil:
		shared = s
		defer s.Close()
	case !errors.Is(err, ErrNotInstalled):
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

var databases atomic.Int64

// Database returns the URL of a database of the test's own on the shared server. Without
// PostgreSQL the test is skipped, or fails, as with [Start].
func Database(t testing.TB) string {
	t.Helper()
	if shared == nil {
		return Start(t, nil).URL()
	}
	name := fmt.Sprintf("test%d", databases.Add(1))
	create := shared.command(t.Context(), "psql", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(shared.Port), "-U", "postgres", "-c", "create database "+name)
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("pgserver: psql: %v\n%s", err, out)
	}
	return strings.Replace(shared.URL(), "/postgres?", "/"+name+"?", 1)
}

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
