// Package redisstore keeps checkpoints in Redis, 6.2 or later: on one server,
// behind Sentinels, or in a Cluster.
//
//	store, err := redisstore.Open(ctx, "redis://user:password@127.0.0.1:6379/0", nil)
//	store, err := redisstore.Open(ctx, "redis+sentinel://user:password@s1:26379,s2:26379,s3:26379/mymaster/0", nil)
//	store, err := redisstore.Open(ctx, "rediss+cluster://user:password@a:7000,b:7001?tls-ca-file=/etc/redis/ca.pem", nil)
//
// It has every capability of package
// [github.com/rigatoni-etl/rigatoni/state]. Each operation is one round trip: a
// script that checks fence and sequence and writes, in one step; or, for the saves of
// an owner, a plain SET that does the same (see below).
//
// # What may be lost
//
// A save is durable when Redis has acknowledged it, and that is worth what the
// server's configuration makes of it. Choose knowingly:
//
//   - "appendonly no" (the default of Redis): a crash of the server loses
//     everything since the last RDB snapshot, which may be minutes or all.
//   - "appendonly yes" with "appendfsync everysec": a crash of the machine loses
//     up to about two seconds.
//   - "appendonly yes" with "appendfsync always": what was acknowledged is on
//     disk. Each save waits for the disk.
//   - With replicas, and so with Sentinel and in a Cluster: replication is
//     asynchronous. A failover loses what the replica that takes over had not
//     received: the last moments of acknowledged writes, and all that a master
//     took that was cut off from the others and did not know it yet
//     (min-replicas-to-write and cluster-node-timeout bound for how long it does).
//
// A checkpoint that steps back costs events delivered a second time; none is
// skipped. The loss of a *first* checkpoint is worse: nothing is there at all, and
// a key that was never saved can't be told from it. A lost lease can let two
// owners be granted the same epoch, one after the other; their nonces differ, so
// the first is kept out all the same, but a fence known to another system by its
// epoch alone is not safe.
//
// [Options.WaitReplicas] narrows this: a lease, a renewal and a save, the first one
// too, succeed only when so many replicas have them, so that the pipeline delivers
// nothing on the word of a master alone. What is left is the election of a
// replica that did not have it, and the loss of all who had. Where none of this may
// happen use one server with "appendfsync always", or another store.
//
// # Failovers
//
// Behind Sentinels the store asks all of them, and believes those who know of
// the latest failover; it asks again twice a second, and cuts its connections to a
// server that is no longer the master. A new connection is used only if the server
// says that it is a master. Name all the Sentinels: others are not looked for. In
// a Cluster it follows redirections, and when a node fails it asks the others
// who has its slots. Checkpoints are never read from a replica.
//
// While no master is there, calls fail with [state.ErrUnavailable] once their
// repetitions are used up (after some 50 ms by default: see Options.MaxRetries);
// the pipeline then goes on trying by itself. In a Cluster a slot that is being
// moved answers TRYAGAIN for keys of which only a part has been moved yet.
//
// # Memory
//
// Redis under an eviction policy of allkeys-* throws keys away when its memory is
// full, checkpoints and fences too: [Open] refuses such a server, and a Cluster with
// one such master. A policy of
// volatile-* may throw away checkpoints that have a TTL; Load says then that the
// checkpoint is gone ([state.ErrCorrupt]), never that there was none. Use
// "maxmemory-policy noeviction".
//
// # Time to live
//
// [Options.TTL] takes checkpoints away that nobody has saved or renewed for so
// long. Load says [state.ErrExpired] then, and the key's fence (some 300
// bytes) stays for good; [Store.Forget] takes it away. A TTL is for keys whose
// pipelines come and go. One that is shorter than a quiet weekend turns a quiet
// stream into an error. The
// pipeline warns where it is shorter than what the MongoDB server remembers.
//
// # Repeating
//
// An operation that fails is repeated ([Options.MaxRetries]) if Redis can't be
// reached, doesn't answer, or says LOADING, READONLY, MASTERDOWN, TRYAGAIN,
// CLUSTERDOWN, BUSY, NOREPLICAS or that it has too many clients. Once sent, a
// command may have been executed although no answer came. Repeating it is safe
// under a fence, and with a sequence, because Redis knows the second time from
// the first; but an unfenced Save without a sequence, an unfenced Clear or a
// Forget would undo what another writer did between the two. These are repeated
// only where they were certainly not executed, and otherwise are an
// [state.ErrUnavailable] that leaves the question open.
//
// What no repetition can mend (a wrong password, a missing right, no memory) is
// not repeated: [state.ErrRefused].
//
// # What lies in Redis
//
// Three keys for each, here for the key "shop":
//
//	rigatoni:{shop}:fence      a hash: version, epoch, nonce, owner, until (ms), seal, due (when
//	                           the record is to expire, ms; 0: never) and last (sequence)
//	rigatoni:{shop}:cp         marks that the hash was there
//	rigatoni:{shop}:cp:<seal>  the record: a digest of the rest, the last sequence, the epoch it
//	                           was saved under, and the checkpoint as one line of JSON
//
// In the braces everything but letters, digits and -._/: is %-encoded. Hash and mark
// never expire: they are what tells "expired" and "deleted" from "never saved". A
// record that was changed, deleted or put there by anything but this store is a
// [state.ErrCorrupt] until the next save.
//
// The seal is a random number, which only the Store that last wrote the key by a
// script knows. That one saves with SET … XX, as long as the name is there. Everything
// that must shut it out (an Acquire or a Release, a Clear, a save by any other Store)
// puts the record under another seal, in the same step, so that a save that is late
// finds nothing to write to; it is then decided by the script, by fence and sequence.
// Of a save that was not answered the seal is not used again. So Stores that take
// turns at saving one key, which only unfenced ones do, need two round trips for it.
//
// With [Options.TTL] each save is a script, and the seal is 0: the last sequence must
// outlive the record. To look at a checkpoint:
//
//	redis-cli get "rigatoni:{shop}:cp:$(redis-cli hget 'rigatoni:{shop}:fence' seal)"
//
// # Rights
//
// A user of Redis's own (ACL) needs, and [Open] refuses who lacks one of those
// that the scripts need:
//
//	always      ~rigatoni:* +evalsha +eval +ping +time +exists +get +set +strlen +del
//	            +rename +pexpireat +persist +hget +hmget +hset +hdel
//	INFO        +info; without it the eviction policy and the version are not
//	            checked, and there is a warning
//	List        +scan
//	Sentinel    +role on the servers; the Sentinels' own user, if they have any:
//	            +sentinel|get-master-addr-by-name +sentinel|master
//	Cluster     +cluster|slots
//	WAIT        +wait
//
// where rigatoni: is [Options.KeyPrefix]. To read the Rust crate's tokens takes
// ~rigatoni:resume_token:* where the prefix is another one.
//
// # Moving over from the Rust crate
//
// Package rustcrate reads its tokens, so that a pipeline resumes where the crate's
// stopped.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Store keeps checkpoints in Redis. Its methods may be called concurrently.
//
// Printed in any form, it shows the server's address and never a password.
type Store struct {
	client redis.UniversalClient
	owned  bool // Close closes the client
	// cluster is the client where it is a Cluster's, sentinels where they say who
	// the master is; otherwise nil.
	cluster   *redis.ClusterClient
	sentinels *sentinels
	// clock holds calls to their context. A lent client has none, and is waited
	// for in another goroutine; for our own that would add a third to each call.
	clock *clock
	name  string
	opts  Options // complete
	ttl   int64   // opts.TTL in milliseconds
	seals seals

	mu     sync.RWMutex // held, to read, where a call is counted in
	closed chan struct{}
	calls  sync.WaitGroup
}

