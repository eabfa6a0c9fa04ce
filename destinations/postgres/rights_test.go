package postgres_test

import (
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
)

// Inspect names each right by the table or the schema that it is on, and the tables that
// a start makes; and what it says is what a start finds.
func TestInspect(t *testing.T) {
	url := pgserver.Database(t)
	admin := newPool(t, url, nil)
	user := admin.Config().ConnConfig.Database + "_user" // roles are the server's, databases the test's
	exec(t, admin, "CREATE ROLE "+user+" LOGIN")
	d, err := postgres.New(newPool(t, strings.Replace(url, "postgres@", user+"@", 1), nil), &postgres.Options{NoCreate: true})
	if err != nil {
		t.Fatal(err)
	}
	scope := &rigatoni.Scope{Database: "shop", Collections: []string{"orders", "log_*"}, FullDocument: "updateLookup"}
	inspect := func() postgres.Report {
		t.Helper()
		r, err := d.Inspect(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		if r.User != user {
			t.Errorf("the user is %q", r.User)
		}
		return r
	}
	want := func(r postgres.Report, missing int, rights ...postgres.Right) {
		t.Helper()
		if len(r.Missing) != missing || len(r.Rights) != len(rights) {
			t.Fatalf("got %+v, want %d tables that are missing and %+v", r, missing, rights)
		}
		for i, right := range rights {
			if r.Rights[i] != right {
				t.Errorf("got %+v, want %+v", r.Rights[i], right)
			}
		}
	}
	const create, forTables = `CREATE on the schema "public"`, "making the tables that are missing"
	want(inspect(), 3, postgres.Right{Name: create, For: forTables})
	exec(t, admin, "GRANT CREATE ON SCHEMA public TO "+user)
	want(inspect(), 3, postgres.Right{Name: create, For: forTables, Granted: true})

	exec(t, admin, d.Schema(rigatoni.Namespace{DB: "shop", Coll: "orders"})+"; GRANT SELECT, INSERT ON orders TO "+user)
	want(inspect(), 2, postgres.Right{Name: create, For: forTables, Granted: true},
		postgres.Right{Name: `UPDATE, DELETE on "public"."orders"`, For: "the mirror of shop.orders"})
	exec(t, admin, "GRANT UPDATE, DELETE ON orders TO "+user)
	want(inspect(), 2, postgres.Right{Name: create, For: forTables, Granted: true},
		postgres.Right{Name: `SELECT, INSERT, UPDATE, DELETE on "public"."orders"`, For: "the mirror of shop.orders", Granted: true})
}
