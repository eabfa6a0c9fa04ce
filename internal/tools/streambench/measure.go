package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// measurements are what is measured; the first is the baseline.
var measurements = []struct {
	name, what string
	goal       float64
	do         func(uri, dir string, start bson.Timestamp, events int) error
}{
	{"bare", "bare driver loop", 0, bareLoop},
	{"func", "pipeline, to a function that drops them", 0.9, toFunc},
	{"ndjson", "pipeline, to ndjson files", 0.8, toFiles},
}

func measure(name string, events int) error {
	var start bson.Timestamp
	if _, err := fmt.Sscanf(os.Getenv("BENCH_START"), "%d.%d", &start.T, &start.I); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "streambench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, m := range measurements {
		if m.name != name {
			continue
		}
		begin := time.Now()
		if err := m.do(os.Getenv("BENCH_URI"), dir, start, events); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result{Seconds: time.Since(begin).Seconds(), RSSKiB: peakRSS()})
	}
	return fmt.Errorf("there is no measurement %q", name)
}

// bareLoop is what a program writes by hand, without checkpoints.
func bareLoop(uri, _ string, start bson.Timestamp, events int) error {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	cs, err := client.Database(database).Collection(collection).Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetStartAtOperationTime(&start))
	if err != nil {
		return err
	}
	defer cs.Close(ctx)
	for n := 0; n < events; n++ {
		if !cs.Next(ctx) {
			return errors.Join(errors.New("the stream ended early"), cs.Err())
		}
	}
	return nil
}

func toFunc(uri, dir string, start bson.Timestamp, events int) error {
	done := make(chan struct{})
	n := 0
	return pipeline(uri, dir, start, rigatoni.Func(func(context.Context, rigatoni.Event) error {
		if n++; n == events {
			close(done)
		}
		return nil
	}), func(*rigatoni.Pipeline) { <-done })
}

func toFiles(uri, dir string, start bson.Timestamp, events int) error {
	dest, err := ndjson.Open(dir+"/out", nil)
	if err != nil {
		return err
	}
	return pipeline(uri, dir, start, dest, func(p *rigatoni.Pipeline) {
		for p.Status()[0].Events < uint64(events) {
			time.Sleep(2 * time.Millisecond)
		}
	})
}

func pipeline(uri, dir string, start bson.Timestamp, dest rigatoni.Destination, wait func(*rigatoni.Pipeline)) error {
	source, err := changestream.Open(uri, &changestream.Options{Database: database, Collections: []string{collection}})
	if err != nil {
		return err
	}
	defer source.Close(context.Background())
	store, err := filestore.Open(dir+"/state", nil)
	if err != nil {
		return err
	}
	defer store.Close()
	p, err := rigatoni.New(rigatoni.Config{Name: "bench", Source: source, Destination: dest, Store: store, FirstStart: rigatoni.FirstStart{Time: start}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		wait(p)
		stop()
	}()
	return p.Run(ctx)
}

// peakRSS returns the peak resident memory of this process in KiB, on Linux; 0
// elsewhere.
func peakRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib
		}
	}
	return 0
}
