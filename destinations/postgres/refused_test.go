package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
)

// A row that the server refuses is the event's: the error is permanent, and the batch has
// left nothing.
func TestRefusedRows(t *testing.T) {
	for name, sql := range map[string]string{
		"a generated column": "alter table orders add k int generated always as ((doc->>'n')::int) stored",
		"a check":            "alter table orders add check (doc->>'n' <> 'wrong')",
		"a unique index":     "create unique index on orders ((doc->>'n'))",
		"a trigger":          "create function f() returns trigger as 'begin if new.doc->>''n'' = ''wrong'' then raise exception ''no''; end if; return new; end' language plpgsql; create trigger t before insert on orders for each row execute function f()",
		"a deferred trigger": "create function f() returns trigger as 'begin if new.doc->>''n'' = ''wrong'' then raise exception ''no''; end if; return new; end' language plpgsql; create constraint trigger t after insert on orders deferrable initially deferred for each row execute function f()",
		"a foreign key":      "create table kinds (n text primary key); insert into kinds values ('1'), ('2'); alter table orders add n text generated always as (doc->>'n') stored references kinds deferrable initially deferred",
		"an index entry":     "create index on orders ((doc->>'s'))",
	} {
		by := `"public"."orders" refuses a row: `
		if strings.Contains(sql, "deferred") {
			by = "COMMIT refuses a row: "
		}
		for _, mode := range []string{postgres.Mirror, postgres.Log} {
			o := newOwner(t, postgres.Options{Mode: mode})
			o.must(insertDoc(1, e("n", 1)))
			exec(t, o.pool, sql)
			random := make([]byte, 8000) // no index entry takes it, compressed or not
			for i := range random {
				random[i] = byte('a' + i*i*31%7919%26)
			}
			err := o.deliver(insertDoc(2, e("n", 2)), insertDoc(3, e("n", "wrong"), e("s", string(random)+fmt.Sprint(random[:2500]))), insertDoc(4, e("n", "wrong")))
			wantRefused(t, err, by)
			if t.Failed() {
				t.Fatalf("%s, %s", name, mode)
			}
			o.want("select _id from orders", "1")
			o.must(insertDoc(2, e("n", 2)))
			o.want("select _id from orders order by 1", "1", "2")
		}
	}
}

// What passes is no event's: the same batch succeeds later.
func TestPassingErrors(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode, CallTimeout: 300 * time.Millisecond})
		eventually := func(ev rigatoni.Event) { // on a busy machine the server may end a transaction for being idle
			t.Helper()
			for deadline := time.Now().Add(time.Minute); ; {
				err := o.deliver(ev)
				if err == nil {
					return
				}
				if errors.As(err, new(*rigatoni.PermanentError)) || time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
		}
		eventually(insertDoc(1))
		blocker, err := newPool(t, o.pool.Config().ConnString(), nil).Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, lock := range []string{"lock table orders", "select from rigatoni_checkpoints for update"} {
			if _, err := blocker.Exec(t.Context(), "begin; "+lock); err != nil {
				t.Fatal(err)
			}
			if err := o.deliver(insertDoc(2)); err == nil || errors.As(err, new(*rigatoni.PermanentError)) {
				t.Errorf("%s: got %v, want an error that isn't permanent", lock, err)
			}
			if _, err := blocker.Exec(t.Context(), "rollback"); err != nil {
				t.Fatal(err)
			}
			eventually(insertDoc(2))
		}
		blocker.Release()
	}
}
