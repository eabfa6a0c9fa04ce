package mongod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The environment variables that [ForTest] and [OwnForTest] heed.
const (
	// EnvURI names a server to test on, instead of one that ForTest starts. It
	// must be a replica set and let tests create and drop databases.
	EnvURI = "RIGATONI_TEST_MONGODB_URI"
	// EnvVersion is the version to start: Options.Version.
	EnvVersion = "RIGATONI_TEST_MONGODB_VERSION"
	// EnvRequire, or CI, if set to anything but "" and "0" and "false", makes
	// tests fail, instead of being skipped, where there is no server.
	EnvRequire = "RIGATONI_REQUIRE_SERVERS"
)

// TB is the part of testing.TB that is used here; every *testing.T and
// *testing.B is one. (Programs that link this package don't link testing.)
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A Database is one test's own database on a server.
type Database struct {
	// URI is the server's. It names no database.
	URI string
	// Name is the database's, different for each test. It does not exist yet;
	// it is dropped when the test ends, as are the databases whose name begins
	// with it.
	Name string
}

var shared struct {
	sync.Mutex
	started bool
	server  *Server
	err     error
}

// ForTest gives a test a database of its own on a server that all tests of the
// test binary share. Nothing that breaks the server may be done to it; see
// [OwnForTest] for that. Where no server can be had, the test is skipped, or
// fails where a server is required.
func ForTest(tb TB) *Database {
	tb.Helper()
	uri := os.Getenv(EnvURI)
	if uri == "" {
		s, err := sharedServer(tb)
		if err != nil {
			noServer(tb, err)
		}
		uri = s.URI()
	}
	db := &Database{URI: uri, Name: databaseName(tb.Name())}
	tb.Cleanup(func() {
		if err := db.drop(); err != nil {
			tb.Errorf("mongod: drop the test's databases: %v", err)
		}
	})
	return db
}

// sharedServer starts the server at the first call. It lives as long as the
// process, whose end it doesn't outlive.
func sharedServer(tb TB) (*Server, error) {
	shared.Lock()
	defer shared.Unlock()
	if !shared.started {
		shared.started = true
		shared.server, shared.err = Start(context.Background(), Options{Version: os.Getenv(EnvVersion), Logf: tb.Logf})
	}
	return shared.server, shared.err
}

// OwnForTest starts a server for one test and stops it when the test ends.
// Options.Version is, if it is empty, that of the environment.
func OwnForTest(tb TB, o Options) *Server {
	tb.Helper()
	if o.Version == "" {
		o.Version = os.Getenv(EnvVersion)
	}
	o.Logf = tb.Logf
	s, err := Start(context.Background(), o)
	if err != nil {
		noServer(tb, err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("%v", err)
		}
	})
	return s
}

// noServer ends the test: a server that can't be had is no failure unless one is
// required, a server that is there and doesn't start is. The words "no MongoDB server" are what a test command
// can look for to say at its end what was skipped.
func noServer(tb TB, err error) {
	tb.Helper()
	if isSet("CI") || isSet(EnvRequire) || !errors.Is(err, ErrNotFound) {
		tb.Fatalf("no MongoDB server for this test: %v", err)
	}
	tb.Skipf("no MongoDB server for this test: %v", err)
}

func isSet(env string) bool {
	v := os.Getenv(env)
	return v != "" && v != "0" && v != "false"
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9]+`)

// databaseName is short: names of databases have 63 bytes at most.
func databaseName(test string) string {
	name := notInNames.ReplaceAllString(test, "_")
	return fmt.Sprintf("t_%.40s_%s", name, randomHex(4))
}

func (db *Database) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	client, err := mongo.Connect(options.Client().ApplyURI(db.URI))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	names, err := client.ListDatabaseNames(ctx, map[string]any{"name": map[string]any{"$regex": "^" + db.Name}})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := client.Database(name).Drop(ctx); err != nil {
			return err
		}
	}
	return nil
}
