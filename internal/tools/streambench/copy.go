package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// copies are what is measured of the snapshot: finds are the loops over the driver's
// cursors that a program would write by hand, over ranges of the same collection.
var copies = []struct {
	name, what string
	finds      bool
	parallel   int
	goal       float64
}{
	{"find1", "bare find loop", true, 1, 0},
	{"find2", "2 bare find loops", true, 2, 0},
	{"find4", "4 bare find loops", true, 4, 0},
	{"copy1", "snapshot to a function, 1 range", false, 1, 0.8},
	{"copy4", "snapshot to a function, 4 ranges", false, 4, 0.7},
}

const (
	live     = "written"               // the collection that is written to during a copy
	liveRate = 2000                    // documents a second
	liveTick = 10 * time.Millisecond   // between two writes
	liveMost = 1000 * time.Millisecond // the goal
)

// measureCopies measures the snapshot relative to bare find loops.
func measureCopies(ctx context.Context, docs, rounds int) error {
	server, err := mongod.Start(ctx, mongod.Options{OplogMB: 990})
	if err != nil {
		return err
	}
	defer server.Stop()
	start, size, err := fill(ctx, server.URI(), docs)
	if err != nil {
		return err
	}
	fmt.Printf("\n%d documents of about %d bytes, %d rounds, the median of each\n\n", docs, size-eventBytes, rounds)
	results := map[string][]result{}
	for range rounds {
		for _, c := range copies {
			r, err := spawn(c.name, server.URI(), start, docs)
			if err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
			results[c.name] = append(results[c.name], r)
		}
	}
	if err := printCopies(results, docs); err != nil {
		return err
	}
	lag, err := spawn("copylag", server.URI(), start, docs)
	if err != nil {
		return fmt.Errorf("lag: %w", err)
	}
	fmt.Printf("\nlag of the stream during a copy, at %d changes/s: at most %v, the goal %v\n", liveRate, time.Duration(lag.LagSeconds*float64(time.Second)).Round(time.Millisecond), liveMost)
	return nil
}

func printCopies(results map[string][]result, docs int) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tdocuments/s\tof the best bare one\tgoal\tCPU a document\tmemory\tgoal")
	one := median(results["find1"]).Seconds
	best := min(one, median(results["find2"]).Seconds, median(results["find4"]).Seconds)
	for _, c := range copies {
		r, base, memory := median(results[c.name]), best, "-"
		if c.parallel == 1 {
			base = one
		}
		if !c.finds {
			memory = "64 MiB"
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%s\t%.1f µs\t%d MiB\t%s\n", c.what, float64(docs)/r.Seconds, base/r.Seconds, goal(c.goal), r.CPUSeconds*1e6/float64(docs), r.RSSKiB>>10, memory)
	}
	return w.Flush()
}

// measureCopy is one measurement, in a process of its own; false: there is none of that
// name.
func measureCopy(name string, docs int) (bool, error) {
	uri := os.Getenv("BENCH_URI")
	if name == "copylag" {
		lag, err := copyLag(uri, docs)
		return true, errors.Join(err, json.NewEncoder(os.Stdout).Encode(result{LagSeconds: lag.Seconds()}))
	}
	for _, c := range copies {
		if c.name != name {
			continue
		}
		begin, do := time.Now(), copyTo
		if c.finds {
			do = findLoops
		}
		err := do(uri, c.parallel, docs)
		return true, errors.Join(err, json.NewEncoder(os.Stdout).Encode(result{Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuTime().Seconds(), RSSKiB: peakRSS()}))
	}
	return false, nil
}

// findLoops reads the collection with n cursors.
func findLoops(uri string, n, docs int) error {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	coll := client.Database(database).Collection(collection)
	var seen atomic.Int64
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			// The _ids are the numbers from 0 on.
			o := options.Find().SetHint(bson.D{{Key: "_id", Value: 1}})
			if n > 1 {
				o.SetMin(bson.D{{Key: "_id", Value: i * docs / n}}).SetMax(bson.D{{Key: "_id", Value: (i + 1) * docs / n}})
			}
			errs[i] = findLoop(ctx, coll, o, &seen)
		})
	}
	wg.Wait()
	if got := seen.Load(); got != int64(docs) {
		errs = append(errs, fmt.Errorf("read %d documents of %d", got, docs))
	}
	return errors.Join(errs...)
}

func findLoop(ctx context.Context, coll *mongo.Collection, o *options.FindOptionsBuilder, seen *atomic.Int64) error {
	cur, err := coll.Find(ctx, bson.D{}, o)
	if err != nil {
		return err
	}
	defer cur.Close(ctx)
	n := 0
	for ; cur.Next(ctx); n++ {
		_ = cur.Current
	}
	seen.Add(int64(n))
	return cur.Err()
}

// copyTo copies the collection to a function.
func copyTo(uri string, parallel, docs int) error {
	n, done := 0, make(chan struct{})
	return runCopy(uri, parallel, func(_ context.Context, ev rigatoni.Event) error {
		if n++; n == docs {
			close(done)
		}
		return nil
	}, func(ctx context.Context, _ *rigatoni.Pipeline) error {
		select {
		case <-done:
		case <-ctx.Done():
		}
		return nil
	})
}

// runCopy runs a pipeline until during returns.
func runCopy(uri string, parallel int, f rigatoni.Func, during func(context.Context, *rigatoni.Pipeline) error) error {
	src, err := changestream.Open(uri, &changestream.Options{Database: database, Collections: []string{collection, live}, SnapshotParallelism: parallel})
	if err != nil {
		return err
	}
	defer src.Close(context.Background())
	p, err := rigatoni.New(rigatoni.Config{Name: "bench", Source: src, Destination: f, Store: memstore.New(), Snapshot: "initial"})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = during(ctx, p)
		stop()
	}()
	err = p.Run(ctx)
	stop()
	<-ended
	return errors.Join(err, failed)
}

// copyLag is the longest time from a write to its event, while a collection is copied.
func copyLag(uri string, docs int) (time.Duration, error) {
	var longest atomic.Int64
	n, copied := 0, make(chan struct{})
	err := runCopy(uri, 4, func(_ context.Context, ev rigatoni.Event) error {
		if ev.IsSnapshot() {
			if n++; n == docs {
				close(copied)
			}
			return nil
		}
		if sent, ok := ev.FullDocument().Lookup("sent").Int64OK(); ok {
			longest.Store(max(longest.Load(), time.Now().UnixNano()-sent))
		}
		return nil
	}, func(ctx context.Context, p *rigatoni.Pipeline) error {
		if err := p.Wait(ctx); err != nil {
			return nil // Run returns it
		}
		return writeLive(ctx, uri, copied)
	})
	return time.Duration(longest.Load()), err
}

// writeLive writes documents at the rate until the copy has ended.
func writeLive(ctx context.Context, uri string, copied <-chan struct{}) error {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	defer client.Disconnect(context.Background())
	tick := time.NewTicker(liveTick)
	defer tick.Stop()
	docs := make([]any, int(liveRate*liveTick/time.Second))
	for {
		select {
		case <-copied:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for i := range docs {
			docs[i] = bson.D{{Key: "sent", Value: time.Now().UnixNano()}, {Key: "note", Value: "a small order"}}
		}
		if _, err := client.Database(database).Collection(live).InsertMany(ctx, slices.Clone(docs)); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
