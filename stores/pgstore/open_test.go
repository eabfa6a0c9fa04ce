package pgstore_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// A store that can't be opened says why, in one sentence without the password.
func TestRefusedAtOpening(t *testing.T) {
	server, err := url.Parse(pgserver.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	p := pool(t, server.String())
	exec := func(sql string) { t.Helper(); exec(t, p, sql) }
	exec("create role reader login")
	exec("create role writer login")
	exec("create table other (key int, record json)")
	exec("create table readable (key text primary key, record json not null)")
	exec("grant select, insert on readable to writer")
	exec("create database latin encoding 'LATIN1' template template0 locale 'C'")
	own := server.Path[1:]
	at := func(user, database, query string) string {
		u := *server
		u.User, u.Path = url.UserPassword(user, "s3cret"), "/"+database
		u.RawQuery += query
		return u.String()
	}
	for name, c := range map[string]struct {
		url  string
		want error
		says []string
	}{
		"not a URL":        {"postgres://u:s3cret@[::1", state.ErrInvalid, []string{"the URL can't be read"}},
		"another scheme":   {"redis://u:s3cret@h", state.ErrInvalid, []string{"postgres://USER"}},
		"bad port":         {"postgres://u:s3cret@h:x/d", state.ErrInvalid, []string{"the URL can't be read"}},
		"bad sslmode":      {"postgres://u:s3cret@h/d?sslmode=perhaps", state.ErrInvalid, []string{"sslmode"}},
		"bad option":       {at("postgres", own, "&call-timeout=never"), state.ErrInvalid, []string{"call-timeout"}},
		"bad table":        {at("postgres", own, "&table=a."), state.ErrInvalid, []string{"Table"}},
		"no database":      {at("postgres", "nowhere", ""), state.ErrRefused, []string{`"nowhere" does not exist`}},
		"no TLS either":    {strings.Replace(at("postgres", "nowhere", ""), "sslmode=disable", "sslmode=prefer", 1), state.ErrRefused, []string{`: database "nowhere" does not exist`}},
		"no user":          {at("nobody", own, ""), state.ErrRefused, []string{`"nobody" does not exist`}},
		"may not create":   {at("reader", own, ""), state.ErrRefused, []string{`CREATE TABLE "rigatoni_checkpoints" (key`, "GRANT SELECT, INSERT, UPDATE, DELETE ON"}},
		"no schema":        {at("postgres", own, "&table=nowhere.t"), state.ErrRefused, []string{`"nowhere" does not exist`}},
		"missing rights":   {at("writer", own, "&table=readable"), state.ErrRefused, []string{"GRANT UPDATE, DELETE ON"}},
		"another table":    {at("postgres", own, "&table=other"), state.ErrRefused, []string{"is another one"}},
		"another encoding": {at("postgres", "latin", ""), state.ErrRefused, []string{"LATIN1", "UTF8"}},
		"nobody there":     {"postgres://u:s3cret@127.0.0.1:1/d", state.ErrUnavailable, []string{"127.0.0.1:1"}},
	} {
		_, err := pgstore.Open(t.Context(), c.url, nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: the message does not say %q: %v", name, text, err)
			}
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the message has the password: %v", name, err)
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: the message lists what was tried: %v", name, err)
		}
	}
}

// Several processes that open a new store at once all succeed.
// A server that is away is named in one line, once.
func TestUnreachableInOneLine(t *testing.T) {
	_, err := pgstore.Open(t.Context(), "postgres://bob:s3cret@127.0.0.1:1/db", nil)
	if !errors.Is(err, state.ErrUnavailable) || strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "127.0.0.1:1: connection refused") != 1 {
		t.Errorf("%v", err)
	}
}

func TestTableIsMadeOnce(t *testing.T) {
	server := pgserver.Database(t)
	for round := range 5 {
		o := pgstore.Options{Table: fmt.Sprintf("t%d", round), CallTimeout: time.Minute}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				store, err := pgstore.Open(t.Context(), server, &o)
				if err != nil {
					t.Error(err)
					return
				}
				store.Close()
			})
		}
		wg.Wait()
	}
}

// A standby is refused at opening; of several hosts the one that accepts writes is used.
func TestStandby(t *testing.T) {
	primary := pgserver.Start(t, &pgserver.Options{Config: []string{"fsync=off"}})
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.Close() })
	_, err = pgstore.Open(t.Context(), standby.URL(), &pgstore.Options{CallTimeout: time.Minute})
	if !errors.Is(err, state.ErrUnavailable) || !strings.Contains(err.Error(), "standby") {
		t.Errorf("opening a standby: %v", err)
	}
	both := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable", standby.Port, primary.Port)
	store, err := pgstore.Open(t.Context(), both, &pgstore.Options{CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Save(t.Context(), "k", sample(t, 1)); err != nil {
		t.Fatal(err)
	}
	// The standby takes over: the store finds it.
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		err := store.Save(t.Context(), "k", sample(t, 2))
		if err == nil {
			break
		}
		if !errors.Is(err, state.ErrUnavailable) || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// With NoCreate a missing table stays missing, and what would refuse it is found.
func TestNoCreate(t *testing.T) {
	at := pgserver.Database(t)
	p := pool(t, at)
	if _, err := pgstore.Open(t.Context(), at, &pgstore.Options{NoCreate: true}); !errors.Is(err, pgstore.ErrNoTable) {
		t.Errorf("got %v", err)
	}
	var exists bool
	if err := p.QueryRow(t.Context(), "select to_regclass('rigatoni_checkpoints') is not null").Scan(&exists); err != nil || exists {
		t.Errorf("afterwards it exists: %v, %v", exists, err)
	}
	exec(t, p, "create role visitor login")
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("visitor")
	if _, err := pgstore.Open(t.Context(), u.String(), &pgstore.Options{NoCreate: true}); !errors.Is(err, state.ErrRefused) {
		t.Errorf("of a user who may not create it: %v", err)
	}
	s, err := pgstore.Open(t.Context(), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Close(s); err != nil {
		t.Error(err)
	}
	if s, err = pgstore.Open(t.Context(), at, &pgstore.Options{NoCreate: true}); err != nil {
		t.Fatalf("with the table: %v", err)
	}
	if err := state.Close(s); err != nil {
		t.Error(err)
	}
}
