package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// client is a plain connection beside the store's.
func client(t testing.TB, s *redisserver.Server) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

var quiet = slog.New(slog.DiscardHandler)

// damages are the ways in which a stored key can be spoiled. Each takes the
// names of record and fence.
var damages = []func(ctx context.Context, c redis.Cmdable, record, fence string) error{
	func(ctx context.Context, c redis.Cmdable, record, _ string) error {
		return c.SetArgs(ctx, record, "not a checkpoint", redis.SetArgs{KeepTTL: true}).Err()
	},
	func(ctx context.Context, c redis.Cmdable, record, _ string) error {
		return c.SetRange(ctx, record, 40, "x").Err()
	},
	func(ctx context.Context, c redis.Cmdable, record, _ string) error { return c.Del(ctx, record).Err() },
	func(ctx context.Context, c redis.Cmdable, record, _ string) error {
		return c.Eval(ctx, "redis.call('DEL', KEYS[1]); return redis.call('RPUSH', KEYS[1], 'x')", []string{record}).Err()
	},
	func(ctx context.Context, c redis.Cmdable, _, fence string) error {
		return c.HSet(ctx, fence, "epoch", "seven").Err()
	},
	func(ctx context.Context, c redis.Cmdable, _, fence string) error {
		return c.HDel(ctx, fence, "saved").Err()
	},
	func(ctx context.Context, c redis.Cmdable, _, fence string) error { return c.Del(ctx, fence).Err() },
	func(ctx context.Context, c redis.Cmdable, _, fence string) error {
		return c.Set(ctx, fence, "x", 0).Err()
	},
}

func TestStore(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"no TTL": 0, "TTL": time.Hour} {
		t.Run(name, func(t *testing.T) {
			// With everysec, the default, Redis writes nothing while it waits for a slow
			// disk, and a kill takes what it had acknowledged in the meantime.
			s := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes", "appendfsync no"}})
			c := client(t, s)
			var run atomic.Int64
			statetest.Run(t, func(t *testing.T) statetest.Harness {
				o := redisstore.Options{KeyPrefix: fmt.Sprintf("t%d:", run.Add(1)), TTL: ttl, Logger: quiet}
				h := harness(c, o, func(ctx context.Context) (state.Store, error) { return openPatiently(ctx, s.URL(), &o) })
				h.Break = func(context.Context) error { return s.Kill() }
				h.Restore = func(ctx context.Context) error { return s.Restart(ctx) }
				return h
			})
		})
	}
}

// harness is for a store that open opens with o; c is another way to its data.
// Break and Restore are not in it.
func harness(c redis.UniversalClient, o redisstore.Options, open func(context.Context) (state.Store, error)) statetest.Harness {
	var damage atomic.Int64
	prefix := o.KeyPrefix
	h := statetest.Harness{
		Open: open,
		Damage: func(ctx context.Context, key string) error {
			record, fence := redisstore.Names(prefix, key)
			return damages[int(damage.Add(1)-1)%len(damages)](ctx, c, record, fence)
		},
		Newer: func(ctx context.Context, key string) error {
			_, fence := redisstore.Names(prefix, key)
			return c.HSet(ctx, fence, "version", "3").Err()
		},
		ExpireLease: func(ctx context.Context, key string) error {
			_, fence := redisstore.Names(prefix, key)
			return c.HSet(ctx, fence, "until", "1").Err()
		},
		Stored: func(ctx context.Context) (int, error) {
			names, err := namesWith(ctx, c, prefix)
			return len(names), err
		},
	}
	if o.TTL > 0 {
		h.Expire = func(ctx context.Context, key string) error {
			record, fence := redisstore.Names(prefix, key)
			return errors.Join(c.HSet(ctx, fence, "due", 1).Err(), c.PExpireAt(ctx, record, time.UnixMilli(1)).Err())
		}
	}
	return h
}

// namesWith are the names in Redis that begin with prefix.
func namesWith(ctx context.Context, c redis.UniversalClient, prefix string) ([]string, error) {
	var mu sync.Mutex
	found := map[string]bool{} // SCAN may give one twice
	scan := func(ctx context.Context, c *redis.Client) error {
		it := c.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			found[it.Val()] = true
			mu.Unlock()
		}
		return it.Err()
	}
	var err error
	if cluster, ok := c.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, scan)
	} else {
		err = scan(ctx, c.(*redis.Client))
	}
	return slices.Collect(maps.Keys(found)), err
}
