package redisstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// The floor is what go-redis takes for a SET or GET of the same size on the same
// server, and FloorScript what it takes for any script that reads a hash and
// writes value and hash. Compare the lines of one run: go test -bench . -count 5.

func benchCheckpoint(b *testing.B) state.Checkpoint {
	b.Helper()
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: "8264BEB9F3000000012B0229296E04" +
		"5A1004D2F3A5E9C7B24C1E8A77D1B2C3D4E5F646645F6964006464BEB9F3D2F3A5E9C7B24C1E0004"}})
	if err != nil {
		b.Fatal(err)
	}
	cp, err := state.At(doc)
	if err != nil {
		b.Fatal(err)
	}
	cp.Fingerprint = "rs0/shop.orders,shop.users"
	return cp
}

// connections runs f on 1 and on 16 connections, each goroutine with a number of
// its own.
func connections(b *testing.B, f func(b *testing.B, s *redisserver.Server, conns int)) {
	s := redisserver.Start(b, nil)
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("conns=%d", n), func(b *testing.B) { f(b, s, n) })
	}
}

// each runs op on n goroutines until b.N is used up.
func each(b *testing.B, n int, op func(ctx context.Context, worker int) error) {
	b.Helper()
	ctx := b.Context()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, n)
	b.ReportAllocs()
	b.ResetTimer()
	for w := range n {
		go func() {
			for left.Add(-1) >= 0 {
				if err := op(ctx, w); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range n {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func benchStore(b *testing.B, s *redisserver.Server, conns int) *redisstore.Store {
	b.Helper()
	store, err := redisstore.Open(b.Context(), s.URL(), &redisstore.Options{PoolSize: conns})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

func benchFloor(b *testing.B, s *redisserver.Server, conns int) *redis.Client {
	b.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		b.Fatal(err)
	}
	o.PoolSize = conns
	c := redis.NewClient(o)
	b.Cleanup(func() { c.Close() })
	return c
}

// benchValue is what the store makes of the benchmark's checkpoint.
func benchValue(b *testing.B, s *redisserver.Server) string {
	b.Helper()
	store := benchStore(b, s, 1)
	if err := store.Save(b.Context(), "value", benchCheckpoint(b)); err != nil {
		b.Fatal(err)
	}
	record, _ := redisstore.Names("rigatoni:", "value")
	v, err := benchFloor(b, s, 1).Get(b.Context(), record).Result()
	if err != nil {
		b.Fatal(err)
	}
	return v
}

func BenchmarkFloorSET(b *testing.B) {
	connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
		value, c := benchValue(b, s), benchFloor(b, s, conns)
		each(b, conns, func(ctx context.Context, w int) error {
			return c.Set(ctx, fmt.Sprintf("floor:%d", w), value, 0).Err()
		})
	})
}

func BenchmarkFloorScript(b *testing.B) {
	script := redis.NewScript(`redis.call('HMGET', KEYS[2], 'a', 'b', 'c', 'd', 'e', 'f')
		redis.call('SET', KEYS[1], ARGV[1]); redis.call('HSET', KEYS[2], 'a', ARGV[2]); return 1`)
	connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
		value, c := benchValue(b, s), benchFloor(b, s, conns)
		if err := script.Load(b.Context(), c).Err(); err != nil {
			b.Fatal(err)
		}
		each(b, conns, func(ctx context.Context, w int) error {
			return script.EvalSha(ctx, c, []string{fmt.Sprintf("floor:%d", w), fmt.Sprintf("hash:%d", w)}, value, 7).Err()
		})
	})
}

func BenchmarkSave(b *testing.B) {
	b.Run("unfenced", func(b *testing.B) {
		connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
			store, cp := benchStore(b, s, conns), benchCheckpoint(b)
			each(b, conns, func(ctx context.Context, w int) error {
				return store.Save(ctx, fmt.Sprintf("u%d", w), cp)
			})
		})
	})
	b.Run("fenced", func(b *testing.B) {
		connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
			store, cp := benchStore(b, s, conns), benchCheckpoint(b)
			grants := make([]state.Grant, conns)
			for w := range grants {
				var err error
				grants[w], err = store.Acquire(b.Context(), fmt.Sprintf("f%d", w), state.LeaseRequest{
					Owner: "bench", Nonce: state.NewNonce(), TTL: 1e12, Steal: true,
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			each(b, conns, func(ctx context.Context, w int) error {
				cp, g := cp, &grants[w]
				g.LastSequence++
				cp.Sequence = g.LastSequence
				return store.SaveFenced(ctx, fmt.Sprintf("f%d", w), g.Fence, cp)
			})
		})
	})
}

func BenchmarkFloorGET(b *testing.B) {
	connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
		value, c := benchValue(b, s), benchFloor(b, s, conns)
		if err := c.Set(b.Context(), "floor", value, 0).Err(); err != nil {
			b.Fatal(err)
		}
		each(b, conns, func(ctx context.Context, _ int) error { return c.Get(ctx, "floor").Err() })
	})
}

func BenchmarkLoad(b *testing.B) {
	connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
		store := benchStore(b, s, conns)
		if err := store.Save(b.Context(), "load", benchCheckpoint(b)); err != nil {
			b.Fatal(err)
		}
		each(b, conns, func(ctx context.Context, _ int) error {
			_, err := store.Load(ctx, "load")
			return err
		})
	})
}
