package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// saveUntil saves as a pipeline does, again and again while the error says that
// that may help, and returns how long it took.
func saveUntil(t *testing.T, s *redisstore.Store, key string, f state.Fence, cp state.Checkpoint) time.Duration {
	t.Helper()
	from := time.Now()
	for {
		err := s.SaveFenced(t.Context(), key, f, cp)
		if err == nil {
			return time.Since(from)
		}
		var e *state.Error
		if !errors.As(err, &e) || !e.Retryable() {
			t.Fatalf("after %v: %v, which is not retryable", time.Since(from), err)
		}
		if time.Since(from) > time.Minute {
			t.Fatalf("a minute later: %v", err)
		}
	}
}

// failover is the time that R. Sentinel or Cluster takes by itself, as seen by
// one who asks it: measured from the fault to the first answer that names another.
func failover(t *testing.T, fault func() error, master func() (*redisserver.Server, error), use func() time.Duration) (own, ours time.Duration) {
	t.Helper()
	old, err := master()
	if err != nil {
		t.Fatal(err)
	}
	want(t, fault(), nil, "the fault")
	from := time.Now()
	done := make(chan time.Duration, 1)
	go func() {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if now, err := master(); err == nil && now != old {
				break
			}
		}
		done <- time.Since(from)
	}()
	ours = use()
	return <-done, ours
}

// wantSoon wants a save to be done within two seconds of the servers' own failover, or
// somewhat later on a busy machine.
func wantSoon(t *testing.T, who string, own, ours time.Duration) {
	t.Helper()
	t.Logf("%s needed %v, the save %v", who, own, ours)
	if ours > own+8*time.Second {
		t.Errorf("the save went through %v after the failover", ours-own)
	}
}

func wantSequence(t *testing.T, s *redisstore.Store, key string, sequence uint64) {
	t.Helper()
	cp, err := s.Load(t.Context(), key)
	want(t, err, nil, "Load")
	if cp.Sequence != sequence {
		t.Errorf("loaded sequence %d, want %d", cp.Sequence, sequence)
	}
}

func TestSentinelFailover(t *testing.T) {
	for _, fault := range []string{"killed", "frozen"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			// One Sentinel, because several may split their votes, and then wait for ten
			// seconds. Half a second, the default, is less than a busy machine holds a server up:
			// that would be failovers that nobody caused.
			sentinel := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: 1, DownAfter: time.Second})
			var heard sharedlog.Buffer
			s := open(t, sentinel.URL(), redisstore.Options{WaitReplicas: 1, Logger: slog.New(slog.NewTextHandler(&heard, nil))})
			ctx := t.Context()
			g := acquire(t, s, "k")
			want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)), nil, "SaveFenced")
			var log sharedlog.Buffer
			idle := open(t, sentinel.URL(), redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}) // without WAIT: one replica fewer is left
			want(t, idle.Ping(ctx), nil, "Ping")
			want(t, sentinel.Settled(ctx), nil, "Settled")
			_, err := sentinel.Nodes[1].Do(ctx, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
			want(t, err, nil, "CONFIG SET")
			old := sentinel.Nodes[0]
			kill := old.Kill
			if fault == "frozen" {
				kill = old.Freeze
			}
			own, ours := failover(t, kill, func() (*redisserver.Server, error) { return sentinel.Master(ctx) }, func() time.Duration {
				return saveUntil(t, idle, "k", g.Fence, checkpoint(t, "82AB", 2))
			})
			wantSoon(t, "Sentinel", own, ours)
			if text := log.String(); !strings.Contains(text, "redis master changed") || !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "allkeys-lru") {
				t.Errorf("the log has neither the new master nor its policy: %s", text)
			}
			// A store that knows the new master doesn't ask the old one, which for a while does
			// not know that it was replaced.
			eventually(t, "word of the new master", func() bool { return strings.Contains(heard.String(), "redis master changed") })
			if fault == "frozen" {
				want(t, old.Thaw(), nil, "Thaw")
			}
			wantSequence(t, s, "k", 2)
			if fault == "frozen" {
				want(t, sentinel.Settled(ctx), nil, "Settled")
				want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AC", 3)), nil, "SaveFenced, with a replica again")
			}
		})
	}
}

