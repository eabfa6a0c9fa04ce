package pgstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

func TestMain(m *testing.M) { os.Exit(pgserver.Main(m)) }

// pool is a plain way to the data, beside the store's.
func pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func exec(t testing.TB, p *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := p.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestStore(t *testing.T) {
	s := pgserver.Start(t, &pgserver.Options{Config: []string{"max_connections=400", "fsync=off"}})
	p := pool(t, s.URL())
	var run, damage atomic.Int64
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		o := pgstore.Options{Table: fmt.Sprintf("public.Checkpoints of %d", run.Add(1)), CallTimeout: 30 * time.Second}
		table := pgx.Identifier(strings.SplitN(o.Table, ".", 2)).Sanitize()
		set := func(ctx context.Context, key, expression string) error {
			_, err := p.Exec(ctx, "update "+table+" set record = ("+expression+")::json where key = $1", pgstore.StoredKey(key))
			return err
		}
		return statetest.Harness{
			Open: func(ctx context.Context) (state.Store, error) { return pgstore.Open(ctx, s.URL(), &o) },
			Damage: func(ctx context.Context, key string) error {
				damages := []string{"'{}'", "'[1]'", "'null'", `replace(record::text, '"token":', '"token":7,"was":')`, `regexp_replace(record::text, '}$', ',"epoch":"x"}')`}
				return set(ctx, key, damages[int(damage.Add(1)-1)%len(damages)])
			},
			Newer: func(ctx context.Context, key string) error {
				return set(ctx, key, `replace(record::text, '{"version":1', '{"version":2')`)
			},
			ExpireLease: func(ctx context.Context, key string) error {
				return set(ctx, key, `regexp_replace(record::text, '"leaseUntil":"[^"]*"', '"leaseUntil":"2001-01-01T00:00:00Z"')`)
			},
			Break:   func(context.Context) error { return s.Kill() },
			Restore: func(ctx context.Context) error { return s.Restart(ctx) },
			Stored: func(ctx context.Context) (n int, err error) {
				err = p.QueryRow(ctx, "select count(*) from "+table).Scan(&n)
				return n, err
			},
		}
	})
}
