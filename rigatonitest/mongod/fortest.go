package mongod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
)

// Environment variables of [ForTest] and [OwnForTest].
const (
	// EnvURI is the server to test on, instead of one that ForTest starts. It
	// must be a replica set and allow tests to create and drop databases.
	EnvURI = "RIGATONI_TEST_MONGODB_URI"
	// EnvVersion is the version to start: Options.Version.
	EnvVersion = "RIGATONI_TEST_MONGODB_VERSION"
	// EnvRequire, or CI, if set to anything but "", "0" and "false", makes
	// tests fail, instead of being skipped, if there is no server.
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

// A Database is a test's own database on a server.
type Database struct {
	// URI is that of the server. It names no database.
	URI string
	// Name is the name of the database, different for each test. The database
	// does not exist yet; it is dropped at the end of the test, as are all
	// databases whose names begin with Name.
	Name string
}

var shared struct {
	sync.Mutex
	started bool
	server  *Server
	err     error
}

// ForTest returns a database for one test on a server that all tests of the
// test binary share. A test must not break that server; use [OwnForTest] for
// that. Without a server the test is skipped, or fails if a server is required.
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

// sharedServer starts the server at the first call. It ends with the process.
func sharedServer(tb TB) (*Server, error) {
	shared.Lock()
	defer shared.Unlock()
	if !shared.started {
		shared.started = true
		shared.server, shared.err = Start(context.Background(), Options{Version: os.Getenv(EnvVersion), Logf: tb.Logf})
	}
	return shared.server, shared.err
}

// OwnForTest starts a server for one test and stops it at its end. If
// Options.Version is empty, the version is that of the environment.
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

// noServer ends the test. A missing server is a failure only if one is
// required; a server that is found and doesn't start always is. A test command
// can search for the words "no MongoDB server" to report what was skipped.
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

// databaseName returns a short name: database names are limited to 63 bytes.
func databaseName(test string) string {
	name := notInNames.ReplaceAllString(test, "_")
	return fmt.Sprintf("t_%.40s_%s", name, randomHex(4))
}

func (db *Database) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	client, err := mongoclient.Connect(options.Client().ApplyURI(db.URI))
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