// A Sentinel that is cut off and knows only the old master is not believed
// against the others; and one that answers is enough.
func TestSentinelsDisagree(t *testing.T) {
	sentinel := redisserver.StartSentinel(t, nil)
	ctx := t.Context()
	stale := sentinel.Sentinels[0]
	want(t, stale.Freeze(), nil, "Freeze")
	want(t, sentinel.Nodes[0].Kill(), nil, "Kill")
	eventually(t, "the failover", func() bool {
		m, err := sentinel.Sentinels[1].Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redisserver.MasterName)
		return err == nil && fmt.Sprint(m) != fmt.Sprint([]any{"127.0.0.1", fmt.Sprint(sentinel.Nodes[0].Port())})
	})
	s := open(t, sentinel.URL(), redisstore.Options{})
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save while a Sentinel is frozen")
	want(t, sentinel.Sentinels[2].Kill(), nil, "Kill")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AB", 2)), nil, "Save")
	again := open(t, sentinel.URL(), redisstore.Options{})
	want(t, again.Save(ctx, "k", checkpoint(t, "82AC", 3)), nil, "Save with one Sentinel left")
}

// Opening goes on after Sentinels that a busy machine held up.
func TestOpenWaitsForSentinels(t *testing.T) {
	t.Parallel()
	sentinel := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: 1})
	held := sentinel.Sentinels[0]
	want(t, held.Freeze(), nil, "Freeze")
	var log sharedlog.Buffer
	opened := make(chan error, 1)
	go func() {
		s, err := redisstore.Open(t.Context(), sentinel.URL(), &redisstore.Options{
			ConnectTimeout: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	eventually(t, "the second attempt", func() bool { return strings.Contains(log.String(), "retrying") })
	want(t, held.Thaw(), nil, "Thaw")
	want(t, <-opened, nil, "Open")

	want(t, held.Freeze(), nil, "Freeze")
	_, err := redisstore.Open(t.Context(), sentinel.URL(), &redisstore.Options{ConnectTimeout: time.Minute, MaxRetries: -1, Logger: quiet})
	want(t, err, state.ErrUnavailable, "Open without repetitions")
	want(t, held.Thaw(), nil, "Thaw")
}

func TestClusterFailover(t *testing.T) {
	for _, fault := range []string{"killed", "frozen"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cluster := redisserver.StartCluster(t, nil)
			ctx := t.Context()
			s := open(t, cluster.URL(), redisstore.Options{ReadTimeout: time.Second})
			g := acquire(t, s, "k")
			want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)), nil, "SaveFenced")
			record, _ := redisstore.Names("rigatoni:", "k")
			slot, err := cluster.Slot(ctx, record)
			want(t, err, nil, "Slot")
			master := func() (*redisserver.Server, error) { return cluster.MasterOf(ctx, slot) }
			old, err := master()
			want(t, err, nil, "MasterOf")
			kill := old.Kill
			if fault == "frozen" {
				kill = old.Freeze
			}
			own, ours := failover(t, kill, master, func() time.Duration {
				return saveUntil(t, s, "k", g.Fence, checkpoint(t, "82AB", 2))
			})
			wantSoon(t, "the Cluster", own, ours)
			if fault == "frozen" {
				want(t, old.Thaw(), nil, "Thaw")
			}
			wantSequence(t, s, "k", 2)
		})
	}
}

// do is what a server answers.
func do(ctx context.Context, t *testing.T, s *redisserver.Server, args ...string) any {
	t.Helper()
	v, err := s.Do(ctx, args...)
	if err != nil {
		t.Fatalf("%s: %v", args[0], err)
	}
	return v
}

