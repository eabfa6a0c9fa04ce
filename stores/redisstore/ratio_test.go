package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
)

// What a save costs beside what go-redis takes to SET the same value, by turns and
// in the same minute, because machines have moods: go test -bench Beside -benchtime
// 40x. Each iteration is a turn of each, and the figures are medians.

const turn = 100 * time.Millisecond

// timed runs op on n goroutines for one turn, and returns how long one took.
func timed(b *testing.B, n int, op func(ctx context.Context, worker int) error) float64 {
	b.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var done int
	var failed error
	from := time.Now()
	for w := range n {
		all.Go(func() {
			mine, err := 0, error(nil)
			for ; err == nil && time.Since(from) < turn; mine++ {
				err = op(b.Context(), w)
			}
			mu.Lock()
			defer mu.Unlock()
			done, failed = done+mine, errors.Join(failed, err)
		})
	}
	all.Wait()
	if failed != nil {
		b.Fatal(failed)
	}
	return float64(time.Since(from).Nanoseconds()) / float64(done)
}

func median(figures []float64) float64 {
	slices.Sort(figures)
	return figures[len(figures)/2]
}

// beside has a and b take turns and reports the medians, and the second's in
// terms of the first's.
func beside(b *testing.B, unit string, floor, ours func() float64) {
	b.Helper()
	floor() // warm
	ours()
	var x, y []float64
	for b.Loop() {
		x, y = append(x, floor()), append(y, ours())
	}
	b.ReportMetric(median(x), "SET-"+unit)
	b.ReportMetric(median(y), "save-"+unit)
	b.ReportMetric(median(y)/median(x), "ratio")
}

func BenchmarkFencedBesideSET(b *testing.B) {
	connections(b, func(b *testing.B, s *redisserver.Server, conns int) {
		value, c := benchValue(b, s), benchFloor(b, s, conns)
		store, cp := benchStore(b, s, conns), benchCheckpoint(b)
		grants := make([]state.Grant, conns)
		keys, names := make([]string, conns), make([]string, conns)
		for w := range grants {
			keys[w] = fmt.Sprintf("stream-%d-%d", conns, w)
			names[w] = "floor:" + keys[w]
			grants[w] = acquire(b, store, keys[w])
		}
		beside(b, "ns", func() float64 {
			return timed(b, conns, func(ctx context.Context, w int) error { return c.Set(ctx, names[w], value, 0).Err() })
		}, func() float64 {
			return timed(b, conns, func(ctx context.Context, w int) error {
				cp, g := cp, &grants[w]
				g.LastSequence++
				cp.Sequence = g.LastSequence
				return store.SaveFenced(ctx, keys[w], g.Fence, cp)
			})
		})
	})
}

func BenchmarkBatchBesideSETs(b *testing.B) {
	const streams = 10_000
	s := redisserver.Start(b, nil)
	value, c := benchValue(b, s), benchFloor(b, s, 1)
	store, cp := benchStore(b, s, 0), benchCheckpoint(b)
	items := leased(b, store, streams)
	beside(b, "ms", func() float64 {
		from := time.Now()
		_, err := c.Pipelined(b.Context(), func(p redis.Pipeliner) error {
			for i := range items {
				p.Set(b.Context(), "floor:"+items[i].Key, value, 0)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(from).Microseconds()) / 1000
	}, func() float64 {
		cp.Sequence++
		for i := range items {
			items[i].Checkpoint = cp
		}
		from := time.Now()
		if err := errors.Join(store.SaveBatch(b.Context(), items)...); err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(from).Microseconds()) / 1000
	})
}
