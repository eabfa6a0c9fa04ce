package pgstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// What pgx lists over several lines, with user and database, is a sentence with hosts and
// reasons; and the same error underneath.
func TestOneLine(t *testing.T) {
	server := pgserver.Database(t)
	for url, want := range map[string]string{
		"postgres://bob:s3cret@127.0.0.1:1/shop":                                    "failed to connect to 127.0.0.1:1: connection refused",
		"postgres://bob:s3cret@localhost:1/shop":                                    "failed to connect to localhost (127.0.0.1:1): connection refused",
		"postgres://bob:s3cret@127.0.0.1:1,127.0.0.1:2/shop":                        "failed to connect to 127.0.0.1:1: connection refused; 127.0.0.1:2: connection refused",
		"postgres:///shop?host=/no/such/directory":                                  "failed to connect to /no/such/directory/.s.PGSQL.5432: no such file or directory",
		strings.Replace(server, "sslmode=disable", "sslmode=prefer&user=nobody", 1): `: role "nobody" does not exist (SQLSTATE 28000)`,
		strings.Replace(server, "postgres@", "nobody@", 1):                          `: role "nobody" does not exist (SQLSTATE 28000)`,
		"postgres://bob:s3cret@no-such-host.invalid:1/shop":                         "failed to connect to ",
	} {
		_, err := pgconn.Connect(t.Context(), url)
		got := pgstore.OneLine(err)
		if got == nil || !strings.Contains(got.Error(), want) || strings.ContainsAny(got.Error(), "\n\t`") ||
			strings.Contains(got.Error(), "bob") || strings.Contains(got.Error(), "s3cret") {
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
		if !errors.As(got, new(*pgconn.ConnectError)) {
			t.Errorf("%s: the cause is lost in %v", url, got)
		}
	}
	if pgstore.OneLine(nil) != nil {
		t.Error("nil is an error")
	}
}

// A statement's error and an answer that doesn't come are in one line as well.
func TestOneLineOfStatements(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), pgserver.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "do $$ begin raise exception E'one\ntwo'; end $$")
	if got := pgstore.OneLine(err).Error(); got != "ERROR: one; two (SQLSTATE P0001)" {
		t.Errorf("got %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = pool.Exec(ctx, "select pg_sleep(60)")
	if got := pgstore.OneLine(err); strings.Contains(got.Error(), "\n") || !errors.Is(got, context.DeadlineExceeded) {
		t.Errorf("got %v", got)
	}
}