var (
	_ state.Leaser     = (*Store)(nil)
	_ state.Lister     = (*Store)(nil)
	_ state.BatchSaver = (*Store)(nil)
	_ state.Forgetter  = (*Store)(nil)
	_ state.Pinger     = (*Store)(nil)
	_ state.Expirer    = (*Store)(nil)
	_ io.Closer        = (*Store)(nil)
)

func newStore(client redis.UniversalClient, owned bool, name string, o Options) *Store {
	return &Store{
		client: client, owned: owned, name: name, opts: o,
		ttl: o.TTL.Milliseconds(), closed: make(chan struct{}),
	}
}

// Save is [state.Store]'s.
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, unfenced, cp)
}

// Load is [state.Store]'s. It asks the server that is written to, never a replica.
func (s *Store) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	if err := state.CheckKey(key); err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	r, err := s.call(ctx, call{script: loadScript, key: key, again: true})
	if err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	cp, err := r.checkpoint(0)
	if err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	return cp, nil
}

// Clear is [state.Store]'s, and one round trip.
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, unfenced)
}

// Forget is [state.Forgetter]'s. It also takes away what is damaged, unless
// another type of value lies under one of the key's names in Redis: that is
// somebody else's.
func (s *Store) Forget(ctx context.Context, key string) error {
	if err := state.CheckKey(key); err != nil {
		return s.fail("forget", key, err)
	}
	_, err := s.call(ctx, call{script: forgetScript, key: key})
	return s.fail("forget", key, err)
}

// Ping is [state.Pinger]'s. It writes a key and deletes it in one step, so that a
// server that answers but takes no writes (a replica, a full one) is found out.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.call(ctx, call{script: pingScript, again: true})
	return s.fail("ping", "", err)
}

// Expires is [state.Expirer]'s: it is Options.TTL.
func (s *Store) Expires() time.Duration { return s.opts.TTL }

// Close ends the calls in progress, with [state.ErrClosed], and closes the
// connections, unless the client was lent by [FromClient]: then what those calls
// have sent may still be executed. Closing a second time is success.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return nil
	}
	close(s.closed)
	s.mu.Unlock() // nothing is counted in from here on
	if !s.owned {
		return nil
	}
	err := s.disconnect()
	s.calls.Wait()
	return s.fail("close", "", err)
}

// disconnect closes what the store has opened.
func (s *Store) disconnect() error {
	// Connections to a master that was one no more are closed already.
	err := ignoreClosed(s.client.Close())
	if s.sentinels != nil {
		err = errors.Join(err, s.sentinels.close())
	}
	return err
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// fail is the error that a method returns for err, nil for nil.
func (s *Store) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "redisstore", Key: key, Err: err}
}

// String tells which server, database and prefix the store uses.
func (s *Store) String() string {
	return fmt.Sprintf("redisstore(%s, prefix %q)", s.name, s.opts.KeyPrefix)
}

// Format prints String for every verb: the client inside knows the password.
func (s *Store) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue is String, for log/slog.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }
