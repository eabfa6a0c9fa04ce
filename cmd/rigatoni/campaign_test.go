package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	campaigns "github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The campaigns kill the pipeline's process at random while changes are being
// written, and count. By default they are short.

// A campaign is one run.
type campaign struct {
	redis    bool // the store; files if it is not
	oneEach  bool // a stream for each collection
	anytime  bool // a kill may fall into a start
	interval time.Duration
	flags    []string

	toOptions            string // parameters of the URL of the destination
	changes, kills, rate int
	binary               string // default: the command as it is
	patience             time.Duration
	restartOn            []int
	disturb              func(ctx context.Context, written func() int) error
	killNow              chan struct{} // one more kill, when disturb sends it
	source, database     string        // the server and database to use; default: the shared one, a new one
}

// TestCampaignKills kills the pipeline and nothing else.
func TestCampaignKills(t *testing.T) {
	if !campaigns.Full(t) {
		t.Parallel() // they wait more than they work
	}
	rotate := "?max-file-bytes=256KiB"
	cases := map[string]campaign{
		"files":                {interval: 200 * time.Millisecond, toOptions: rotate},
		"redis, a stream each": {redis: true, oneEach: true, anytime: true},
	}
	size := campaign{changes: 6000, kills: 4, rate: 600}
	if campaigns.Full(t) {
		cases["files, a stream each"] = campaign{oneEach: true, anytime: true, toOptions: rotate}
		cases["redis"] = campaign{redis: true, interval: time.Second}
		size = campaign{changes: 100_000, kills: 20, rate: 1250}
		cases["files, 100 kills"] = campaign{kills: 100, interval: 200 * time.Millisecond, anytime: true, toOptions: "?max-file-bytes=64KiB&max-file-age=1s"}
	}
	for name, c := range cases {
		c.changes, c.kills, c.rate = size.changes, max(c.kills, size.kills), size.rate
		t.Run(name, func(t *testing.T) {
			if !campaigns.Full(t) {
				t.Parallel()
			}
			c.mustHold(t)
		})
	}
}

// mustHold runs a campaign and fails the test with whatever is wrong.
func (c campaign) mustHold(t *testing.T) {
	t.Helper()
	record, res := c.run(t)
	record.tell(t, res)
	for _, wrong := range record.judge(res) {
		t.Error(wrong)
	}
}

// run runs a campaign.
func (c campaign) run(t *testing.T) (*record, *crashtest.Result) {
	t.Helper()
	record, res, err := c.tryRun(t)
	if err != nil {
		t.Fatal(err)
	}
	return record, res
}

// tryRun is run for a pipeline that may give up by itself, which is the error.
func (c campaign) tryRun(t *testing.T) (*record, *crashtest.Result, error) {
	t.Helper()
	if c.source == "" {
		db := mongod.ForTest(t)
		c.source, c.database = db.URI, db.Name
	}
	if c.binary == "" {
		c.binary = testbinary.Path(t)
	}
	dir := t.TempDir()
	url := "file:" + filepath.ToSlash(filepath.Join(dir, "state"))
	if c.redis {
		url = redisserver.Start(t, nil).URL()
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	record := &record{campaign: c, streaming: map[int]time.Time{}}
	interval := "off"
	if c.interval > 0 {
		interval = c.interval.String()
	}
	limit := time.Duration(c.changes/c.rate)*4*time.Second + 3*time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	res, err := crashtest.Run(ctx, crashtest.Config{
		Source: c.source, Database: c.database,
		Collections: []string{"orders", "users", "carts", "invoices", "parcels"},
		Changes:     c.changes, Mix: crashtest.Mix{Inserts: 45, Updates: 40, Deletes: 15},
		Seed: campaigns.Seed(t), Writers: 2, Rate: c.rate,
		Kills: c.kills, KillStarting: c.anytime, KillNow: c.killNow, RestartOn: c.restartOn,
		Binary: c.binary, OneEach: c.oneEach, Out: filepath.Join(dir, "out"), ToOptions: c.toOptions, TakeTo: taken,
		// A lease in Redis outlives a killed process, and is waited out.
		Flags:    append([]string{"--lease-ttl", "1s", "--save-interval", interval}, c.flags...),
		StoreURL: url, Store: openForTest(t, url),
		Disturb: c.disturb, Watch: record.watch, Patience: c.patience,
	})
	return record, res, err
}

// openForTest opens the store as the pipeline does, to look at its checkpoints.
func openForTest(t *testing.T, url string) state.Store {
	t.Helper()
	store, err := backend.OpenStore(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(store); err != nil {
			t.Error(err)
		}
	})
	return store
}

// TestCampaignServerTrouble has the server step down, crash and stay away, while
// the pipeline is killed as well.
func TestCampaignServerTrouble(t *testing.T) {
	c := campaign{changes: 3600, kills: 2, rate: 300, interval: 200 * time.Millisecond, patience: time.Minute}
	away := 3 * time.Second
	if campaigns.Full(t) {
		c.changes, c.kills, c.rate = 100_000, 20, 1000
		away = 30 * time.Second
	} else {
		t.Parallel()
	}
	stores := []bool{false}
	if campaigns.Full(t) {
		stores = append(stores, true)
	}
	for _, redis := range stores {
		t.Run(map[bool]string{false: "files", true: "redis, a stream each"}[redis], func(t *testing.T) {
			c := c
			c.redis, c.oneEach = redis, redis
			server := mongod.OwnForTest(t, mongod.Options{Nodes: 3, OplogMB: 256})
			c.source, c.database = server.URI(), "shop"
			c.restartOn = []int{exitUnreachable} // as a supervisor would
			c.killNow = make(chan struct{})
			c.disturb = func(ctx context.Context, written func() int) error {
				return c.trouble(ctx, t, server, written, away)
			}
			c.mustHold(t)
		})
	}
}

// trouble makes all of it, spread over the writing.
func (c campaign) trouble(ctx context.Context, t *testing.T, s *mongod.Server, written func() int, away time.Duration) error {
	for i, step := range []struct {
		what string
		do   func() error
	}{
		{"the primary steps down", func() error { return s.StepDown(ctx) }},
		{"the primary is killed and restarted", func() error { return crashPrimary(ctx, s) }},
		{fmt.Sprintf("all servers are killed, and then the pipeline, and away for %v", away), func() error { return c.crashAll(ctx, s, away) }},
		{"the primary steps down again", func() error { return s.StepDown(ctx) }},
	} {
		for written() < c.changes*(i+1)/5 {
			if err := pauseFor(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		began, at := time.Now(), written()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		t.Logf("after %d changes %s: a primary again after %.1f s", at, step.what, time.Since(began).Seconds())
	}
	return nil
}

func crashPrimary(ctx context.Context, s *mongod.Server) error {
	primary, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	if err := primary.Kill(); err != nil {
		return err
	}
	if _, err := s.Primary(ctx); err != nil {
		return err
	}
	return primary.Start(ctx)
}

// crashAll has the pipeline start while there is no server.
func (c campaign) crashAll(ctx context.Context, s *mongod.Server, away time.Duration) error {
	if err := s.Kill(); err != nil {
		return err
	}
	select {
	case c.killNow <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := pauseFor(ctx, away); err != nil {
		return err
	}
	return s.Restart(ctx)
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
