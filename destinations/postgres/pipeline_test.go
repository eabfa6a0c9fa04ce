package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// A pipeline into PostgreSQL whose server is killed, stopped at once and restarted, and
// which is itself stopped and started: each event is there once, in order.
func TestPipeline(t *testing.T) {
	const total, rounds = 3000, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	server := pgserver.Start(t, nil)
	admin := newPool(t, server.URL(), nil)
	exec(t, admin, "create table rows (seq bigint generated always as identity, key text, id int, n int)")
	source := rigatonitest.NewSource()
	written := 0
	write := func(n int) {
		for range n {
			written++
			source.Append(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: int32(written)}, {Key: "n", Value: int32(written)}}))
		}
	}
	start := func() (stop func()) {
		pool := newPool(t, server.URL(), nil)
		d, err := postgres.OpenTx(pool, insert("k"), &postgres.TxOptions{Checkpoints: pgstore.Options{CallTimeout: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := rigatoni.New(rigatoni.Config{
			Name: "k", Source: source, Destination: d, MaxBatchEvents: 50,
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
				t.Errorf("the pipeline ended: %v", err)
			}
			pool.Close()
		}
	}
	count := func() (n int) {
		if err := admin.QueryRow(t.Context(), "select count(*) from rows").Scan(&n); err != nil {
			return -1 // the server is away
		}
		return n
	}
	await := func(n int) {
		for deadline := time.Now().Add(2 * time.Minute); count() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d rows, want %d", count(), n)
			}
		}
	}
	stop := start()
	for round := range rounds {
		write(total / rounds)
		await(min(count()+rng.IntN(total/rounds), written))
		switch round % 3 {
		case 0:
			stop()
			stop = start()
		case 1:
			restart(t, server, server.Kill)
		case 2:
			restart(t, server, server.Stop)
		}
	}
	await(written)
	stop()
	rows, err := admin.Query(t.Context(), "select n from rows order by seq")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(got) != total {
		t.Fatalf("%d rows, want %d; %v", len(got), total, err)
	}
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("row %d is of event %d", i+1, n)
		}
	}
}

func restart(t *testing.T, s *pgserver.Server, end func() error) {
	t.Helper()
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}
