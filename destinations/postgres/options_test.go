package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// A URL or an option that is wrong is refused in one sentence that names it, and quotes
// no password.
func TestCheckURL(t *testing.T) {
	for url, text := range map[string]string{
		"mysql://h/db":                                                     "can't be read",
		"postgres://u:hunter2@h:p/db":                                      "can't be read",
		"postgres://u:hunter2@h/db?%zz":                                    "parameters can't be read",
		"postgres://u:hunter2@h/db?mode=copy":                              `mode is "copy"; it must be mirror or log`,
		"postgres://u:hunter2@h/db?mode=log&mode=log":                      "mode 2 times",
		"postgres://u:hunter2@h/db?format=canonical":                       "simplified or relaxed",
		"postgres://u:hunter2@h/db?table=":                                 "is empty",
		"postgres://u:hunter2@h/db?table=.{collection}":                    "empty name",
		"postgres://u:hunter2@h/db?table=public.{coll}":                    "has {coll}; there are {collection} and {database}",
		"postgres://u:hunter2@h/db?table=public.{collection":               "a brace by itself",
		"postgres://u:hunter2@h/db?mode=log&soft-delete=true":              "Options.SoftDelete is for a mirror",
		"postgres://u:hunter2@h/db?mode=log&on-drop=truncate":              "Options.OnDrop is truncate, and a log keeps all its rows",
		"postgres://u:hunter2@h/db?on-drop=keep":                           "stop, ignore or truncate",
		"postgres://u:hunter2@h/db?on-nul=ignore":                          "replace or stop",
		"postgres://u:hunter2@h/db?call-timeout=0.1us":                     "call-timeout",
		"postgres://u:hunter2@h/db?checkpoints=" + strings.Repeat("x", 64): "at most 63 bytes",
		"postgres://u:hunter2@h/db?checkpoints=etl.rigatoni_tables":        "the table beside it that records",
		"postgres://u:hunter2@h/db?sslmode=sometimes":                      "can't be read",
	} {
		err := postgres.CheckURL(url, nil)
		if !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", url, err, text)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{
		"postgres://h/db", "postgresql://u:p%40@h1,h2:5433/db?sslmode=require&pool_max_conns=7&mode=log&format=relaxed",
		"postgres://h/db?table={database}.x_{collection}&on-drop=truncate&soft-delete=true&on-nul=stop&checkpoints=etl.cp&call-timeout=1m",
	} {
		if err := postgres.CheckURL(url, nil); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := postgres.New(nil, &postgres.Options{Format: 7}); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("a format that doesn't exist: %v", err)
	}
}

// Open connects, and creates the table of the checkpoints unless it is not to.
func TestOpen(t *testing.T) {
	url := pgserver.Database(t)
	d, err := postgres.Open(t.Context(), url+"&checkpoints=cp", &postgres.Options{NoCreate: true})
	if !errors.Is(err, pgstore.ErrNoTable) {
		t.Fatalf("without its table: %v", err)
	}
	if err := d.CheckOpening(t.Context(), rigatoni.Opening{Key: "k", FirstStart: true}); err != nil {
		t.Errorf("a look at an empty database: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	pool := newPool(t, url, nil)
	var tables int
	if err := pool.QueryRow(t.Context(), "select count(*) from pg_class where relnamespace = 'public'::regnamespace").Scan(&tables); err != nil || tables != 0 {
		t.Errorf("looking has made %d tables, %v", tables, err)
	}
	d, err = postgres.Open(t.Context(), url+"&checkpoints=cp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := pool.Exec(t.Context(), "select from cp"); err != nil {
		t.Error(err)
	}
	if _, err := d.Checkpoints().Load(t.Context(), "k"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the checkpoints: %v", err)
	}
	if _, err := postgres.Open(t.Context(), strings.Replace(url, "/test", "/missing", 1), nil); !errors.Is(err, state.ErrRefused) {
		t.Errorf("a database that doesn't exist: %v", err)
	}
	if _, err := postgres.Open(t.Context(), "postgres://127.0.0.1:1/db?connect_timeout=1", &postgres.Options{CallTimeout: 2 * time.Second}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
}
