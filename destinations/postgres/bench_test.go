package postgres_test

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

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

const (
	benchEvents = 100_000
	benchBatch  = 1000
	benchEnv    = "RIGATONI_POSTGRES_BENCH" // makes the process one that is measured
)

// BenchmarkMirror and BenchmarkLog write inserts of documents of some 340 bytes, in
// batches of 1,000, by a whole pipeline, and by a bare loop with pgx that has the same
// rows in memory. The goals: at least 0.8 of the loop's rate, and at most 64 MiB.
func BenchmarkMirror(b *testing.B) { benchmarkMode(b, postgres.Mirror) }

func BenchmarkLog(b *testing.B) { benchmarkMode(b, postgres.Log) }

func benchmarkMode(b *testing.B, mode string) {
	server := pgserver.Start(b, &pgserver.Options{Config: []string{"max_wal_size=4GB"}})
	var bare, whole float64 // seconds
	var rss int
	for b.Loop() {
		for _, what := range []string{"bare", "pipeline"} {
			r := measure(b, server.URL(), mode, what)
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

// measure runs a process of its own, on an empty schema.
func measure(b *testing.B, url, mode, what string) (r measured) {
	b.Helper()
	pool := newPool(b, url, nil)
	exec(b, pool, "drop schema if exists bench cascade; create schema bench; drop table if exists rigatoni_tables, rigatoni_checkpoints")
	exec(b, pool, "checkpoint")
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchEnv+"="+mode+" "+what+" "+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		b.Fatal(err)
	}
	var rows int
	if err := pool.QueryRow(b.Context(), "select count(*) from bench.orders").Scan(&rows); err != nil || rows != benchEvents {
		b.Fatalf("%s %s: %d rows, %v", mode, what, rows, err)
	}
	return r
}

// beMeasured is the process that is measured.
func beMeasured(args string) error {
	mode, rest, _ := strings.Cut(args, " ")
	what, url, _ := strings.Cut(rest, " ")
	run := bareLoop
	if what == "pipeline" {
		run = wholePipeline
	}
	took, err := run(context.Background(), url, mode)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(measured{took.Seconds(), peakRSS()})
}

func wholePipeline(ctx context.Context, url, mode string) (time.Duration, error) {
	d, err := postgres.Open(ctx, url, &postgres.Options{Mode: mode, Table: "bench.{collection}"})
	if err != nil {
		return 0, err
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := benchEvents
	began := time.Now()
	var took time.Duration
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
func bareLoop(ctx context.Context, url, mode string) (took time.Duration, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	ddl := "create table bench.orders (_id text collate \"C\" primary key, doc jsonb, op text not null, cluster_time timestamptz not null, version bytea not null)"
	if mode == postgres.Log {
		ddl = strings.Replace(strings.Replace(ddl, "primary key", "not null", 1), "(_id", "(seq bigint generated always as identity primary key, _id", 1)
	}
	if _, err := conn.Exec(ctx, ddl); err != nil {
		return 0, err
	}
	source := newTemplate()
	for n := 0; n < benchEvents; n += benchBatch {
		rows := bareRows(source, n) // in memory
		began := time.Now()
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if mode == postgres.Log {
				_, err := tx.CopyFrom(ctx, pgx.Identifier{"bench", "orders"}, []string{"_id", "doc", "op", "cluster_time", "version"},
					pgx.CopyFromSlice(benchBatch, func(i int) ([]any, error) {
						return []any{rows.ids[i], rows.docs[i], rows.ops[i], rows.at[i], rows.versions[i]}, nil
					}))
				return err
			}
			_, err := tx.Exec(ctx, `insert into bench.orders select i, d::jsonb, o, c, v
				from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[]) as u(i, d, o, c, v)
				on conflict (_id) do update set doc = excluded.doc, op = excluded.op, cluster_time = excluded.cluster_time, version = excluded.version`,
				rows.ids, rows.docs, rows.ops, rows.at, rows.versions)
			return err
		})
		if took += time.Since(began); err != nil {
			return 0, err
		}
	}
	return took, nil
}

type bareBatch struct {
	ids, docs, ops []string
	at             []time.Time
	versions       [][]byte
}

func bareRows(source *template, from int) (b bareBatch) {
	for n := from; n < from+benchBatch; n++ {
		ev := source.event(n)
		doc, err := extjson.Append(nil, ev.FullDocument(), extjson.Simplified)
		if err != nil {
			panic(err)
		}
		data, _ := ev.Raw.Lookup("_id", "_data").StringValueOK()
		version, _ := hex.DecodeString(data)
		b.ids, b.docs, b.ops = append(b.ids, fmt.Sprint(n)), append(b.docs, string(doc)), append(b.ops, "insert")
		b.at, b.versions = append(b.at, time.Unix(int64(ev.ClusterTime().T), 0)), append(b.versions, version)
	}
	return b
}

// A template is a source of inserts, each made of the same bytes, which costs little more
// than to copy them.
type template struct {
	raw     []byte
	ids     []int // offsets of the number, as an int32
	times   []int // of the time, as a uint32
	hexTime int   // of the time in the token, in hexadecimal digits
	next    int
}

const (
	placeholderID   = int32(0x71727374)
	placeholderTime = uint32(0x61626364)
)

func newTemplate() *template {
	at := bson.Timestamp{T: placeholderTime, I: 1}
	key, _ := bson.Marshal(bson.D{{Key: "_id", Value: placeholderID}})
	token, err := resumetoken.Encode(resumetoken.Decoded{Format: resumetoken.FormatV1, ClusterTime: at, UUID: resumetoken.UUID{1}})
	if err != nil {
		panic(err)
	}
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: token.Raw()}, {Key: "operationType", Value: "insert"}, {Key: "clusterTime", Value: at}, {Key: "wallTime", Value: bson.DateTime(1794000000120)},
		{Key: "fullDocument", Value: bson.D{
			{Key: "_id", Value: placeholderID}, {Key: "customer", Value: "customer-977"}, {Key: "amount", Value: 12.34}, {Key: "at", Value: bson.DateTime(1794000000120)},
			{Key: "lines", Value: bson.A{bson.D{{Key: "sku", Value: "A-1"}, {Key: "n", Value: 2}}, bson.D{{Key: "sku", Value: "B-7"}, {Key: "n", Value: 1}}}},
			{Key: "note", Value: strings.Repeat("x", 140)},
		}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}}, {Key: "documentKey", Value: bson.Raw(key)},
	})
	if err != nil {
		panic(err)
	}
	s := &template{raw: raw}
	id, t := binary.LittleEndian.AppendUint32(nil, uint32(placeholderID)), binary.LittleEndian.AppendUint32(nil, placeholderTime)
	s.ids, s.times = all(raw, id), all(raw, t)
	s.hexTime = bytes.Index(raw, []byte("61626364"))
	return s
}

func all(raw, part []byte) (at []int) {
	for i := 0; i < len(raw); i++ {
		if bytes.HasPrefix(raw[i:], part) {
			at = append(at, i)
		}
	}
	return at
}

func (s *template) event(n int) rigatoni.Event {
	raw := bytes.Clone(s.raw)
	for _, at := range s.ids {
		binary.LittleEndian.PutUint32(raw[at:], uint32(n))
	}
	now := uint32(1767225600 + n)
	for _, at := range s.times {
		binary.LittleEndian.PutUint32(raw[at:], now)
	}
	hex.Encode(raw[s.hexTime:], binary.BigEndian.AppendUint32(nil, now))
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