// wantListed wants a list of these keys, each once.
func wantListed(t *testing.T, s *redisstore.Store, keys map[string]error) {
	t.Helper()
	listed := map[string]bool{}
	for e, err := range s.List(t.Context(), "") {
		want(t, err, nil, "List")
		wanted, known := keys[e.Key]
		if !known || listed[e.Key] {
			t.Errorf("%q is listed, known before: %v, listed before: %v", e.Key, known, listed[e.Key])
		}
		listed[e.Key] = true
		want(t, e.LoadErr, wanted, "the listed "+e.Key)
	}
	if len(listed) != len(keys) {
		t.Errorf("listed: %v", listed)
	}
}

// A slot that is on its way, and one that has moved, with WAIT and without: each
// save is done, once, where the slot is.
func TestMovedSlot(t *testing.T) {
	cluster := redisserver.StartCluster(t, nil)
	ctx := t.Context()
	for name, o := range map[string]redisstore.Options{"plain": {}, "WAIT": {WaitReplicas: 1}} {
		s := open(t, cluster.URL(), o)
		g, err := s.Acquire(ctx, "k", state.LeaseRequest{Nonce: state.NewNonce(), TTL: time.Hour, Steal: true})
		want(t, err, nil, "Acquire")
		sequence := g.LastSequence
		save := func(what string) {
			t.Helper()
			sequence++
			want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", sequence)), nil, name+": "+what)
		}
		save("SaveFenced")
		want(t, s.Save(ctx, "other", checkpoint(t, "82AA", 0)), nil, "Save")
		record, fence := redisstore.Names("rigatoni:", "k")
		slot, err := cluster.Slot(ctx, record)
		want(t, err, nil, "Slot")
		from, err := cluster.MasterOf(ctx, slot)
		want(t, err, nil, "MasterOf")
		to := cluster.Nodes[0]
		if to == from {
			to = cluster.Nodes[1]
		}
		want(t, cluster.BeginMove(ctx, slot, from, to), nil, "BeginMove")
		save("SaveFenced while the slot is on its way")
		// Once its names are there, a key belongs where the slot is going: ASK. While they
		// are in two places, all calls wait.
		for _, name := range []string{fence, record} {
			do(ctx, t, from, "MIGRATE", "127.0.0.1", fmt.Sprint(to.Port()), "", "0", "5000", "KEYS", name)
			if name == record {
				break
			}
			wantListed(t, s, map[string]error{"k": state.ErrUnavailable, "other": nil})
			_, err := s.Load(ctx, "k")
			want(t, err, state.ErrUnavailable, "Load when the fence was moved")
			want(t, s.ClearFenced(ctx, "k", g.Fence), state.ErrUnavailable, "ClearFenced when the fence was moved")
			want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", sequence+1)), state.ErrUnavailable, "SaveFenced when the fence was moved")
		}
		save("SaveFenced when all was moved")
		_, err = s.Load(ctx, "k")
		want(t, err, nil, name+": Load of what was moved")
		wantListed(t, s, map[string]error{"k": nil, "other": nil})
		if v := do(ctx, t, to, "CLUSTER", "COUNTKEYSINSLOT", fmt.Sprint(slot)); v != int64(2) {
			t.Errorf("%s: where %s is to be lie %v names", name, record, v)
		}
		want(t, s.ClearFenced(ctx, "k", g.Fence), nil, name+": ClearFenced while the slot is on its way")
		// With only one of its two names, a key waits for the move to end.
		want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", sequence+1)), state.ErrUnavailable, "SaveFenced of what was cleared, while the slot is on its way")
		want(t, cluster.MoveSlot(ctx, slot, to), nil, "MoveSlot")
		save("SaveFenced after the slot has moved")
		cp, err := s.Load(ctx, "k")
		want(t, err, nil, "Load")
		if cp.Sequence != sequence {
			t.Errorf("%s: loaded sequence %d, want %d", name, cp.Sequence, sequence)
		}
		want(t, cluster.Settled(ctx), nil, "Settled")
	}
}
