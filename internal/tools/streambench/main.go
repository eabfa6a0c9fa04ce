// Command streambench measures the pipeline relative to a baseline: the loop over
// the driver's change stream that a program would write by hand, in the same run
// and on the same server. The ratios are comparable between machines, the times are
// not.
//
//	go run ./internal/tools/streambench [-events 200000] [-rounds 3] [-latency=false] [-documents 1000000]
//
// Each measurement runs in a process of its own, so that memory is measured too.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

const database, collection = "bench", "orders"

// result is the output of a measuring process.
type result struct {
	Seconds    float64
	CPUSeconds float64 // user and system time
	RSSKiB     int64   // peak resident memory
	LagSeconds float64
}

func main() {
	events := flag.Int("events", 200_000, "change events to read; 0: the stream is not measured")
	rounds := flag.Int("rounds", 3, "the number of times each is measured")
	latency := flag.Bool("latency", true, "measure the latency too")
	docs := flag.Int("documents", 1_000_000, "documents to copy; 0: the snapshot is not measured")
	child := flag.String("measure", "", "in a child: what to measure")
	flag.Parse()
	slog.SetLogLoggerLevel(slog.LevelWarn)
	var err error
	if *child != "" {
		err = measure(*child, *events)
	} else {
		if *events > 0 {
			err = run(context.Background(), *events, *rounds)
		}
		if err == nil && *latency {
			err = measureLatency(context.Background(), *rounds)
		}
		if err == nil && *docs > 0 {
			err = measureCopies(context.Background(), *docs, *rounds)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "streambench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, events, rounds int) error {
	server, err := mongod.Start(ctx, mongod.Options{OplogMB: 990})
	if err != nil {
		return err
	}
	defer server.Stop()
	start, size, err := fill(ctx, server.URI(), events)
	if err != nil {
		return err
	}
	fmt.Printf("%d insert events of about %d bytes, %d rounds, the median of each\n\n", events, size, rounds)
	binary, remove, err := buildCommand()
	if err != nil {
		return err
	}
	defer remove()
	results := map[string][]result{}
	for range rounds {
		// Interleaved, so that other load on the machine affects all alike.
		for _, m := range measurements {
			var r result
			if m.to != nil {
				r, err = runCommand(ctx, binary, server.URI(), start, events, m.to)
			} else {
				r, err = spawn(m.name, server.URI(), start, events)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			results[m.name] = append(results[m.name], r)
		}
	}
	return errors.Join(print(results, events), tooLarge(results))
}

func print(results map[string][]result, events int) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tevents/s\tof the baseline\tgoal\tCPU an event\tof the JSON loop's\tgoal\tmemory")
	floor, walk := median(results[measurements[0].name]), median(results[measurements[1].name])
	for _, m := range measurements {
		r := median(results[m.name])
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%s\t%.1f µs\t%.2f\t%s\t%d MiB\n", m.what, float64(events)/r.Seconds, floor.Seconds/r.Seconds, goal(m.rateGoal),
			r.CPUSeconds*1e6/float64(events), r.CPUSeconds/walk.CPUSeconds, goal(m.cpuGoal), r.RSSKiB>>10)
	}
	return w.Flush()
}

// memoryGoal is how much memory, in KiB, the command may take.
const memoryGoal = 64 << 10

// tooLarge is the error of a command that took more.
func tooLarge(results map[string][]result) (err error) {
	for _, m := range measurements {
		if most := median(results[m.name]).RSSKiB; m.to != nil && most > memoryGoal {
			err = errors.Join(err, fmt.Errorf("%s took %d MiB, more than %d", m.what, most>>10, memoryGoal>>10))
		}
	}
	return err
}

func goal(g float64) string {
	if g == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", g)
}

func median(rs []result) result {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b result) int { return int((a.Seconds - b.Seconds) * 1e9) })
	m := rs[len(rs)/2]
	for _, r := range rs {
		m.RSSKiB = max(m.RSSKiB, r.RSSKiB)
	}
	return m
}

// eventBytes are what an event adds to its document.
const eventBytes = 250

// fill inserts the documents, and returns the time before the first one.
func fill(ctx context.Context, uri string, events int) (bson.Timestamp, int, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return bson.Timestamp{}, 0, err
	}
	defer client.Disconnect(ctx)
	var pong struct {
		OperationTime bson.Timestamp `bson:"operationTime"`
	}
	if err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Decode(&pong); err != nil {
		return bson.Timestamp{}, 0, err
	}
	start := pong.OperationTime
	start.I++
	coll := client.Database(database).Collection(collection)
	size := 0
	for at := 0; at < events; {
		var docs []any
		for len(docs) < 5000 && at < events {
			doc := bson.D{
				{Key: "_id", Value: at}, {Key: "customer", Value: fmt.Sprintf("customer-%d", at%977)},
				{Key: "amount", Value: float64(at%10000) / 100}, {Key: "at", Value: time.Unix(int64(1_700_000_000+at), 0)},
				{Key: "lines", Value: bson.A{bson.D{{Key: "sku", Value: "A-1"}, {Key: "n", Value: 2}}, bson.D{{Key: "sku", Value: "B-7"}, {Key: "n", Value: 1}}}},
				{Key: "note", Value: strings.Repeat("x", 200)},
			}
			if size == 0 {
				raw, _ := bson.Marshal(doc)
				size = len(raw) + eventBytes
			}
			docs = append(docs, doc)
			at++
		}
		if _, err := coll.InsertMany(ctx, docs); err != nil {
			return bson.Timestamp{}, 0, err
		}
	}
	return start, size, nil
}

func spawn(name, uri string, start bson.Timestamp, events int) (result, error) {
	cmd := exec.Command(os.Args[0], "-measure", name, "-events", fmt.Sprint(events))
	cmd.Env = append(os.Environ(), "BENCH_URI="+uri, fmt.Sprintf("BENCH_START=%d.%d", start.T, start.I))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, err
	}
	var r result
	return r, json.Unmarshal(out, &r)
}
