package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// What somebody does to a table, a schema or a right while the pipeline runs is no
// event's fault: the first attempt ends the pipeline with what is wrong and where, and
// no event is refused for it.
func TestTableAtFault(t *testing.T) {
	o := newLimited(t)
	for sql, text := range map[string]string{
		"drop table shop.orders":                        `"shop"."orders", the MODE of shop.orders, was there before and is gone`,
		"alter table shop.orders rename to o":           `"shop"."orders", the MODE of shop.orders, was there before and is gone`,
		"drop schema shop cascade":                      `"shop"."orders", the MODE of shop.orders, was there before and is gone`,
		"alter schema shop rename to shop2":             `"shop"."orders", the MODE of shop.orders, was there before and is gone`,
		"alter table shop.orders drop column op":        `"shop"."orders" can't be the MODE of a collection: it has no column op`,
		"alter table shop.orders rename column op to o": "it has no column op",
		"alter table shop.orders add tenant int not null default 1; alter table shop.orders alter tenant drop default": `its column "tenant" is NOT NULL and has no default`,
		"alter table shop.orders alter version type bigint using 1":                                                    "its column version is of type bigint and not bytea",
		"update shop.orders set op = ''; alter table shop.orders alter op type varchar(3)":                             "its column op is of type character varying(3) and not text",
		"alter table shop.orders rename to o; create view shop.orders as select distinct * from shop.o":                `"shop"."orders" is a view, and not a table`,
		"alter table shop.orders rename to o; create materialized view shop.orders as select * from shop.o":            `"shop"."orders" is a materialized view`,
		"revoke insert on shop.orders from ROLE":                                                                       `GRANT INSERT ON "shop"."orders" TO the user`,
		"revoke usage on schema shop from ROLE":                                                                        `GRANT USAGE ON SCHEMA "shop" TO the user`,
	} {
		for _, mode := range []string{postgres.Mirror, postgres.Log} {
			o.begin(postgres.Options{Mode: mode, Table: "{database}.{collection}"})
			o.must(insertDoc(1))
			o.exec(sql)
			wantClosed(t, o.deliver(insertDoc(2), insertDoc(3)), strings.ReplaceAll(text, "MODE", mode))
			if t.Failed() {
				t.Fatalf("%s, %s", mode, sql)
			}
			o.exec("drop schema if exists shop cascade; drop schema if exists shop2 cascade; delete from rigatoni_tables")
		}
	}
}

// Nor is it an event's fault what somebody does to the table of the checkpoints.
func TestCheckpointsAtFault(t *testing.T) {
	o := newLimited(t)
	o.begin(postgres.Options{})
	o.must(insertDoc(1))
	o.exec("revoke update on rigatoni_checkpoints from ROLE")
	wantClosed(t, o.deliver(insertDoc(2)), "permission denied for table rigatoni_checkpoints")
	o.exec("drop table rigatoni_checkpoints")
	wantClosed(t, o.deliver(insertDoc(2)), "the table of the checkpoints has disappeared")
}

// A collection that turns up while the pipeline runs, and can't have a table, is no
// event's fault either.
func TestNewTableAtFault(t *testing.T) {
	o := newLimited(t)
	for _, c := range []struct{ sql, text string }{
		{"create table public.users (id int)", "can't be the mirror of a collection: it has no column _id"},
		{"drop table public.users; revoke create on schema public from ROLE", "can't be created (permission denied for schema public); have somebody who may execute"},
		{"revoke select, insert on rigatoni_tables from ROLE", "permission denied for table rigatoni_tables"},
		{"drop table rigatoni_tables", "start again, which makes it"},
	} {
		if o.owner == nil {
			o.begin(postgres.Options{})
		}
		o.must(insertDoc(1))
		o.exec(c.sql)
		wantClosed(t, o.deliver(insertDoc(2), rigatonitest.Insert("shop.users", bson.D{e("_id", 1)})), c.text)
		o.must(insertDoc(2)) // a table that is known goes on
	}
}

// The rows that are deleted after a copy, or a drop, have a table as well.
func TestSweptTableAtFault(t *testing.T) {
	o := newOwner(t, postgres.Options{OnDrop: postgres.Truncate})
	o.must(insertDoc(1))
	exec(t, o.pool, "drop table orders")
	wantClosed(t, o.deliver(rigatonitest.Drop("shop.orders")), "was there before and is gone")
	end := rigatoni.SnapshotEnd{Namespace: rigatoni.Namespace{DB: "shop", Coll: "orders"}}
	wantClosed(t, o.sink.(rigatoni.Sweeper).Sweep(t.Context(), end), "was there before and is gone")
}

// An outage is one line in the log for each attempt that is logged, with the host and the
// reason, and without user and database.
func TestOutageInOneLine(t *testing.T) {
	server := pgserver.Start(t, nil)
	url := strings.Replace(server.URL(), "sslmode=disable", "sslmode=prefer", 1)
	o := ownerOf(t, newPool(t, url, nil), "shop", postgres.Options{})
	o.must(insertDoc(1))
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; { // the first attempts find connections that are lost
		err := o.deliver(insertDoc(2))
		if err == nil || strings.ContainsAny(err.Error(), "\n\t`") || errors.As(err, new(*rigatoni.PermanentError)) {
			t.Fatalf("got %v", err)
		}
		if want := fmt.Sprintf("postgres: failed to connect to 127.0.0.1:%d: connection refused", server.Port); err.Error() == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v", err)
		}
	}
	if err := o.open(nil); err == nil || strings.ContainsAny(err.Error(), "\n\t`") {
		t.Errorf("opening: %v", err)
	}
}

// wantClosed fails the test unless an error ends a pipeline, with a text in one line.
func wantClosed(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.Is(err, rigatoni.ErrDestinationClosed) || !errors.Is(err, state.ErrRefused) || !strings.Contains(fmt.Sprint(err), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one that ends the pipeline with %q", err, text)
	}
}

// A limited owner is one whose database somebody else administers: its user has every
// right there that it needs, and owns nothing.
type limited struct {
	*owner
	t     *testing.T
	url   string
	role  string
	admin *pgxpool.Pool
}

func newLimited(t *testing.T) *limited {
	t.Helper()
	url := pgserver.Database(t)
	admin := newPool(t, url, nil)
	role := admin.Config().ConnConfig.Database + "_user" // roles are the server's, databases the test's
	l := &limited{t: t, role: role, admin: admin, url: strings.Replace(url, "postgres@", role+"@", 1)}
	l.exec("create role ROLE login; grant create on schema public to ROLE; " +
		"create table rigatoni_checkpoints (key text collate \"C\" primary key, record json not null)")
	return l
}

func (l *limited) exec(sql string) {
	l.t.Helper()
	exec(l.t, l.admin, strings.ReplaceAll(sql, "ROLE", l.role))
}

// begin plays another pipeline, whose tables are there.
func (l *limited) begin(opts postgres.Options) {
	l.t.Helper()
	full, err := postgres.New(l.admin, &opts)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := full.Open(l.t.Context(), rigatoni.Opening{Key: "shop"}); err != nil { // makes rigatoni_tables
		l.t.Fatal(err)
	}
	l.exec("create schema if not exists shop; " + full.Schema(rigatoni.Namespace{DB: "shop", Coll: "orders"}) +
		"; grant usage on schema shop to ROLE; grant select, insert, update, delete on all tables in schema public, shop to ROLE")
	l.owner = ownerOf(l.t, newPool(l.t, l.url, nil), "shop", opts)
}
