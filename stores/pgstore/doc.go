// Package pgstore keeps checkpoints in PostgreSQL, in one table, a row a key.
//
//	store, err := pgstore.Open(ctx, "postgres://user:password@host/database", nil)
//
// # The table
//
// Open creates it where it is missing. Where the user may not, it says so with the
// statement, which somebody else can execute:
//
//	CREATE TABLE rigatoni_checkpoints (key text COLLATE "C" PRIMARY KEY, record json NOT NULL)
//
// The user needs SELECT, INSERT, UPDATE and DELETE on it. A record is one JSON
// document, for people to read:
//
//	SELECT key, to_timestamp((record->'clusterTime'->>'t')::bigint) AS position, record->>'savedAt' AS saved, record->>'owner' AS owner
//	FROM rigatoni_checkpoints
//
// # Guarantees
//
// A call that returns nil is as durable as the server's commits: with
// synchronous_commit = off a crash of the server may take the last ones, and
// asynchronous replication may lose some at a failover. Each write locks its row,
// applies the rules of package record, and commits; there is never more than one
// transaction at work on a key. Leases end by the server's clock.
//
// A call whose answer was lost may have been executed. It is repeated only where the
// server says that it was not: the caller repeats it, which the contract of
// package state makes harmless.
//
// # In your own transaction
//
// [Store.SaveTx] saves a checkpoint in a transaction of the caller's, so that rows and
// checkpoint are committed together or not at all: exactly once.
package pgstore
