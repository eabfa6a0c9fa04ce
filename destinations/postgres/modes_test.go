package postgres_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
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
)

// perKey is a destination whose tables are of the checkpoint key alone, as the cases of
// destinationtest have it: they share a collection, and not a table.
type perKey struct {
	*postgres.Destination
	pool *pgxpool.Pool
	opts postgres.Options
}

func schemaOf(key string) string { return fmt.Sprintf("k%x", sha256.Sum256([]byte(key)))[:20] }

func newPerKey(pool *pgxpool.Pool, o postgres.Options) (perKey, error) {
	o.Logger = slog.New(slog.DiscardHandler)
	d, err := postgres.New(pool, &o)
	return perKey{d, pool, o}, err
}

func (d perKey) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	opts := d.opts
	opts.Table = schemaOf(o.Key) + ".{collection}"
	own, err := postgres.New(d.pool, &opts)
	if err != nil {
		return nil, err
	}
	return own.Open(ctx, o)
}

func testMode(t *testing.T, o postgres.Options, query string) {
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		url := pgserver.Database(t)
		pool := newPool(t, url, nil)
		steady, hasty := o, o
		steady.CallTimeout, hasty.CallTimeout = 20*time.Second, time.Second
		h := destinationtest.Harness{
			Mirror: o.Mode != postgres.Log,
			Open:   func(context.Context) (rigatoni.Destination, error) { return newPerKey(pool, steady) },
			OpenFaulty: func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
				f := &faults{Fault: fault}
				d, err := newPerKey(newPool(t, url, f), hasty)
				return d, f.reached, err
			},
			Read: readTable(pool, query),
			Refused: func(id int32) rigatoni.Event {
				return rigatonitest.With(rigatonitest.Insert("destinationtest.items", bson.D{{Key: "_id", Value: id}}), "fullDocument", nil)
			},
		}
		if h.Mirror && os.Getenv("RIGATONI_CAMPAIGN") != "full" {
			h.OpenFaulty = nil // the transactions are those of the log, which shows what is there twice
		}
		return h
	})
}

// readTable reads the rows of a key.
func readTable(pool *pgxpool.Pool, query string) func(context.Context, string) ([]destinationtest.Record, error) {
	return func(ctx context.Context, key string) ([]destinationtest.Record, error) {
		table := pgx.Identifier{schemaOf(key), "items"}.Sanitize()
		var exists bool
		if err := pool.QueryRow(ctx, "select to_regclass($1) is not null", table).Scan(&exists); err != nil || !exists {
			return nil, err
		}
		rows, err := pool.Query(ctx, fmt.Sprintf(query, table))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByPos[destinationtest.Record])
	}
}

const (
	mirrorQuery = "select _id::int, (doc->>'n')::int from %s"
	logQuery    = "select _id::int, coalesce((doc->>'n')::int, 0) from %s order by seq"
)

func TestMirror(t *testing.T) {
	t.Parallel()
	testMode(t, postgres.Options{}, mirrorQuery)
}

func TestMirrorSoftDelete(t *testing.T) {
	t.Parallel()
	testMode(t, postgres.Options{SoftDelete: true}, mirrorQuery+" where op <> 'delete'")
}

func TestLog(t *testing.T) {
	t.Parallel()
	testMode(t, postgres.Options{Mode: postgres.Log}, logQuery)
}
