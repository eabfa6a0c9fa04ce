// Command river makes a job of River of each order that is inserted, exactly once: the
// job and the checkpoint after the order are one transaction.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
)

type ship struct { // the job
	Order string `json:"order"`
}

func (ship) Kind() string { return "ship" }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	tables, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	check(err)
	_, err = tables.Migrate(ctx, rivermigrate.DirectionUp, nil)
	check(err)
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{}) // workers may be elsewhere
	check(err)
	source, err := changestream.Open(os.Getenv("MONGODB_URI"), &changestream.Options{
		Database: "shop", Collections: []string{"orders"}, Operations: []string{"insert"},
	})
	check(err)
	insert := func(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch) error {
		for _, ev := range b.Events {
			if _, err := jobs.InsertTx(ctx, tx, ship{ev.DocumentKey().Lookup("_id").String()}, nil); err != nil {
				return err
			}
		}
		return nil
	}
	check(rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source, Destination: postgres.Tx(pool, insert), // which keeps the checkpoints, too
		LeaseTTL: 5 * time.Second, // after a crash the next start waits for that long
	}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
