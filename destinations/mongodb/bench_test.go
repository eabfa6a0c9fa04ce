package mongodb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

const (
	benchEvents = 100_000
	benchBatch  = 1000
	benchEnv    = "RIGATONI_MONGODB_BENCH" // makes the process one that is measured
)

// BenchmarkMirror writes inserts of documents of some 340 bytes, in transactions of 1,000, by a
// whole pipeline, and by a bare loop with the driver that has the same documents in memory and
// saves no checkpoint. The goals: at least 0.8 of the loop's rate, and at most 64 MiB.
func BenchmarkMirror(b *testing.B) {
	l := newLab(b)
	var bare, whole float64 // seconds
	var rss int
	for b.Loop() {
		for _, what := range []string{"bare", "pipeline"} {
			r := measure(b, l, what)
			if what == "bare" {
				bare += r.Seconds
			} else {
				whole, rss = whole+r.Seconds, max(rss, r.RSSKiB)
			}
		}
	}
	n := float64(b.N * benchEvents)
	b.ReportMetric(n/whole, "events/s")
	b.ReportMetric(n/bare, "bare-events/s")
	b.ReportMetric(bare/whole, "of-bare")
	b.ReportMetric(float64(rss)/1024, "MiB")
	b.ReportMetric(0, "ns/op")
}

type measured struct {
	Seconds float64
	RSSKiB  int
}

// measure runs a process of its own, into an empty collection.
func measure(b *testing.B, l lab, what string) (r measured) {
	b.Helper()
	must(b, l.client.Database(l.db).Drop(b.Context()))
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchEnv+"="+what+" "+l.db+" "+l.uri)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(b, err)
	must(b, json.Unmarshal(out, &r))
	if n, err := l.client.Database(l.db).Collection("orders").EstimatedDocumentCount(b.Context()); err != nil || n != benchEvents {
		b.Fatalf("%s: %d documents, %v", what, n, err)
	}
	return r
}

// beMeasured is the process that is measured.
func beMeasured(args string) error {
	part := strings.SplitN(args, " ", 3)
	client, err := mongo.Connect(options.Client().ApplyURI(part[2]))
	if err != nil {
		return err
	}
	run := bareLoop
	if part[0] == "pipeline" {
		run = wholePipeline
	}
	took, err := run(context.Background(), client, part[1])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(measured{took.Seconds(), peakRSS()})
}

func wholePipeline(ctx context.Context, client *mongo.Client, db string) (took time.Duration, err error) {
	d, err := mongodb.New(client, &mongodb.Options{Target: db + ".{collection}", Checkpoints: db + ".checkpoints"})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := benchEvents
	began := time.Now()
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "bench", Source: newTemplate(), Destination: d, MaxBatchEvents: benchBatch, Logger: slog.New(slog.DiscardHandler),
		Hooks: rigatoni.Hooks{Delivered: func(d rigatoni.Delivery) {
			if left -= d.Events; left == 0 {
				took = time.Since(began)
				cancel()
			}
		}},
	})
	return took, err
}

// bareLoop is what a program writes by hand, without a checkpoint.
func bareLoop(ctx context.Context, client *mongo.Client, db string) (took time.Duration, err error) {
	coll := client.Database(db).Collection("orders")
	if err := client.Database(db).CreateCollection(ctx, "orders"); err != nil {
		return 0, err
	}
	session, err := client.StartSession()
	if err != nil {
		return 0, err
	}
	defer session.EndSession(ctx)
	source := newTemplate()
	for n := 0; n < benchEvents; n += benchBatch {
		events, _, _ := source.Next(ctx) // in memory
		began := time.Now()
		_, err := session.WithTransaction(ctx, func(ctx context.Context) (any, error) {
			models := make([]mongo.WriteModel, len(events))
			for i, ev := range events {
				models[i] = mongo.NewReplaceOneModel().SetFilter(ev.DocumentKey()).SetReplacement(ev.FullDocument()).SetUpsert(true)
			}
			return coll.BulkWrite(ctx, models)
		}, options.Transaction().SetWriteConcern(writeconcern.Majority()))
		if took += time.Since(began); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// A template is a source of inserts, each made of the same bytes, which costs little more than to
// copy them.
type template struct {
	raw     []byte
	ids     []int // offsets of the number, as an int32
	hexTime int   // of the time in the token, in hexadecimal digits
	next    int
}

func newTemplate() *template {
	const id, at = int32(0x71727374), uint32(0x61626364) // what is replaced
	key, _ := bson.Marshal(bson.D{{Key: "_id", Value: id}})
	token, err := resumetoken.Encode(resumetoken.Decoded{Format: resumetoken.FormatV1, ClusterTime: bson.Timestamp{T: at, I: 1}, UUID: resumetoken.UUID{1}})
	if err != nil {
		panic(err)
	}
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: token.Raw()}, {Key: "operationType", Value: "insert"}, {Key: "clusterTime", Value: bson.Timestamp{T: 1794000000, I: 1}}, {Key: "wallTime", Value: bson.DateTime(1794000000120)},
		{Key: "fullDocument", Value: bson.D{
			{Key: "_id", Value: id}, {Key: "customer", Value: "customer-977"}, {Key: "amount", Value: 12.34}, {Key: "at", Value: bson.DateTime(1794000000120)},
			{Key: "lines", Value: bson.A{bson.D{{Key: "sku", Value: "A-1"}, {Key: "n", Value: 2}}, bson.D{{Key: "sku", Value: "B-7"}, {Key: "n", Value: 1}}}},
			{Key: "note", Value: strings.Repeat("x", 140)},
		}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}}, {Key: "documentKey", Value: bson.Raw(key)},
	})
	if err != nil {
		panic(err)
	}
	s := &template{raw: raw, hexTime: bytes.Index(raw, []byte("61626364"))}
	number := binary.LittleEndian.AppendUint32(nil, uint32(id))
	for i := range raw {
		if bytes.HasPrefix(raw[i:], number) {
			s.ids = append(s.ids, i)
		}
	}
	return s
}

func (s *template) event(n int) rigatoni.Event {
	raw := bytes.Clone(s.raw)
	for _, at := range s.ids {
		binary.LittleEndian.PutUint32(raw[at:], uint32(n))
	}
	hex.Encode(raw[s.hexTime:], binary.BigEndian.AppendUint32(nil, uint32(1767225600+n)))
	return rigatoni.Event{Raw: raw}
}

func (s *template) Streams() []string { return []string{""} }

func (s *template) Open(context.Context, string, rigatoni.Start) (rigatoni.Stream, error) {
	return s, nil
}

func (s *template) Position() rigatoni.Position {
	at, err := rigatoni.PositionAfter(s.event(s.next - 1))
	if err != nil {
		panic(err)
	}
	return at
}

func (s *template) Fingerprint() string { return "bench" }

func (s *template) Next(ctx context.Context) (events []rigatoni.Event, _ rigatoni.Position, err error) {
	if s.next == benchEvents {
		<-ctx.Done()
		return nil, rigatoni.Position{}, ctx.Err()
	}
	for range benchBatch {
		events = append(events, s.event(s.next))
		s.next++
	}
	return events, s.Position(), nil
}

func (s *template) Close(context.Context) error { return nil }

// peakRSS is the most memory that the process had, in KiB; 0 where the system doesn't say.
func peakRSS() (kib int) {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &kib)
	}
	return kib
}
