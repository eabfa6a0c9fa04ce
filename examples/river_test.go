package examples_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func TestMain(m *testing.M) { os.Exit(pgserver.Main(m)) }

// TestRiver kills the program while orders are written: there is one job for each
// order, in order.
func TestRiver(t *testing.T) {
	t.Parallel() // it waits for the leases of those that were killed
	const orders, kills = 900, 3
	shop := newShop(t)
	url := pgserver.Database(t)
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	p := &program{bin: build(t, "river"), dir: t.TempDir(), env: append(os.Environ(), "MONGODB_URI="+shop.uri, "DATABASE_URL="+url)}
	p.start(t)
	p.waitFor(t, "streaming")

	written, more := 0, orders/(kills+1)
	for range kills {
		done := make(chan error, 1)
		go func() { done <- shop.write(t.Context(), written, written+more) }()
		waitForJobs(t, pool, written+1)
		p.kill(t)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		written += more
		p.start(t)
	}
	if err := shop.write(t.Context(), written, orders); err != nil {
		t.Fatal(err)
	}
	jobs := waitForJobs(t, pool, orders)
	p.stop(t)
	want := make([]string, orders)
	for i := range want {
		want[i] = strconv.Quote("order-" + strconv.Itoa(i))
	}
	if !slices.Equal(jobs, want) {
		t.Errorf("there are %d jobs for %d orders: %q", len(jobs), orders, jobs)
	}
}

// A shop is a database that orders are written to.
type shop struct {
	uri    string
	orders *mongo.Collection
}

func newShop(t *testing.T) shop {
	t.Helper()
	server := mongod.OwnForTest(t, mongod.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return shop{server.URI(), client.Database("shop").Collection("orders")}
}

// write writes orders, one by one.
func (s shop) write(ctx context.Context, from, to int) error {
	for i := from; i < to; i++ {
		if _, err := s.orders.InsertOne(ctx, bson.D{{Key: "_id", Value: "order-" + strconv.Itoa(i)}}); err != nil {
			return err
		}
	}
	return nil
}

// waitForJobs waits until there are n jobs, and returns the orders of all there are.
func waitForJobs(t *testing.T, pool *pgxpool.Pool, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		rows, err := pool.Query(t.Context(), "SELECT args->>'order' FROM river_job ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) >= n {
			return jobs
		}
		if time.Now().After(deadline) {
			t.Fatalf("there are %d jobs after a minute, want %d", len(jobs), n)
		}
	}
}
