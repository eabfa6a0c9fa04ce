package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// leased is n keys of which s has the leases, and their items.
func leased(t testing.TB, s *redisstore.Store, n int) []state.Item {
	t.Helper()
	items := make([]state.Item, n)
	for i := range items {
		key := fmt.Sprintf("stream-%d", i)
		items[i] = state.Item{Key: key, Fence: acquire(t, s, key).Fence}
	}
	return items
}

// at gives all items this sequence.
func at(t testing.TB, items []state.Item, sequence uint64) []state.Item {
	for i := range items {
		items[i].Checkpoint = checkpoint(t, fmt.Sprintf("82%08X", uint64(i)<<8|sequence), sequence)
	}
	return items
}

func wantSaved(t *testing.T, s *redisstore.Store, items []state.Item) {
	t.Helper()
	for _, it := range items {
		cp, err := s.Load(t.Context(), it.Key)
		if err != nil || cp.Token != it.Checkpoint.Token || cp.Sequence != it.Checkpoint.Sequence {
			t.Fatalf("%s: loaded sequence %d, %v; want %d", it.Key, cp.Sequence, err, it.Checkpoint.Sequence)
		}
	}
}

// In a Cluster no node has the script after a restart, and a pipeline finds out node
// by node: no item may be left over, reported as saved.
func TestSaveBatchLoadsScripts(t *testing.T) {
	u, admin := cluster(t, redisserver.Options{})
	t.Cleanup(func() { want(t, admin.Close(), nil, "Close") })
	ctx, s := t.Context(), open(t, u, redisstore.Options{TTL: time.Hour})
	items := leased(t, s, 100) // one pipeline, so that no other loads the script
	want(t, forgetScripts(ctx, admin), nil, "SCRIPT FLUSH")
	want(t, errors.Join(s.SaveBatch(ctx, at(t, items, 1))...), nil, "SaveBatch")
	wantSaved(t, s, items)
}

// More than one pipeline, on one server and over the masters of a Cluster, with and
// without WAIT and a TTL, and with scripts that Redis has forgotten: one bad item is
// no other's concern.
func TestSaveBatch(t *testing.T) {
	const n = 700
	one := func(t *testing.T) (string, redis.UniversalClient) { return oneServer(t, redisserver.Options{}) }
	all := func(t *testing.T) (string, redis.UniversalClient) { return cluster(t, redisserver.Options{}) }
	replicated := func(t *testing.T) (string, redis.UniversalClient) {
		c := redisserver.StartCluster(t, nil)
		return c.URL(), redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	}
	for name, c := range map[string]struct {
		start func(t *testing.T) (string, redis.UniversalClient)
		o     redisstore.Options
	}{
		"one server":      {one, redisstore.Options{}},
		"TTL":             {one, redisstore.Options{TTL: time.Hour}},
		"one connection":  {one, redisstore.Options{PoolSize: 1}},
		"Cluster":         {all, redisstore.Options{}},
		"Cluster and TTL": {all, redisstore.Options{TTL: time.Hour}},
		"WAIT":            {replicated, redisstore.Options{WaitReplicas: 1, WaitTimeout: 10 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, admin := c.start(t)
			t.Cleanup(func() { want(t, admin.Close(), nil, "Close") })
			ctx, s := t.Context(), open(t, u, c.o)
			items := leased(t, s, n)
			for sequence := uint64(1); sequence <= 3; sequence++ {
				if sequence == 2 {
					want(t, forgetScripts(ctx, admin), nil, "SCRIPT FLUSH")
				}
				want(t, errors.Join(s.SaveBatch(ctx, at(t, items, sequence))...), nil, "SaveBatch")
				wantSaved(t, s, items)
			}

			other := open(t, u, c.o)
			want(t, errors.Join(other.SaveBatch(ctx, at(t, items, 4))...), nil, "SaveBatch by another store")
			want(t, errors.Join(s.SaveBatch(ctx, at(t, items, 4))...), nil, "the same again")
			at(t, items, 5)
			unfenced := state.Item{Key: "unfenced", Checkpoint: checkpoint(t, "82AA", 0)}
			bad := map[int]error{1: state.ErrFenced, 300: state.ErrStale, 301: state.ErrInvalid, 302: state.ErrLeaseHeld, 303: state.ErrInvalid, n: state.ErrInvalid, n + 1: nil}
			batch := append(append([]state.Item(nil), items...), items[303], unfenced)
			batch[1].Fence.Nonce += "x"
			batch[300].Checkpoint = checkpoint(t, "82AA", 3)
			batch[301].Checkpoint = state.Checkpoint{}
			batch[302].Fence = state.Fence{}
			for i, err := range s.SaveBatch(ctx, batch) {
				if target := bad[i]; !errors.Is(err, target) || target == nil && err != nil {
					t.Errorf("item %d: %v, want %v", i, err, target)
				}
				if e := (*state.Error)(nil); err != nil && (!errors.As(err, &e) || e.Key != batch[i].Key || e.Op != "save") {
					t.Errorf("item %d: %v is not an error of its key's", i, err)
				}
			}
			for i, it := range items {
				if bad[i] != nil {
					it.Checkpoint = checkpoint(t, fmt.Sprintf("82%08X", uint64(i)<<8|4), 4)
				}
				wantSaved(t, s, []state.Item{it})
			}
			wantSaved(t, s, []state.Item{unfenced})
		})
	}
}

