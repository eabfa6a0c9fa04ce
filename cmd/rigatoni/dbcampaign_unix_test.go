//go:build unix

package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/dbcampaign"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	campaigns "github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// The campaigns into databases: two processes compete for the stream, are killed and
// frozen, and so are the servers; each change must be there once, in order. By default
// they are short.

var campaignColls = []string{"orders", "users", "carts", "invoices", "parcels"}

// dbCampaign is the configuration that all have, and the source.
func dbCampaign(t *testing.T) (dbcampaign.Config, *mongo.Database) {
	t.Helper()
	c := dbcampaign.Config{
		Database: "shop", Collections: campaignColls, Docs: 60, Binary: testbinary.Path(t), Seed: campaigns.Seed(t), Logf: t.Logf,
		Changes: 5000, Rate: 500, Kills: 3, Freezes: 1, Patience: 2 * time.Minute,
	}
	if campaigns.Full(t) {
		c.Changes, c.Docs, c.Rate, c.Kills, c.Freezes = 100_000, 300, 400, 100, 5
		server := mongod.OwnForTest(t, mongod.Options{Nodes: 3, OplogMB: 512})
		c.Source = server.URI()
		c.Disturb = append(c.Disturb, []dbcampaign.Disturbance{
			{Name: "the source's primary stepped down", Do: server.StepDown},
			{Name: "the source's primary was killed and restarted", Do: func(ctx context.Context) error { return crashPrimary(ctx, server) }},
			{Name: "the source's primary stepped down", Do: server.StepDown},
			{Name: "all servers of the source were killed and restarted", Do: func(ctx context.Context) error {
				if err := server.Kill(); err != nil {
					return err
				}
				return server.Restart(ctx)
			}},
		})
	} else {
		t.Parallel() // they wait more than they work
		db := mongod.ForTest(t)
		c.Source, c.Database = db.URI, db.Name
	}
	return c, connect(t, c.Source).Database(c.Database)
}

// mustHoldUp runs a campaign and fails the test with whatever is wrong.
func mustHoldUp(t *testing.T, c dbcampaign.Config) *dbcampaign.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(c.Changes/c.Rate)*6*time.Second+5*time.Minute)
	defer cancel()
	result, err := dbcampaign.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result)
	for _, wrong := range result.Wrong {
		t.Error(wrong)
	}
	return result
}

// TestCampaignPostgres delivers into PostgreSQL, whose server is killed, too.
func TestCampaignPostgres(t *testing.T) {
	for _, mode := range []string{"mirror", "log"} {
		t.Run(mode, func(t *testing.T) {
			c, source := dbCampaign(t)
			judge, _ := intoPostgres(t, &c, source, mode)
			if mode == "log" {
				c.Judge = func(ctx context.Context, j dbcampaign.Journal) ([]string, error) { return judge.Log(ctx, j, true) }
			}
			mustHoldUp(t, c)
		})
	}
}

// intoPostgres has a campaign deliver into a server of its own, and returns the judge of
// a mirror, and the URL.
func intoPostgres(t *testing.T, c *dbcampaign.Config, source *mongo.Database, mode string) (dbcampaign.Postgres, string) {
	t.Helper()
	server := pgserver.Start(t, nil)
	pool, err := pgxpool.New(context.Background(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	images := "updateLookup"
	if mode == "log" {
		c.Images, images = true, "required"
	}
	c.Flags = append(c.Flags, "--to", with(server.URL(), "mode", mode), "--full-document", images)
	judge := dbcampaign.Postgres{Pool: pool, Source: source, Colls: campaignColls}
	c.Judge = judge.Mirror
	c.Disturb = append(c.Disturb, crashes(t, server))
	return judge, server.URL()
}

// TestCampaignMongoDB delivers into another database of the source's deployment or, in
// full length, into a replica set that has trouble of its own.
func TestCampaignMongoDB(t *testing.T) {
	c, source := dbCampaign(t)
	intoMongoDB(t, &c, source)
	mustHoldUp(t, c)
}

// intoMongoDB has a campaign deliver into MongoDB, and returns the URL.
func intoMongoDB(t *testing.T, c *dbcampaign.Config, source *mongo.Database) (url string) {
	t.Helper()
	to := c.Source
	if campaigns.Full(t) {
		server := mongod.OwnForTest(t, mongod.Options{Nodes: 3, OplogMB: 512})
		to = server.URI()
		var all []dbcampaign.Disturbance
		for range 10 {
			all = append(all,
				dbcampaign.Disturbance{Name: "the target's primary stepped down", Do: server.StepDown},
				dbcampaign.Disturbance{Name: "the target's primary was killed and restarted", Do: func(ctx context.Context) error { return crashPrimary(ctx, server) }})
		}
		c.Disturb = append(c.Disturb, all)
	}
	target := c.Database + "_copy"
	url = with(with(to, "target", target+".{collection}"), "checkpoints", c.Database+"_state.checkpoints")
	c.Flags = append(c.Flags, "--to", url)
	client := connect(t, to)
	t.Cleanup(func() {
		for _, db := range []string{target, c.Database + "_state", c.Database + "_marks"} {
			if err := client.Database(db).Drop(context.Background()); err != nil && !campaigns.Full(t) {
				t.Error(err)
			}
		}
	})
	judge := dbcampaign.MongoDB{Source: source, Target: client.Database(target), Colls: campaignColls}
	c.Judge = judge.Mirror
	return url
}

// crashes kills PostgreSQL, with SIGKILL and as "pg_ctl stop -m immediate" does.
func crashes(t *testing.T, server *pgserver.Server) []dbcampaign.Disturbance {
	n := 2
	if campaigns.Full(t) {
		n = 20
	}
	var all []dbcampaign.Disturbance
	for i := range n {
		end, name := server.Kill, "PostgreSQL was killed and restarted"
		if i%2 == 1 {
			end, name = server.Stop, "PostgreSQL was stopped at once and restarted"
		}
		all = append(all, dbcampaign.Disturbance{Name: name, Do: func(ctx context.Context) error {
			if err := end(); err != nil {
				return err
			}
			if err := pauseFor(ctx, time.Duration(i%4)*400*time.Millisecond); err != nil {
				return err
			}
			return server.Restart(ctx)
		}})
	}
	return all
}

// with is a URL with a further parameter.
func with(text, name, value string) string {
	sep := "?"
	if strings.Contains(text, "?") {
		sep = "&"
	}
	return fmt.Sprintf("%s%s%s=%s", text, sep, name, url.QueryEscape(value))
}
