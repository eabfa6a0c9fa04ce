package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(benchEnv); args != "" {
		if err := beMeasured(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(pgserver.Main(m))
}

// newDatabase returns the URL of a database of the test's own, with the table rows.
func newDatabase(t *testing.T) string {
	t.Helper()
	url := pgserver.Database(t)
	exec(t, newPool(t, url, nil), "create table rows (seq bigint generated always as identity, key text, id int, n int check (n >= 0))")
	return url
}

func exec(t testing.TB, p *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := p.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func newPool(t testing.TB, url string, f *faults) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		config.ConnConfig.DialFunc = f.dial
	}
	p, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// faults is what goes wrong between a process and the server. Each packet that the
// process sends is a step.
type faults struct {
	destinationtest.Fault
	steps atomic.Int64
	dead  atomic.Bool
}

var errFault = errors.New("a fault of the test")

func (f *faults) reached() bool { return int(f.steps.Load()) > f.Step }

func (f *faults) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if f.dead.Load() {
		return nil, errFault
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, faults: f}, nil
}

type faultyConn struct {
	net.Conn
	faults *faults
	lost   atomic.Bool // the next answer is
}

func (c *faultyConn) Write(p []byte) (int, error) {
	f := c.faults
	if f.dead.Load() {
		c.Close()
		return 0, errFault
	}
	if int(f.steps.Add(1))-1 == f.Step {
		switch f.Kind {
		case destinationtest.Fail:
			c.Close()
			return 0, errFault
		case destinationtest.Crash:
			f.dead.Store(true)
			c.Close()
			return 0, errFault
		case destinationtest.LoseAnswer:
			c.lost.Store(true)
		case destinationtest.Freeze:
			<-f.Thaw
		}
	}
	return c.Conn.Write(p)
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p) // the server has done it when it answers
	if err == nil && (c.lost.Load() || c.faults.dead.Load()) {
		c.Close()
		return 0, errFault
	}
	return n, err
}

// insert writes a row for each event.
func insert(key string) postgres.TxFunc {
	return func(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch) error {
		for _, ev := range b.Events {
			id, n := ev.DocumentKey().Lookup("_id").Int32(), int32(0)
			if v, err := ev.FullDocument().LookupErr("n"); err == nil {
				n = v.Int32()
			}
			if n < 0 {
				return rigatoni.Permanent(errors.New("n is negative"))
			}
			if _, err := tx.Exec(ctx, "insert into rows (key, id, n) values ($1, $2, $3)", key, id, n); err != nil {
				return err
			}
		}
		return nil
	}
}

// keyed is a TxDestination whose function knows the key.
type keyed struct {
	*postgres.TxDestination
	pool *pgxpool.Pool
	opts postgres.TxOptions
}

func newKeyed(pool *pgxpool.Pool, timeout time.Duration) (keyed, error) {
	o := postgres.TxOptions{Checkpoints: pgstore.Options{CallTimeout: timeout}}
	d, err := postgres.OpenTx(pool, nil, &o)
	return keyed{d, pool, o}, err
}

func (d keyed) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	own, err := postgres.OpenTx(d.pool, insert(o.Key), &d.opts)
	if err != nil {
		return nil, err
	}
	return own.Open(ctx, o)
}

// read reads the rows of a key.
func read(pool *pgxpool.Pool) func(context.Context, string) ([]destinationtest.Record, error) {
	return func(ctx context.Context, key string) ([]destinationtest.Record, error) {
		rows, err := pool.Query(ctx, "select id, n from rows where key = $1 order by seq", key)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByPos[destinationtest.Record])
	}
}

func TestTx(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		url := newDatabase(t)
		pool := newPool(t, url, nil)
		return destinationtest.Harness{
			Forgets: true,
			Open:    func(context.Context) (rigatoni.Destination, error) { return newKeyed(pool, 20*time.Second) },
			OpenFaulty: func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
				f := &faults{Fault: fault}
				d, err := newKeyed(newPool(t, url, f), time.Second)
				return d, f.reached, err
			},
			Read: read(pool),
			Refused: func(id int32) rigatoni.Event {
				return rigatonitest.Insert("destinationtest.items", bson.D{{Key: "_id", Value: id}, {Key: "n", Value: int32(-1)}})
			},
		}
	})
}
