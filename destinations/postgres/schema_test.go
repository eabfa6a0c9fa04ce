package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

const (
	mirrorColumns = `_id text primary key, doc jsonb, op text not null, cluster_time timestamptz not null, version bytea not null`
	logColumns    = `seq bigint generated always as identity, _id text, doc jsonb, op text, cluster_time timestamptz, version bytea`
)

// A table that is there already is used if rows can be written to it, and otherwise
// refused with what is wrong.
func TestExistingTables(t *testing.T) {
	mirrors := map[string]string{ // by the statements that make them
		"create table orders (" + mirrorColumns + ")":                                                                                                                                                                                      "",
		"create table orders (_id varchar primary key, doc jsonb, op varchar, cluster_time timestamptz, version bytea)":                                                                                                                    "",
		"create table orders (" + mirrorColumns + ", note text, seen timestamptz not null default now(), n int generated always as (length(_id)) stored)":                                                                                  "",
		"create table orders (" + mirrorColumns + ") partition by hash (_id); create table p0 partition of orders for values with (modulus 1, remainder 0)":                                                                                "",
		"create table orders (_id text collate \"en-x-icu\" primary key, doc jsonb, op text, cluster_time timestamptz, version bytea)":                                                                                                     "",
		"create table orders (doc jsonb, version bytea, id uuid primary key default gen_random_uuid(), _id text unique, op text, cluster_time timestamptz)":                                                                                "",
		"create table orders (" + mirrorColumns + "); create function f() returns trigger as 'begin new.op = upper(new.op); return new; end' language plpgsql; create trigger t before insert on orders for each row execute function f()": "",

		"create view orders as select ''::text as _id":                                                                                                     `"public"."orders" is a view, and not a table`,
		"create materialized view orders as select ''::text as _id":                                                                                        "is a materialized view",
		"create sequence orders":                                                                                                                           "is a sequence",
		"create unlogged table orders (" + mirrorColumns + ")":                                                                                             "UNLOGGED",
		"create table orders (_id text primary key, doc jsonb)":                                                                                            "it has no column op, it has no column cluster_time, it has no column version",
		"create table orders (_id int primary key, doc jsonb, op text, cluster_time timestamptz, version bytea)":                                           "its column _id is of type integer and not text",
		"create table orders (_id text primary key, doc json, op text, cluster_time timestamptz, version bytea)":                                           "its column doc is of type json and not jsonb",
		"create table orders (_id varchar(10) primary key, doc jsonb, op text, cluster_time timestamp, version text)":                                      "its column cluster_time is of type timestamp without time zone",
		"create table orders (" + mirrorColumns + ", tenant int not null)":                                                                                 `its column "tenant" is NOT NULL and has no default`,
		"create table orders (_id text, doc jsonb, op text, cluster_time timestamptz, version bytea)":                                                      "no primary key or unique index",
		"create table orders (_id text, n int default 0, doc jsonb, op text, cluster_time timestamptz, version bytea, primary key (_id, n))":               "no primary key or unique index",
		"create table orders (_id text unique deferrable, doc jsonb, op text, cluster_time timestamptz, version bytea)":                                    "neither partial nor deferrable",
		"create table orders (_id text, doc jsonb, op text, cluster_time timestamptz, version bytea); create unique index on orders (_id) where op <> 'x'": "neither partial nor deferrable",
		"create table orders (_id text primary key, doc jsonb, op text generated always as ('x') stored, cluster_time timestamptz, version bytea)":         "its column op is generated",
		"create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); create table orders (_id text collate ci primary key, doc jsonb, op text, cluster_time timestamptz, version bytea)": "takes different texts for equal",
	}
	for sql, text := range mirrors {
		testExisting(t, postgres.Options{}, sql, text)
	}
	testExisting(t, postgres.Options{}, "create table orders (_id text primary key, doc jsonb not null, op text, cluster_time timestamptz, version bytea)", "")
	testExisting(t, postgres.Options{SoftDelete: true}, "create table orders (_id text primary key, doc jsonb not null, op text, cluster_time timestamptz, version bytea)", "doc is NOT NULL")
	for sql, text := range map[string]string{
		"create table orders (" + logColumns + ")": "",
		"create table orders (" + logColumns + ", day date default current_date) partition by list (op); create table p0 partition of orders default": "",
		"create table orders (" + mirrorColumns + ")":                                                      "it has no column seq",
		"create table orders (" + strings.Replace(logColumns, "generated always as identity", "", 1) + ")": "its column seq has no default and is no identity",
		"create table orders (" + strings.Replace(logColumns, "doc jsonb", "doc jsonb not null", 1) + ")":  "doc is NOT NULL",
	} {
		testExisting(t, postgres.Options{Mode: postgres.Log}, sql, text)
	}
}

