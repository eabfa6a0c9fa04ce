package crashtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

func TestMain(m *testing.M) { os.Exit(testbinary.Main(m)) }

// config is a short run that the test may change.
func config(t *testing.T, s *testserver.Server, storeURL string) crashtest.Config {
	t.Helper()
	store, err := backend.OpenStore(t.Context(), storeURL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(store); err != nil {
			t.Error(err)
		}
	})
	seed := uint64(time.Now().UnixNano() % 1_000_000)
	t.Logf("seed %d", seed)
	return crashtest.Config{
		Source: s.URI, Database: s.DB.Name(), Collections: []string{"orders", "users"},
		Changes: 4000, Mix: crashtest.Mix{Inserts: 50, Updates: 35, Deletes: 15}, Seed: seed, Rate: 1000,
		Kills: 4, Binary: testbinary.Path(t), Flags: []string{"--save-interval", "200ms"},
		StoreURL: storeURL, Store: store, Out: filepath.Join(t.TempDir(), "out"),
	}
}

func run(t *testing.T, cfg crashtest.Config) *crashtest.Result {
	t.Helper()
	res, err := crashtest.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("written %d, arrived %d, redelivered %d, finished %d, twice %d, lost %d, processes %d, in %v", res.Progress.Written, res.Progress.Arrived, res.Progress.Redelivered, res.Progress.Finished, res.Progress.Twice, res.Lost, len(res.Progress.Processes), res.Took)
	if res.Progress.Written != cfg.Changes || res.Inserts+res.Updates+res.Deletes != cfg.Changes {
		t.Errorf("written %d (%d, %d, %d), want %d", res.Progress.Written, res.Inserts, res.Updates, res.Deletes, cfg.Changes)
	}
	return res
}

func wantOK(t *testing.T, res *crashtest.Result, processes int) {
	t.Helper()
	if !res.OK() || res.Lost > 0 || res.MadeUp > 0 || res.Progress.Twice > 0 || res.Progress.Arrived != res.Progress.Written || res.Progress.Finished != res.Progress.Written {
		t.Errorf("lost %d, made up %d, %d faults:\n%s", res.Lost, res.MadeUp, res.FaultCount, strings.Join(res.Faults, "\n"))
	}
	if len(res.Progress.Processes) < processes {
		t.Errorf("%d processes, want %d", len(res.Progress.Processes), processes)
	}
}

func TestFileStore(t *testing.T) {
	testserver.Both(t, func(t *testing.T, s *testserver.Server) {
		wantOK(t, run(t, config(t, s, "file:"+t.TempDir())), 5)
	})
}

func TestOneStreamEachAndKillsWhileStarting(t *testing.T) {
	cfg := config(t, testserver.Mongod(t), "file:"+t.TempDir())
	cfg.OneEach, cfg.KillStarting, cfg.Kills, cfg.Writers = true, true, 12, 2
	wantOK(t, run(t, cfg), 13)
}

func TestRedis(t *testing.T) {
	redis := redisserver.Start(t, nil)
	cfg := config(t, testserver.Mongotest(t), redis.URL())
	cfg.Flags = append(cfg.Flags, "--lease-ttl", "1s")
	cfg.Rate = 500 // a process begins with the wait for the lease of the one before
	wantOK(t, run(t, cfg), 5)
}

// The server is restarted meanwhile; a process that begins without a server is
// followed by another.
func TestDisturbed(t *testing.T) {
	s := testserver.OwnMongod(t, mongod.Options{})
	cfg := config(t, s, "file:"+t.TempDir())
	cfg.Source += "&serverSelectionTimeoutMS=2000"
	cfg.RestartOn = []int{5}
	restarts := 0
	cfg.Disturb = func(ctx context.Context, written func() int) error {
		for written() < cfg.Changes/2 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
		if err := s.Real.Kill(); err != nil {
			return fmt.Errorf("killing mongod: %w", err)
		}
		restarts++
		return s.Real.Restart(ctx)
	}
	wantOK(t, run(t, cfg), 5)
	if restarts != 1 {
		t.Errorf("%d restarts of the server", restarts)
	}
}

// A pipeline that loses something must be found out. This one runs over what is
// not delivered: each process starts with a store of its own, at now.
func TestLossIsFound(t *testing.T) {
	cfg := config(t, testserver.Mongotest(t), "file:"+t.TempDir())
	script := filepath.Join(t.TempDir(), "forgetful")
	text := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" --store memory:\n", cfg.Binary)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Binary, cfg.Patience = script, 3*time.Second
	res := run(t, cfg)
	if res.OK() || res.Lost == 0 {
		t.Errorf("a pipeline that forgets its checkpoint lost %d, with %d faults", res.Lost, res.FaultCount)
	}
}
