// Package keyspace gives the other packages of this module access to keys in the
// database of a redisstore.Store that are not the store's own.
package keyspace

import "context"

// A Reader reads keys with the connections, the retries and the errors of a store.
type Reader interface {
	// Get returns the value of a key, and false if there is none.
	Get(ctx context.Context, name string) (value string, found bool, err error)
	// Names returns the names of the keys that begin with prefix, in no
	// particular order; in a Cluster those of all shards.
	Names(ctx context.Context, prefix string) ([]string, error)
}

// Of returns the reader of a *redisstore.Store. Package redisstore sets it.
var Of func(store any) Reader