func testExisting(t *testing.T, opts postgres.Options, sql, text string) {
	t.Helper()
	o := newOwner(t, opts)
	exec(t, o.pool, sql)
	err := o.deliver(insertDoc(1, e("n", 1)))
	switch {
	case text == "" && err != nil:
		t.Errorf("%s: %v", sql, err)
	case text == "":
		o.must(rigatonitest.Replace(orders, bson.D{e("_id", 1), e("n", 2)}))
		o.want(`select doc->>'n' from orders order by version desc limit 1`, "2")
		o.must(rigatonitest.Delete(orders, 1))
	case err == nil:
		t.Errorf("%s: it is accepted, and should be refused with %q", sql, text)
	default:
		if !errors.Is(err, state.ErrRefused) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", sql, err)
		}
		wantRefused(t, err, text)
	}
}

// A table that somebody drops isn't made again without its rows, until they are given up.
func TestDroppedTable(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode})
		o.must(insertDoc(1))
		exec(t, o.pool, "drop table orders")
		o.refused("was there before and is gone", insertDoc(3))
		err := o.open(nil)
		wantRefused(t, err, "DELETE FROM rigatoni_tables WHERE schema_name = 'public' AND table_name = 'orders'")
		exec(t, o.pool, "DELETE FROM rigatoni_tables WHERE schema_name = 'public' AND table_name = 'orders'")
		if err := o.open(nil); err != nil {
			t.Fatal(err)
		}
		o.must(insertDoc(3))
		o.want("select _id from orders", "3")
	}
}

// A table belongs to one collection of one checkpoint.
func TestSharedTables(t *testing.T) {
	o := newOwner(t, postgres.Options{})
	o.must(insertDoc(1))
	o.refused(`"shop.orders" (a mirror of the pipeline "shop")`, rigatonitest.Insert("other.orders", bson.D{e("_id", 1)}))
	second := ownerOf(t, o.pool, "second", postgres.Options{})
	second.refused(`the pipeline "shop"`, insertDoc(1))
	log := ownerOf(t, o.pool, "log", postgres.Options{Mode: postgres.Log})
	log.refused(`a mirror of the pipeline "shop"`, insertDoc(1))
	o.want("select op from orders", "insert")
	for pattern, scope := range map[string]rigatoni.Scope{
		"{collection}": {Database: "shop_*"}, "public.{collection}": {}, "public.all": {Database: "shop"},
		"public.both": {Database: "shop", Collections: []string{"a", "b"}}, "public.some": {Database: "shop", Collections: []string{"a*"}},
	} {
		d := ownerOf(t, o.pool, "pattern", postgres.Options{Table: pattern})
		err := d.open(func(op *rigatoni.Opening) { op.Scope = &scope })
		if !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s for %+v: %v", pattern, scope, err)
		}
	}
	one := ownerOf(t, o.pool, "one", postgres.Options{Table: "public.alone"})
	if err := one.open(func(op *rigatoni.Opening) {
		op.Scope = &rigatoni.Scope{Database: "shop", Collections: []string{"orders"}}
	}); err != nil {
		t.Fatal(err)
	}
	one.must(insertDoc(1))
	one.want("select _id from alone", "1")
}

