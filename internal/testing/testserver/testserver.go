// Package testserver provides a test with a MongoDB server of one of two kinds:
// mongotest's, which is always available and executes faults at once, and a
// real mongod, which is right where the two differ. Tests of a server's
// behavior run on both.
package testserver

import (
	"context"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A Server is a server, a client of it, and a database for one test.
type Server struct {
	URI    string
	Client *mongo.Client
	DB     *mongo.Database

	Fake *mongotest.Server // nil for a real one
	Real *mongod.Server    // nil for mongotest's, and for one that other tests share

	failures *failures
}

// Both runs a test on mongotest, and on a real server if there is one. Real
// ones are shared: a test must not do anything to them that other tests would
// notice.
func Both(t *testing.T, test func(*testing.T, *Server)) {
	t.Helper()
	t.Run("mongotest", func(t *testing.T) { test(t, Mongotest(t)) })
	t.Run("mongod", func(t *testing.T) { test(t, Mongod(t)) })
}

// BothOwn is Both with servers that only this test uses, which it may break.
// The options are for the real one.
func BothOwn(t *testing.T, o mongod.Options, test func(*testing.T, *Server)) {
	t.Helper()
	t.Run("mongotest", func(t *testing.T) { test(t, Mongotest(t)) })
	t.Run("mongod", func(t *testing.T) { test(t, OwnMongod(t, o)) })
}

const ownDatabase = "shop"

// Mongotest starts a server of mongotest.
func Mongotest(t testing.TB) *Server {
	t.Helper()
	fake := mongotest.Start(t)
	return connect(t, &Server{URI: fake.URI(), Fake: fake}, ownDatabase)
}

// Mongod returns the real server that the tests of a package share. Without one
// the test is skipped.
func Mongod(t testing.TB) *Server {
	t.Helper()
	db := mongod.ForTest(t)
	return connect(t, &Server{URI: db.URI}, db.Name)
}

// OwnMongod starts a real server. Without one the test is skipped.
func OwnMongod(t testing.TB, o mongod.Options) *Server {
	t.Helper()
	real := mongod.OwnForTest(t, o)
	return connect(t, &Server{URI: real.URI(), Real: real}, ownDatabase)
}

func connect(t testing.TB, s *Server, db string) *Server {
	t.Helper()
	s.failures = &failures{n: map[string]int{}}
	s.Client = s.Connect(t)
	s.DB = s.Client.Database(db)
	return s
}

// Connect returns another client, with its own options.
func (s *Server) Connect(t testing.TB, o ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	all := options.Client().ApplyURI(s.URI).SetMonitor(&event.CommandMonitor{Failed: s.failures.count})
	client, err := mongoclient.Connect(options.MergeClientOptions(append([]*options.ClientOptions{all}, o...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// With a context that has ended the driver closes connections that are in use.
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = client.Disconnect(ended) // the error is that context's
	})
	return client
}

// Failures returns the number of failed commands of the clients, including
// those that the driver retried by itself.
func (s *Server) Failures(command string) int {
	s.failures.mu.Lock()
	defer s.failures.mu.Unlock()
	return s.failures.n[strings.ToLower(command)]
}

type failures struct {
	mu sync.Mutex
	n  map[string]int
}

func (f *failures) count(_ context.Context, e *event.CommandFailedEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n[strings.ToLower(e.CommandName)]++
}
