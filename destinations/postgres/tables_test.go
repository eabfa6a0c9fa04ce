package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

// A written is what was written to the source.
type written struct {
	rng    *rand.Rand
	source *rigatonitest.Source
	docs   map[string]int64   // n of each document, by the text of its _id; not there: deleted
	events map[string][]int64 // n of all its events; 0: its delete
	n      int64
}

// write appends n events of a few documents in three collections, whose _ids are of
// several types.
func (w *written) write(n int) {
	for range n {
		w.n++
		coll, i := fmt.Sprint("c", w.rng.IntN(3)), w.rng.IntN(40)
		id, text := any(i), fmt.Sprint(i)
		switch i % 4 {
		case 1:
			id, text = fmt.Sprint(i), fmt.Sprintf("%q", fmt.Sprint(i))
		case 2:
			id, text = bson.D{{Key: "k", Value: float64(i)}}, fmt.Sprintf(`{"k":%d}`, i)
		case 3:
			oid := bson.ObjectID{11: byte(i)}
			id, text = oid, oid.Hex()
		}
		key, doc := coll+" "+text, bson.D{{Key: "_id", Value: id}, {Key: "n", Value: w.n}}
		_, exists := w.docs[key]
		switch {
		case !exists:
			w.source.Append(rigatonitest.Insert("shop."+coll, doc))
		case w.rng.IntN(4) == 0:
			w.source.Append(rigatonitest.Delete("shop."+coll, id))
			delete(w.docs, key)
			w.events[key] = append(w.events[key], 0)
			continue
		default:
			w.source.Append(rigatonitest.Replace("shop."+coll, doc))
		}
		w.docs[key] = w.n
		w.events[key] = append(w.events[key], w.n)
	}
}

// A pipeline into a mirror and one into a log, with a server that is killed, stopped at
// once and restarted, while they are stopped and started: the mirror is what was written,
// and the log has each event once, in the order of each document.
func TestPipelineIntoTables(t *testing.T) {
	const total, rounds = 3000, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	server := pgserver.Start(t, nil)
	w := &written{rng: rand.New(rand.NewPCG(seed, 0)), source: rigatonitest.NewSource(), docs: map[string]int64{}, events: map[string][]int64{}}
	start := func(mode string) (stop func()) {
		d, err := postgres.Open(t.Context(), server.URL(), &postgres.Options{
			Mode: mode, Table: mode + ".{collection}", CallTimeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := rigatoni.New(rigatoni.Config{
			Name: mode, Source: w.source, Destination: d, MaxBatchEvents: 50,
			RetryMin: time.Millisecond, RetryMax: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		return func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, rigatoni.ErrUndelivered) && !errors.Is(err, rigatoni.ErrUnsaved) {
				t.Errorf("the pipeline %s ended: %v", mode, err)
			}
			d.Close()
		}
	}
	admin := newPool(t, server.URL(), nil)
	logged := func() (n int) {
		err := admin.QueryRow(t.Context(), "select (select count(*) from log.c0) + (select count(*) from log.c1) + (select count(*) from log.c2)").Scan(&n)
		if err != nil {
			return -1 // the server is away, or no table is there yet
		}
		return n
	}
	reaches := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); logged() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d rows of %d", logged(), n)
			}
		}
	}
	mirror, log := start(postgres.Mirror), start(postgres.Log)
	for round := range rounds {
		w.write(total / rounds)
		reaches(total/rounds*round + w.rng.IntN(total/rounds))
		switch round % 3 {
		case 0:
			mirror()
			log()
			mirror, log = start(postgres.Mirror), start(postgres.Log)
		case 1:
			restart(t, server, server.Kill)
		case 2:
			restart(t, server, server.Stop)
		}
	}
	reaches(total)
	awaitMirror(t, admin, w)
	mirror()
	log()
	events := eventsOf(t, admin)
	for key, want := range w.events {
		if got := events[key]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the log has %d, want %d", key, got, want)
		}
	}
}

// eventsOf are the events in the log, those of each document in order.
func eventsOf(t *testing.T, admin querier) map[string][]int64 {
	t.Helper()
	events := map[string][]int64{}
	for coll := range 3 {
		rows, err := admin.Query(t.Context(), fmt.Sprintf("select _id, coalesce((doc->>'n')::bigint, 0) from log.c%d order by seq", coll))
		var id string
		var n int64
		if err == nil {
			_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
				key := fmt.Sprintf("c%d %s", coll, id)
				events[key] = append(events[key], n)
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return events
}

// awaitMirror waits until the mirror is what was written, and prints the difference if it
// doesn't become that.
func awaitMirror(t *testing.T, admin querier, w *written) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		docs := map[string]int64{}
		for coll := range 3 {
			rows, err := admin.Query(t.Context(), fmt.Sprintf("select _id, (doc->>'n')::bigint from mirror.c%d", coll))
			var id string
			var n int64
			if err == nil {
				_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { docs[fmt.Sprintf("c%d %s", coll, id)] = n; return nil })
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if maps.Equal(docs, w.docs) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the mirror has %v, want %v", docs, w.docs)
		}
	}
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}