// Collections that the source names have their tables when the pipeline starts, and are
// refused there.
func TestTablesAtOpening(t *testing.T) {
	o := newOwner(t, postgres.Options{})
	scope := &rigatoni.Scope{Database: "shop", Collections: []string{"log_*", "orders", "users"}}
	named := func(op *rigatoni.Opening) { op.Scope = scope }
	if err := o.d.CheckOpening(t.Context(), rigatoni.Opening{Key: o.key, Scope: scope}); err != nil {
		t.Fatal(err)
	}
	o.want("select relname::text from pg_class where relname in ('orders', 'users', 'rigatoni_tables')")
	if err := o.open(named); err != nil {
		t.Fatal(err)
	}
	o.want("select table_name from rigatoni_tables order by 1", "orders", "users")
	if n := o.log.count("table created"); n != 2 {
		t.Errorf("%d tables are logged", n)
	}
	exec(t, o.pool, "create view payments as select 1 as n")
	scope.Collections = append(scope.Collections, "payments")
	wantRefused(t, o.open(named), "is a view")
	wantRefused(t, o.d.CheckOpening(t.Context(), rigatoni.Opening{Key: o.key, Scope: scope}), "is a view")
}

// The options must fit the tables that there are: rows are not left behind unnoticed.
func TestChangedOptions(t *testing.T) {
	o := newOwner(t, postgres.Options{})
	o.must(insertDoc(1))
	for _, opts := range []postgres.Options{{Table: "public.m_{collection}"}, {Mode: postgres.Log}, {Mode: postgres.Log, Table: "public.log_{collection}"}} {
		changed := ownerOf(t, o.pool, o.key, opts)
		wantRefused(t, changed.open(nil), `shop.orders is written to "public"."orders", a mirror, and by the options it would be`)
	}
}

// Where there are rows and no checkpoint, a first start is refused.
func TestFirstStart(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode})
		first := func(op *rigatoni.Opening) { op.FirstStart = true }
		if err := o.open(first); err != nil {
			t.Fatal(err)
		}
		o.must(insertDoc(1))
		if err := o.open(first); !errors.Is(err, rigatoni.ErrOutputExists) || !strings.Contains(err.Error(), `"public"."orders"`) {
			t.Errorf("got %v", err)
		}
		if err := o.open(func(op *rigatoni.Opening) { op.FirstStart, op.AcceptAnyOutput = true, true }); err != nil {
			t.Error(err)
		}
		exec(t, o.pool, "truncate orders")
		if err := o.open(first); err != nil {
			t.Error(err)
		}
	}
}

// A user without rights sees the statements that somebody else has to execute; after
// them it works.
func TestMissingRights(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		url := pgserver.Database(t)
		admin := newPool(t, url, nil)
		role := fmt.Sprintf("limited_%s_%d", mode, admin.Config().ConnConfig.Port)
		exec(t, admin, "create role "+role+" login")
		limited := strings.Replace(url, "postgres@", role+"@", 1)
		_, err := postgres.Open(t.Context(), limited, &postgres.Options{Mode: mode})
		statement(t, admin, role, err)
		d, err := postgres.Open(t.Context(), limited, &postgres.Options{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		o := ownerOf(t, newPool(t, limited, nil), "shop", postgres.Options{Mode: mode})
		statement(t, admin, role, o.open(nil))
		statement(t, admin, role, o.deliver(insertDoc(1)))
		if err := o.deliver(insertDoc(1)); err != nil {
			t.Fatal(err)
		}
		schemas := ownerOf(t, newPool(t, limited, nil), "schemas", postgres.Options{Mode: mode, Table: "{database}.{collection}"})
		err = schemas.deliver(insertDoc(1))
		wantRefused(t, err, `CREATE SCHEMA "shop"; CREATE TABLE "shop"."orders" (`)
	}
}

// statement executes the statements of a refusal.
func statement(t *testing.T, admin *pgxpool.Pool, role string, err error) {
	t.Helper()
	if !errors.Is(err, state.ErrRefused) {
		t.Fatalf("got %v, want a refusal with a statement", err)
	}
	_, sql, ok := strings.Cut(err.Error(), "have somebody who may execute ")
	create, grant, okToo := strings.Cut(sql, "; and GRANT ")
	if !ok || !okToo {
		t.Fatalf("there are no statements in %v", err)
	}
	exec(t, admin, create)
	exec(t, admin, "GRANT "+strings.Replace(grant, "the user", role, 1))
}