func forgetScripts(ctx context.Context, c redis.UniversalClient) error {
	flush := func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }
	if all, ok := c.(*redis.ClusterClient); ok {
		return all.ForEachMaster(ctx, flush)
	}
	return flush(ctx, c.(*redis.Client))
}

// A batch of which the answers are lost is done, once; what can't be repeated leaves
// its own question open, and no other's.
func TestSaveBatchLostAnswers(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	s, ctx := open(t, p.url(), redisstore.Options{MaxRetryBackoff: 10 * time.Millisecond, PoolSize: 1}), t.Context()
	items := leased(t, s, 5)
	for i, lost := range [][]cut{{before}, {inside}, {after}, {after, before, inside}} {
		p.next(lost...)
		want(t, errors.Join(s.SaveBatch(ctx, at(t, items, uint64(i+1)))...), nil, "SaveBatch")
		wantSaved(t, s, items)
	}
	at(t, items, 9)
	loose := state.Item{Key: "loose", Checkpoint: checkpoint(t, "82AA", 0)}
	p.next(after) // its own script; that of the others comes after it
	errs := s.SaveBatch(ctx, append([]state.Item{loose}, items...))
	want(t, errs[0], state.ErrUnavailable, "a save that can't be repeated")
	want(t, errors.Join(errs[1:]...), nil, "the others")
	wantSaved(t, s, items)
}

// The server is away: every item says so, within the time that one would take; and a
// context that has ended before touches nothing.
func TestSaveBatchUnavailable(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	s, ctx := open(t, server.URL(), redisstore.Options{MaxRetryBackoff: 10 * time.Millisecond}), t.Context()
	items := at(t, leased(t, s, 600), 1)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range s.SaveBatch(gone, items) {
		want(t, err, context.Canceled, "SaveBatch after its context's end")
	}
	want(t, server.Kill(), nil, "Kill")
	for _, err := range s.SaveBatch(ctx, items) {
		want(t, err, state.ErrUnavailable, "SaveBatch without a server")
	}
	want(t, server.Restart(ctx), nil, "Restart")
	want(t, errors.Join(s.SaveBatch(ctx, at(t, items, 2))...), nil, "SaveBatch after the restart")
	wantSaved(t, s, items)
	want(t, s.Close(), nil, "Close")
	for _, err := range s.SaveBatch(ctx, items) {
		want(t, err, state.ErrClosed, "SaveBatch after Close")
	}
	if errs := s.SaveBatch(ctx, nil); len(errs) != 0 {
		t.Errorf("%d answers for no items", len(errs))
	}
}
