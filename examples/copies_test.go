package examples_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
)

// A copier is an example that copies the orders, and how to count the copies.
type copier struct {
	name   string
	env    []string
	copied func(context.Context) (int, error)
}

// TestCopies kills the examples that copy, and has them continue.
func TestCopies(t *testing.T) {
	t.Parallel() // it waits for leases
	shop := newShop(t)
	url := pgserver.Database(t)
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for _, c := range []copier{
		{"postgres", []string{"DATABASE_URL=" + url}, func(ctx context.Context) (n int, err error) {
			err = pool.QueryRow(ctx, "SELECT count(*) FROM orders").Scan(&n)
			return n, err
		}},
		{"mongodb", nil, func(ctx context.Context) (int, error) {
			n, err := shop.orders.Database().Client().Database("shop_copy").Collection("orders").CountDocuments(ctx, bson.D{})
			return int(n), err
		}},
	} {
		if _, err := shop.orders.DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		p := &program{bin: build(t, c.name), dir: t.TempDir(), env: append(append(os.Environ(), "MONGODB_URI="+shop.uri), c.env...)}
		p.start(t)
		p.waitFor(t, "streaming")
		if err := shop.write(t.Context(), 0, 50); err != nil {
			t.Fatal(err)
		}
		c.await(t, p, 50)
		p.kill(t)
		if err := shop.write(t.Context(), 50, 80); err != nil {
			t.Fatal(err)
		}
		p.start(t)
		c.await(t, p, 80)
		p.stop(t)
	}
}

// await waits until there are n copies.
func (c copier) await(t *testing.T, p *program, n int) {
	t.Helper()
	got := 0
	for deadline := time.Now().Add(time.Minute); got != n; time.Sleep(20 * time.Millisecond) {
		var err error
		if got, err = c.copied(t.Context()); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, p.output())
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d copies, want %d:\n%s", c.name, got, n, p.output())
		}
	}
}
