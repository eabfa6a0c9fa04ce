package postgres_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

// Each change is a row, exactly once. The rows of a batch are sent together.
func ExampleTx() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	source := rigatonitest.NewSource() // changestream.Open(…)
	dest := postgres.Tx(pool, func(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch) error {
		rows := make([][]any, len(b.Events))
		for i, ev := range b.Events {
			rows[i] = []any{ev.OperationType(), ev.DocumentKey().String()}
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"changes"}, []string{"op", "id"}, pgx.CopyFromRows(rows))
		return err
	})
	// There is no Store: the destination keeps the checkpoints.
	err = rigatoni.Run(ctx, rigatoni.Config{Name: "orders", Source: source, Destination: dest})
	fmt.Println(err)
}

// A log of all changes, in tables public.COLLECTION.
func ExampleOpen() {
	ctx := context.Background()
	source := rigatonitest.NewSource() // changestream.Open(…, &changestream.Options{FullDocument: "updateLookup"})
	dest, err := postgres.Open(ctx, os.Getenv("DATABASE_URL"), &postgres.Options{Mode: postgres.Log})
	if err != nil {
		log.Fatal(err)
	}
	defer dest.Close()
	// There is no Store: the destination keeps the checkpoints.
	err = rigatoni.Run(ctx, rigatoni.Config{Name: "orders", Source: source, Destination: dest})
	fmt.Println(err)
}
