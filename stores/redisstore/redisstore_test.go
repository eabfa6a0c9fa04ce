package redisstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/redisserver"
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
var damages = []func(ctx context.Context, c *redis.Client, record, fence string) error{
	func(ctx context.Context, c *redis.Client, record, _ string) error {
		return c.SetArgs(ctx, record, "not a checkpoint", redis.SetArgs{KeepTTL: true}).Err()
	},
	func(ctx context.Context, c *redis.Client, record, _ string) error {
		return c.SetRange(ctx, record, 40, "x").Err()
	},
	func(ctx context.Context, c *redis.Client, record, _ string) error { return c.Del(ctx, record).Err() },
	func(ctx context.Context, c *redis.Client, record, _ string) error {
		return c.Eval(ctx, "redis.call('DEL', KEYS[1]); return redis.call('RPUSH', KEYS[1], 'x')", []string{record}).Err()
	},
	func(ctx context.Context, c *redis.Client, _, fence string) error {
		return c.HSet(ctx, fence, "epoch", "seven").Err()
	},
	func(ctx context.Context, c *redis.Client, _, fence string) error {
		return c.Set(ctx, fence, "x", 0).Err()
	},
}

func TestStore(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"no TTL": 0, "TTL": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes"}})
			c := client(t, s)
			var run atomic.Int64
			statetest.Run(t, func(t *testing.T) statetest.Harness {
				return harness(s, c, fmt.Sprintf("t%d:", run.Add(1)), ttl)
			})
		})
	}
}

func harness(s *redisserver.Server, c *redis.Client, prefix string, ttl time.Duration) statetest.Harness {
	var damage atomic.Int64
	h := statetest.Harness{
		Open: func(ctx context.Context) (state.Store, error) {
			return redisstore.Open(ctx, s.URL(), &redisstore.Options{KeyPrefix: prefix, TTL: ttl, Logger: quiet})
		},
		Damage: func(ctx context.Context, key string) error {
			record, fence := redisstore.Names(prefix, key)
			return damages[int(damage.Add(1)-1)%len(damages)](ctx, c, record, fence)
		},
		Newer: func(ctx context.Context, key string) error {
			_, fence := redisstore.Names(prefix, key)
			return c.HSet(ctx, fence, "version", "2").Err()
		},
		ExpireLease: func(ctx context.Context, key string) error {
			_, fence := redisstore.Names(prefix, key)
			return c.HSet(ctx, fence, "until", "1").Err()
		},
		Break:   func(context.Context) error { return s.Kill() },
		Restore: func(ctx context.Context) error { return s.Restart(ctx) },
		Stored: func(ctx context.Context) (int, error) {
			n := 0
			it := c.Scan(ctx, 0, prefix+"*", 1000).Iterator()
			for it.Next(ctx) {
				n++
			}
			return n, it.Err()
		},
	}
	if ttl > 0 {
		h.Expire = func(ctx context.Context, key string) error {
			record, fence := redisstore.Names(prefix, key)
			saved, err := c.HGet(ctx, fence, "saved").Result()
			if err != nil {
				return err
			}
			if err := c.HSet(ctx, fence, "saved", saved[:strings.LastIndex(saved, "=")]+"=1").Err(); err != nil {
				return err
			}
			return c.PExpireAt(ctx, record, time.UnixMilli(1)).Err()
		}
	}
	return h
}
