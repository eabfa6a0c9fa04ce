// Package redisstore keeps checkpoints in Redis 6.2 or later: on one server, behind
// Sentinels, or in a Cluster.
//
//	store, err := redisstore.Open(ctx, "redis://user:password@127.0.0.1:6379/0", nil)
//	store, err := redisstore.Open(ctx, "redis+sentinel://user:password@s1:26379,s2:26379,s3:26379/mymaster/0", nil)
//	store, err := redisstore.Open(ctx, "rediss+cluster://user:password@a:7000,b:7001?tls-ca-file=/etc/redis/ca.pem", nil)
//
// The store has every capability of package
// [github.com/rigatoni-etl/rigatoni/state] except [state.Volatile]. Each operation is
// one round trip: a script that checks fence and sequence and writes, atomically.
//
// # Durability
//
// A save is durable when Redis has acknowledged it. What that is worth depends on the
// server's configuration:
//
//   - "appendonly no" (the default of Redis): a crash of the server loses everything
//     since the last RDB snapshot, which may be minutes old or missing.
//   - "appendonly yes" with "appendfsync everysec": a crash of the machine loses up to
//     about two seconds.
//   - "appendonly yes" with "appendfsync always": acknowledged writes are on disk. Each
//     save waits for the disk.
//   - With replicas, and so with Sentinel and in a Cluster: replication is
//     asynchronous. A failover loses what the promoted replica had not received: the
//     last acknowledged writes, and all writes to an isolated master that did not yet
//     know of the failover (min-replicas-to-write and cluster-node-timeout limit that
//     time).
//
// If a checkpoint steps back, events since then are redelivered, and none is skipped.
// The loss of a first checkpoint is worse: the key then looks as if it had never been
// saved. If a lease is lost, two owners may be granted the same epoch, one after the
// other. Their nonces differ, so the first is fenced off here, but not in another
// system that knows the fence by its epoch only.
//
// With [Options.WaitReplicas], leases, renewals and saves, the first one included,
// succeed only if that number of replicas has them. Then data is lost only if all
// servers that had it are lost, or a replica that did not have it is promoted. If even
// that must not happen, use one server with "appendfsync always", or another store.
//
// # Failovers
//
// Behind Sentinels the store asks all of them and follows the latest failover that
// any of them knows. It asks twice a second, and closes its connections to a server
// that is no longer the master. It uses a new connection only if the server says that
// it is a master. Name all Sentinels: the store doesn't discover others. In a Cluster
// it follows redirections, and when a node fails it asks the others for the slots.
// It never reads checkpoints from a replica.
//
// While there is no master, calls return [state.ErrUnavailable] after their retries
// (some 50 ms by default: see Options.MaxRetries); the pipeline retries on its own. They
// do so too, in a Cluster, while a slot is being moved, for keys of which only one of
// the two names has been moved or exists.
//
// # Memory
//
// With an eviction policy of allkeys-*, Redis removes keys when its memory is full,
// including checkpoints and fences. [Open] refuses such a server, and a Cluster with
// one such master. A policy of volatile-* may remove checkpoints that have a TTL; Load
// then returns [state.ErrCorrupt], never [state.ErrNotFound]. Use "maxmemory-policy
// noeviction".
//
// # Time to live
//
// [Options.TTL] expires checkpoints that were neither saved nor renewed for that time.
// Load then returns [state.ErrExpired]. A TTL is for keys of short-lived pipelines. If it is shorter than a
// weekend without events, a quiet stream ends in an error. The pipeline warns if it is
// shorter than the history of the MongoDB server.
//
// # Retries
//
// An operation is retried ([Options.MaxRetries]) if Redis is unreachable, doesn't
// respond, or answers LOADING, READONLY, MASTERDOWN, TRYAGAIN, CLUSTERDOWN, BUSY,
// NOREPLICAS or that it has too many clients. A command without a response may have
// been executed. Retrying it is safe under a fence, and with a sequence, because Redis
// then recognizes the repetition. An unfenced Save without a sequence, an unfenced
// Clear and a Forget could undo what another writer did in between. They are retried
// only if they were certainly not executed; otherwise the [state.ErrUnavailable] says
// that the outcome is unknown.
//
// What no retry can mend (a wrong password, a missing right, full memory) is a
// [state.ErrRefused], at once.
//
// # Data in Redis
//
// The key "shop" has two keys in Redis:
//
//	rigatoni:{shop}        the checkpoint, one line of JSON
//	rigatoni:{shop}:fence  a hash: version, epoch, nonce, owner, until (ms), last (the last
//	                       sequence), saved (the epoch that the checkpoint was saved under),
//	                       due (the time in ms at which it expires, 0: never)
//
// To look at a checkpoint:
//
//	redis-cli get 'rigatoni:{shop}'
//
// Inside the braces everything except letters, digits and -._/: is %-encoded. The fence
// never expires: it distinguishes "expired" and "cleared" from "never saved". It is some
// 200 bytes, and stays until [Store.Forget].
//
// Don't write these keys. Load and Acquire return [state.ErrCorrupt] for a checkpoint
// that anything but this store has changed, deleted or created. If it was deleted or
// evicted, the next save restores it, with a warning in the log. If the fence was, the
// owner's next save is refused with [state.ErrFenced], and the error says why.
//
// Earlier versions of this package kept the checkpoint in rigatoni:{shop}:cp:<seal>.
// Such a key is read; the first Acquire, save or other write moves it to the names above,
// unless a program of the old version has the lease. That program can't use it any more.
//
// # Rights
//
// A Redis user (ACL) needs these rights; [Open] refuses a user that lacks one of the
// first two lines:
//
//	always      ~rigatoni:* +evalsha +eval +ping +time +exists +get +set +strlen +del
//	            +pexpireat +persist +hget +hmget +hset +hdel
//	List        +scan; the pipeline lists the store at a first start, to find the
//	            checkpoint of a pipeline that was renamed
//	INFO        +info; without it, eviction policy and version are not checked, and
//	            there is a warning
//	Sentinel    +role on the servers; the Sentinels' own user, if they have any:
//	            +sentinel|get-master-addr-by-name +sentinel|master
//	Cluster     +cluster|slots
//	WAIT        +wait
//
// Here rigatoni: is [Options.KeyPrefix].
//
// # Moving over from the Rust crate
//
// Package [github.com/rigatoni-etl/rigatoni/stores/redisstore/rustcrate] reads the
// crate's tokens, so that a pipeline resumes where the crate's stopped.
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
	// A server of its own has a pool; a Cluster, and what is lent, a client.
	pool    *pool
	client  redis.UniversalClient
	owned   bool                 // Close closes them
	cluster *redis.ClusterClient // the client, if it is a Cluster's
	// sentinels say who the master is, if they are not nil.
	sentinels *sentinels
	name      string
	opts      Options // complete
	ttl       int64   // opts.TTL in milliseconds
	opened    bool    // its outages are logged
	outage    outage

	mu     sync.RWMutex // read-locked while a call is added to calls
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
	_ state.Legacy     = (*Store)(nil)
	_ io.Closer        = (*Store)(nil)
)

