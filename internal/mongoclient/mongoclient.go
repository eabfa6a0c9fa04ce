// Package mongoclient connects to MongoDB in the one way that suits this repository.
//
// A module of its own, such as cmd/rigatoni, is released for a version of this module
// and may be linked with a newer one. Therefore what is exported here stays compatible,
// as if it were public.
package mongoclient

import (
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Connect is [mongo.Connect] for a client that polls its servers, unless the options say
// something else. (The driver ignores serverMonitoringMode in a connection string.)
//
// By default the driver leaves a request with each server, and a server answers when its
// state changes, or after ten seconds. Up to driver 2.10 that makes two waits of ten
// seconds (heartbeatFrequencyMS) where nothing is wrong:
//
//   - An operation without a server to send to subscribes to the changes of the topology
//     (topology.Subscribe): it copies the state and then registers. A change between the
//     two is lost, the request for an immediate check changes nothing while the monitor
//     waits for its answer, and the operation waits for the next one. That happens to one
//     in about a thousand new clients, and may happen after every failover; a call that is
//     limited to ten seconds fails. The driver for Rust had the same (RUST-675).
//   - Disconnect waits for that answer too, whatever its context says.
//
// A client that polls checks within half a second when an operation asks for it, and
// otherwise every ten seconds, in which nothing is left waiting; and it has one connection
// less to each server. It notices a new primary by an operation that the old one refuses,
// which the driver repeats.
func Connect(co *options.ClientOptions) (*mongo.Client, error) {
	if co.ServerMonitoringMode == nil {
		co.SetServerMonitoringMode(options.ServerMonitoringModePoll)
	}
	return mongo.Connect(co)
}
