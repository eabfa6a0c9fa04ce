package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// measurements are what is measured; the first is the baseline of the rates, and
// the second of the CPU time.
var measurements = []struct {
	name, what        string
	rateGoal, cpuGoal float64
	do                func(uri, dir string, start bson.Timestamp, events int) error
	to                target // of the command, which is measured instead
}{
	{"bare", "bare driver loop", 0, 0, func(uri, _ string, start bson.Timestamp, events int) error {
		return bareLoop(uri, start, events, func(bson.Raw) {})
	}, nil},
	{"walk", "bare driver loop, and JSON in a second goroutine", 0, 0, walkLoop, nil},
	{"func", "pipeline, to a function that drops them", 0.97, 0, toFunc, nil},
	{"lanes", "the same, with 16 lanes", 0, 0, toLanes, nil},
	{"ndjson", "pipeline, to ndjson files", 0.95, 1.1, toFiles, nil},
	{"mirror", "the command, to PostgreSQL, a row for each document", 0, 0, nil, toPostgres("&mode=mirror")},
	{"log", "the command, to PostgreSQL, a row for each event", 0, 0, nil, toPostgres("&mode=log")},
	{"mongodb", "the command, to another MongoDB server", 0, 0, nil, toMongoDB},
}

func measure(name string, events int) error {
	var start bson.Timestamp
	if _, err := fmt.Sscanf(os.Getenv("BENCH_START"), "%d.%d", &start.T, &start.I); err != nil {
		return err
	}
	if ok, err := measureCopy(name, events); ok {
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
		return json.NewEncoder(os.Stdout).Encode(result{Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuTime().Seconds(), RSSKiB: peakRSS()})
	}
	return fmt.Errorf("there is no measurement %q", name)
}

// bareLoop is what a program writes by hand, without checkpoints.
func bareLoop(uri string, start bson.Timestamp, events int, seen func(bson.Raw)) error {
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
		seen(cs.Current)
	}
	return nil
}

// walkLoop hands each event to a second goroutine, which makes JSON of it: about the
// least that a program can do that writes events as JSON while it reads.
func walkLoop(uri, _ string, start bson.Timestamp, events int) error {
	raws, done := make(chan bson.Raw, 1000), make(chan error, 1)
	go func() {
		var buf []byte
		var err error
		for raw := range raws {
			if err == nil {
				buf, err = extjson.Append(buf[:0], raw, extjson.Relaxed)
			}
		}
		done <- err
	}()
	err := bareLoop(uri, start, events, func(raw bson.Raw) { raws <- raw })
	close(raws)
	return errors.Join(err, <-done)
}

func toLanes(uri, dir string, start bson.Timestamp, events int) error {
	var n atomic.Int64
	done := make(chan struct{})
	return pipeline(uri, dir, start, rigatoni.Func(func(context.Context, rigatoni.Event) error {
		if n.Add(1) == int64(events) {
			close(done)
		}
		return nil
	}), func(*rigatoni.Pipeline) { <-done }, func(c *rigatoni.Config) { c.Concurrency = 16 })
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

func pipeline(uri, dir string, start bson.Timestamp, dest rigatoni.Destination, wait func(*rigatoni.Pipeline), change ...func(*rigatoni.Config)) error {
	p, done, err := newPipeline(uri, dir, start, dest, change...)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		wait(p)
		stop()
	}()
	return p.Run(ctx)
}

// newPipeline makes a pipeline of the collection, and a function to call when it is
// over.
func newPipeline(uri, dir string, start bson.Timestamp, dest rigatoni.Destination, change ...func(*rigatoni.Config)) (*rigatoni.Pipeline, func(), error) {
	source, err := changestream.Open(uri, &changestream.Options{Database: database, Collections: []string{collection}})
	if err != nil {
		return nil, nil, err
	}
	store, err := filestore.Open(dir+"/state", nil)
	if err != nil {
		return nil, nil, err
	}
	cfg := rigatoni.Config{Name: "bench", Source: source, Destination: dest, Store: store, FirstStart: rigatoni.FirstStart{Time: start}}
	for _, c := range change {
		c(&cfg)
	}
	p, err := rigatoni.New(cfg)
	return p, func() {
		_ = store.Close()
		_ = source.Close(context.Background())
	}, err
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

// cpuTime is the user and system time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
