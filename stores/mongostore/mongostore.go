// Package mongostore keeps checkpoints in a collection of MongoDB 4.4 or later: for
// teams whose only server is MongoDB.
//
//	store, err := mongostore.Open(ctx, "mongodb://user:password@a,b,c/rigatoni.checkpoints", nil)
//
// The path of the URL is the collection: database, dot, name. Everything else is the
// driver's connection string. The collection is created by the first write. It may be on
// the deployment that the pipeline reads from or on another; keep it out of what the
// pipeline watches, because each save would be an event.
//
// The deployment is a replica set or a sharded cluster: a standalone server is refused,
// because a repeated write could not be recognized.
//
// # Durability
//
// A save is durable when a majority of the replica set has it in its journal: neither a
// failover nor the loss of a minority of the servers loses what was acknowledged. Load and
// List see every acknowledged write, also right after a failover. While
// there is no majority, calls return [state.ErrUnavailable], at the latest after
// [Options.CallTimeout].
//
// # How it works
//
// Each key is one document, and each write is one conditional update of it. A save under
// a lease has the fence and the sequence in its filter. All other calls read the document,
// decide by package [github.com/rigatoni-etl/rigatoni/state/record], and replace it if its
// revision is still the same; otherwise they start over. Leases live by the clock of the
// primary. After a failover that is another server's, so keep the servers' clocks
// synchronized; a fence holds whatever the clocks say.
//
// [Transactions] write a checkpoint together with whatever else the caller writes. Their session
// is on record beside the lease (session), and whoever acquires the lease ends it: an owner that
// is frozen inside a transaction would otherwise hold up the write for up to a minute. The lease
// can't be renewed while a transaction is open.
//
// The driver repeats a write whose answer was lost, once; the server recognizes it. If
// that fails too, the error is a [state.ErrUnavailable] that says that the outcome is
// unknown. A repeated save is recognized by its fence and sequence.
//
// # Data in MongoDB
//
// The key is the _id. To look at a checkpoint:
//
//	> db.getSiblingDB("rigatoni").checkpoints.findOne({_id: "shop"})
//	{
//	  _id: 'shop', version: Long('1'), rev: ObjectId('…'), lastSequence: Long('38'),
//	  checkpoint: {
//	    token: { _data: '8264…' }, clusterTime: Timestamp({ t: 1794000000, i: 3 }),
//	    sequence: Long('38'), fingerprint: '…', epoch: Long('2'), savedAt: ISODate('…'),
//	    extra: [ { name: 'ndjson', json: '{"files":…}' } ]
//	  },
//	  epoch: Long('2'), nonce: '…', owner: 'host-1', leaseUntil: ISODate('…')
//	}
//
// rev is another one after every write. A cleared key keeps its document, without the checkpoint,
// until [Store.Forget]. The checkpoint of a running pipeline is not to be edited: its next
// save replaces it.
//
// # Rights
//
// find, insert, update and remove on the collection, and listCollections on its database;
// the role readWrite has them. [Open] checks them, names those that are missing, and refuses a view, a capped or
// time-series collection, and one whose collation doesn't distinguish all keys.
package mongostore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Store keeps checkpoints in a collection. Its methods may be called concurrently.
//
// Printed in any form, it shows the servers' addresses and never a password.
type Store struct {
	client *mongo.Client
	owned  bool              // Close disconnects the client
	coll   *mongo.Collection // reads and writes are a majority's
	local  *mongo.Collection // reads are the primary's
	name   string            // for people
	opts   Options

	closed atomic.Bool
}

var (
	_ state.Leaser     = (*Store)(nil)
	_ state.Lister     = (*Store)(nil)
	_ state.BatchSaver = (*Store)(nil)
	_ state.Forgetter  = (*Store)(nil)
	_ state.Pinger     = (*Store)(nil)
	_ io.Closer        = (*Store)(nil)
)

// Close disconnects from the servers, unless the client was passed to [FromClient]. Calls
// in progress end with an error. A second Close does nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) || !s.owned {
		return nil
	}
	mongoclient.Disconnect(s.client)
	return nil
}

// ready returns the error with which a call ends before it does anything.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return state.ErrClosed
	}
	return nil
}

// fail returns the error that a method returns for err, nil for nil.
func (s *Store) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "mongostore", Key: key, Err: err}
}

// String returns the servers and the collection.
func (s *Store) String() string { return "mongostore(" + s.name + ")" }

// Format prints String for every verb, because the client has the password.
func (s *Store) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue is String, for log/slog.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }
