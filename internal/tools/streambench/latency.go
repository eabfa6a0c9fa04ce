package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

const (
	latencyEvents = 1000                  // of each measurement
	latencyPause  = 10 * time.Millisecond // between two: 100 a second
)

// A watcher calls seen for each event, one at a time, until ctx ends. It closes
// ready when no event will be missed.
type watcher struct {
	what  string
	watch func(ctx context.Context, uri, dir string, ready chan<- struct{}, seen func(bson.Raw)) error
}

// watchers are what is measured; the first is the baseline.
var watchers = []watcher{
	{"bare driver loop", watchBare},
	{"pipeline, to a function", watchPipeline},
}

// measureLatency measures the time from just before an insert until its event is
// seen, at 100 inserts a second, one at a time.
func measureLatency(ctx context.Context, rounds int) error {
	server, err := mongod.Start(ctx, mongod.Options{})
	if err != nil {
		return err
	}
	defer server.Stop()
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	took := make([][]time.Duration, len(watchers))
	for range rounds {
		for i, w := range watchers {
			ds, err := latencies(ctx, server.URI(), client.Database(database).Collection(collection), w)
			if err != nil {
				return fmt.Errorf("%s: %w", w.what, err)
			}
			took[i] = append(took[i], ds...)
		}
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nfrom an insert to its event, 100 a second\tp50\tof the baseline\tgoal\tp99\tof the baseline")
	for i, w := range watchers {
		p50, p99, goal := percentile(took[i], 50), percentile(took[i], 99), "-"
		if i > 0 {
			goal = "1.50"
		}
		fmt.Fprintf(t, "%s\t%v\t%.2f\t%s\t%v\t%.2f\n", w.what, p50.Round(time.Microsecond), ratio(p50, percentile(took[0], 50)), goal,
			p99.Round(time.Microsecond), ratio(p99, percentile(took[0], 99)))
	}
	return t.Flush()
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func percentile(ds []time.Duration, p int) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)-1, len(ds)*p/100)]
}

// latencies runs one watcher while events are written.
func latencies(ctx context.Context, uri string, coll *mongo.Collection, w watcher) ([]time.Duration, error) {
	dir, err := os.MkdirTemp("", "streambench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ready, seen := make(chan struct{}), make(chan time.Duration, latencyEvents)
	ended := make(chan error, 1)
	go func() {
		ended <- w.watch(ctx, uri, dir, ready, func(raw bson.Raw) {
			seen <- time.Since(time.Unix(0, raw.Lookup("fullDocument", "sent").Int64()))
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		return nil, errors.Join(errors.New("it ended before it began"), err)
	}
	tick := time.NewTicker(latencyPause)
	defer tick.Stop()
	for range latencyEvents {
		<-tick.C
		if _, err := coll.InsertOne(ctx, bson.D{{Key: "sent", Value: time.Now().UnixNano()}, {Key: "note", Value: "a small order"}}); err != nil {
			return nil, err
		}
	}
	var ds []time.Duration
	for len(ds) < latencyEvents {
		select {
		case d := <-seen:
			ds = append(ds, d)
		case err := <-ended:
			return nil, errors.Join(errors.New("it ended early"), err)
		}
	}
	stop()
	<-ended
	return ds, nil
}

func watchBare(ctx context.Context, uri, _ string, ready chan<- struct{}, seen func(bson.Raw)) error {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	defer client.Disconnect(context.Background())
	cs, err := client.Database(database).Collection(collection).Watch(ctx, mongo.Pipeline{})
	if err != nil {
		return err
	}
	defer cs.Close(context.Background())
	close(ready)
	for cs.Next(ctx) {
		seen(cs.Current)
	}
	return cs.Err()
}

func watchPipeline(ctx context.Context, uri, dir string, ready chan<- struct{}, seen func(bson.Raw)) error {
	p, done, err := newPipeline(uri, dir, bson.Timestamp{}, rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
		seen(ev.Raw)
		return nil
	}))
	if err != nil {
		return err
	}
	defer done()
	go func() {
		if p.Wait(ctx) == nil {
			close(ready)
		}
	}()
	return p.Run(ctx)
}
