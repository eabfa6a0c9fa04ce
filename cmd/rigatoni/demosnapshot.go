package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/state"
)

// demoDocuments is how many documents there are to copy: enough for a few kills before
// they are.
const demoDocuments = 20_000

// demoCopyPace has a copy of small documents, which would take half a second, read little
// at a time.
var demoCopyPace = append([]string{"--snapshot-chunk-bytes", "16KiB", "--snapshot-parallelism", "1"}, demoPace...)

// demoReadTime is how much longer each read takes on the demo's own server, so that the
// copy lasts for a few kills.
const demoReadTime = 10 * time.Millisecond

// slowDown makes the demo's own server take its time for each read.
func (d *demo) slowDown(ctx context.Context) error {
	client, err := mongoclient.Connect(options.Client().ApplyURI(d.uri))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	return client.Database("admin").RunCommand(ctx, bson.D{
		{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: "alwaysOn"},
		{Key: "data", Value: bson.D{{Key: "failCommands", Value: bson.A{"find"}}, {Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: demoReadTime.Milliseconds()}}},
	}).Err()
}

// showSnapshot runs a pipeline that copies, kills it, and prints the result.
func (d *demo) showSnapshot(ctx context.Context, store state.Store, self string) error {
	out := filepath.Join(d.dir, "out")
	d.printf("  before    %s documents in %s.orders\n", grouped(d.flags.documents), d.database)
	d.printf("  writing   %s changes, while they are copied: inserts, updates, deletes\n", grouped(d.flags.events))
	d.printf("  pipeline  %s run --database %s --collections orders --snapshot initial \\\n", d.self(), d.database)
	d.printf("              --store %s --to ndjson:%s \\\n              %s\n", config.Redact(d.flags.store), out, strings.Join(demoCopyPace, " "))
	d.printf("            killed with SIGKILL %d times while it copies, and started again\n", d.flags.kills)
	if d.flags.source == "" {
		if err := d.slowDown(ctx); err != nil {
			return fmt.Errorf("slowing down the demo's server: %w", err)
		}
		d.printf("            (each read takes %d ms longer on this server, or there would be no time for the kills)\n", demoReadTime.Milliseconds())
	}
	d.printf("\n")
	view := newCopyView(d.style, d.flags.documents)
	d.printf("%s", view.header())
	res, err := crashtest.Run(ctx, crashtest.Config{
		Source: d.uri, Database: d.database, Collections: []string{"orders"}, Documents: d.flags.documents,
		Changes: d.flags.events, Mix: crashtest.Mix{Inserts: 30, Updates: 50, Deletes: 20}, Seed: d.flags.seed,
		Rate: min(demoMaxRate, max(demoMinRate, d.flags.events/demoTime)), Kills: d.flags.kills,
		Binary: self, StoreURL: d.flags.store, Store: store, Out: out,
		Flags: append([]string{"--lease-ttl", "1s", "--snapshot", "initial"}, demoCopyPace...),
		Watch: func(p crashtest.Progress) { view.update(d.screen, p) },
	})
	if err != nil {
		return err
	}
	return d.conclude(ctx, store, res)
}

// conclude prints the result of a run.
func (d *demo) conclude(ctx context.Context, store state.Store, res *crashtest.Result) error {
	d.screen.clear()
	d.summary(res)
	if err := d.checkpoint(ctx, store); err != nil {
		return err
	}
	d.next()
	if !res.OK() {
		return errLost
	}
	return nil
}
