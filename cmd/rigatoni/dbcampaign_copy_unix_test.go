//go:build unix

package main

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/dbcampaign"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	campaigns "github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The campaigns into databases, of pipelines that begin with a copy: most of the kills
// and crashes happen while it is under way.

// copyCampaign is a campaign whose pipeline copies, little at a time, so that there is
// time for the kills.
func copyCampaign(t *testing.T) (dbcampaign.Config, *mongo.Database) {
	t.Helper()
	c, source := dbCampaign(t)
	c.Docs, c.Changes, c.Kills, c.Copy = 200, 3000, 3, &dbcampaign.Copy{Before: 2000, After: 300, Size: 1000}
	chunk, parallelism := "1KiB", "1" // a document at a time
	if campaigns.Full(t) {
		c.Docs, c.Changes, c.Kills, c.Copy = 10_000, 50_000, 50, &dbcampaign.Copy{Before: 80_000, After: 5_000, Size: 200}
		chunk, parallelism = "1KiB", "4"
	}
	c.Flags = []string{"--snapshot", "initial", "--snapshot-chunk-bytes", chunk, "--snapshot-parallelism", parallelism}
	return c, source
}

// mustCopy runs such a campaign, whose checkpoints are in that store.
func mustCopy(t *testing.T, c dbcampaign.Config, store state.Store) {
	t.Helper()
	c.Copy.Progress = func(ctx context.Context) (int, bool, error) {
		cp, err := store.Load(ctx, c.Database)
		if errors.Is(err, state.ErrNotFound) {
			return 0, false, nil // it has not begun
		} else if err != nil {
			return 0, false, err
		}
		s, underWay, err := changestream.SnapshotProgress(cp)
		return int(s.Documents), !underWay, err
	}
	result := mustHoldUp(t, c)
	if result.KillsCopying < c.Kills/2 {
		t.Errorf("of %d kills only %d happened while the copy was under way: it is too fast for them", c.Kills, result.KillsCopying)
	}
	if len(c.Disturb) > 0 && result.TroubleCopying == 0 {
		t.Error("no server had trouble while the copy was under way: it is too fast")
	}
}

// TestCampaignCopyIntoPostgres copies into PostgreSQL, whose server is killed, too: what
// is there is there once, and so is every change since.
func TestCampaignCopyIntoPostgres(t *testing.T) {
	if !campaigns.Full(t) {
		t.Parallel()
	}
	for _, mode := range []string{"mirror", "log"} {
		t.Run(mode, func(t *testing.T) {
			c, source := copyCampaign(t)
			judge, url := intoPostgres(t, &c, source, mode)
			if mode == "log" {
				c.Judge = judge.LogWithCopy
			}
			dest, err := postgres.Open(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { dest.Close() })
			mustCopy(t, c, dest.Checkpoints())
		})
	}
}

// TestCampaignCopyIntoMongoDB copies into another database of the source's deployment or,
// in full length, into a replica set that has trouble of its own.
func TestCampaignCopyIntoMongoDB(t *testing.T) {
	c, source := copyCampaign(t)
	dest, err := mongodb.Open(t.Context(), intoMongoDB(t, &c, source), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dest.Close() })
	mustCopy(t, c, dest.Checkpoints())
}
