// Package testserver gives a test a MongoDB server, of one of two kinds: package
// mongotest's, which is there always and does at once what it is told, and a real
// mongod, which is right where the two differ. What a test asserts of a server's
// behaviour it asserts of both.
package testserver

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A Server is a server, a client of it, and a database for one test.
type Server struct {
	URI    string
	Client *mongo.Client
	DB     *mongo.Database

	Fake *mongotest.Server // nil: it is a real one
	Real *mongod.Server    // nil: it is mongotest's, or shared with other tests

	failures *failures
}

// Both runs a test on mongotest, and on a real server where there is one. Real ones
// are shared: nothing may be done to them that other tests would notice.
func Both(t *testing.T, test func(*testing.T, *Server)) {
	t.Helper()
	t.Run("mongotest", func(t *testing.T) { test(t, Mongotest(t)) })
	t.Run("mongod", func(t *testing.T) { test(t, Mongod(t)) })
}

// BothOwn is Both with servers that only this test has, which may be broken. The
// options are the real one's.
func BothOwn(t *testing.T, o mongod.Options, test func(*testing.T, *Server)) {
	t.Helper()
	t.Run("mongotest", func(t *testing.T) { test(t, Mongotest(t)) })
	t.Run("mongod", func(t *testing.T) { test(t, OwnMongod(t, o)) })
}

const ownDatabase = "shop"

// Mongotest starts one of mongotest's.
func Mongotest(t testing.TB) *Server {
	t.Helper()
	fake := mongotest.Start(t)
	return connect(t, &Server{URI: fake.URI(), Fake: fake}, ownDatabase)
}

// Mongod is the real server that the tests of a package share. Where none can be
// had the test is skipped.
func Mongod(t testing.TB) *Server {
	t.Helper()
	db := mongod.ForTest(t)
	return connect(t, &Server{URI: db.URI}, db.Name)
}

// OwnMongod starts a real server. Where none can be had the test is skipped.
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

// Connect makes another client, with options of its own.
func (s *Server) Connect(t testing.TB, o ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	all := options.Client().ApplyURI(s.URI).SetMonitor(&event.CommandMonitor{Failed: s.failures.count})
	client, err := mongo.Connect(append([]*options.ClientOptions{all}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Fake != nil {
			// Now and then Disconnect waits, whatever its context says, for the server
			// to answer the client's monitor, which takes ten seconds.
			s.Fake.Close()
			cancel()
		}
		_ = client.Disconnect(ctx) // the server may be gone
	})
	return client
}

// Failures is how often a command of the clients has failed, also where the driver
// did it again by itself and nobody else was told.
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
