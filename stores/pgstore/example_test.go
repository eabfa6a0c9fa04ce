package pgstore_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

func Example() {
	ctx := context.Background()
	store, err := pgstore.Open(ctx, os.Getenv("DATABASE_URL"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cp, err := store.Load(ctx, "orders")
	fmt.Println(cp.ClusterTime, err)
}

// A row and the checkpoint after it, in one transaction of the program's own.
func ExampleStore_SaveTx() {
	insert := func(ctx context.Context, pool *pgxpool.Pool, store *pgstore.Store, f state.Fence, cp state.Checkpoint, order string) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			repeated, err := store.SaveTx(ctx, tx, "orders", f, cp)
			if err != nil || repeated {
				return err
			}
			_, err = tx.Exec(ctx, "INSERT INTO orders VALUES ($1)", order)
			return err
		})
	}
	_ = insert // f is the fence of a lease, which state.Hold acquires
}