func newStore(owned bool, name string, o Options) *Store {
	return &Store{
		owned: owned, name: name, opts: o,
		ttl: o.TTL.Milliseconds(), closed: make(chan struct{}),
	}
}

// Save implements [state.Store].
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, unfenced, cp)
}

// Load implements [state.Store]. It reads from the master, never from a replica.
func (s *Store) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	if err := state.CheckKey(key); err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	r, err := s.call(ctx, call{script: loadScript, key: key, again: true})
	if err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	cp, err := r.checkpoint()
	if err != nil {
		return state.Checkpoint{}, s.fail("load", key, err)
	}
	return cp, nil
}

// Clear implements [state.Store].
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, unfenced)
}

// Forget implements [state.Forgetter]. It also removes damaged data, except for a
// value of another Redis type under one of the key's names, which this store did not
// write.
func (s *Store) Forget(ctx context.Context, key string) error {
	if err := state.CheckKey(key); err != nil {
		return s.fail("forget", key, err)
	}
	_, err := s.call(ctx, call{script: forgetScript, key: key})
	return s.fail("forget", key, err)
}

// Ping implements [state.Pinger]. It writes a key and deletes it in one step, to
// detect a server that answers but accepts no writes, such as a replica or a full one.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.call(ctx, call{script: pingScript, again: true})
	return s.fail("ping", "", err)
}

// Expires implements [state.Expirer]. It returns Options.TTL.
func (s *Store) Expires() time.Duration { return s.opts.TTL }

// Close ends the calls in progress with [state.ErrClosed] and closes the
// connections, except those of a client passed to [FromClient]; what those calls have
// sent may still be executed. A second Close does nothing and returns nil.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return nil
	}
	close(s.closed)
	s.mu.Unlock() // no call is added from here on
	if !s.owned {
		return nil
	}
	err := s.disconnect()
	s.calls.Wait()
	return s.fail("close", "", err)
}

// disconnect closes what the store has opened.
func (s *Store) disconnect() error {
	var err error
	if s.pool != nil {
		err = s.pool.close()
	} else {
		err = ignoreClosed(s.client.Close())
	}
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

// fail returns the error that a method returns for err, nil for nil.
func (s *Store) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "redisstore", Key: key, Err: err}
}

// String returns the server, database and prefix of the store.
func (s *Store) String() string {
	return fmt.Sprintf("redisstore(%s, prefix %q)", s.name, s.opts.KeyPrefix)
}

// Format prints String for every verb, because the client has the password.
func (s *Store) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue is String, for log/slog.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }
