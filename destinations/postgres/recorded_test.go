package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

// many delivers an event of each of n collections.
func (o *owner) many(n int) {
	o.t.Helper()
	for i := range n {
		o.must(rigatonitest.Insert(fmt.Sprintf("shop.c%02d", i), bson.D{e("_id", 1)}))
	}
}

// Tables that don't fit the options any more, or are gone, are named all at once: the
// first ones, how many others there are, and one statement for all.
func TestManyTablesThatDontFit(t *testing.T) {
	o := newOwner(t, postgres.Options{})
	o.many(12)
	moved := ownerOf(t, o.pool, o.key, postgres.Options{Table: "public.m_{collection}"})
	err := moved.open(nil)
	wantRefused(t, err, `shop.c00 is written to "public"."c00", a mirror, and by the options it would be "public"."m_c00", a mirror; shop.c01 is`)
	wantRefused(t, err, `"public"."m_c02", a mirror; and 9 more; change them back, or start without those rows by executing DELETE FROM rigatoni_tables WHERE key = 'shop'`)
	if strings.Contains(err.Error(), "c03") {
		t.Errorf("too many are named: %v", err)
	}
	exec(t, o.pool, "drop table c01, c03")
	exec(t, o.pool, statementOf(t, o.open(nil), `"public"."c01", the mirror of shop.c01; "public"."c03", the mirror of shop.c03 were there before and are gone`))
	if err := o.open(nil); err != nil {
		t.Fatal(err)
	}
	exec(t, o.pool, "drop table c04")
	err = moved.open(nil)
	wantRefused(t, err, `"public"."c04", the mirror of shop.c04, was there before and is gone`)
	wantRefused(t, err, "; shop.c00 is written to")
	wantRefused(t, err, "IN (('public', 'c00'), ('public', 'c02'), ('public', 'c05'),")
	if n := len(err.Error()); n > 3000 {
		t.Errorf("the message has %d bytes", n)
	}
	exec(t, o.pool, "DELETE FROM rigatoni_tables WHERE key = 'shop'")
	if err := moved.open(nil); err != nil {
		t.Fatal(err)
	}
}

// statementOf is the statement of a refusal that has that text.
func statementOf(t *testing.T, err error, text string) string {
	t.Helper()
	wantRefused(t, err, text)
	_, sql, ok := strings.Cut(fmt.Sprint(err), " by executing ")
	if !ok {
		t.Fatalf("there is no statement in %v", err)
	}
	sql, _, _ = strings.Cut(sql, ";")
	return sql
}

// So are all tables that the source names, and that can't be used or made.
func TestManyTablesThatCantBeUsed(t *testing.T) {
	o := newLimited(t)
	o.begin(postgres.Options{})
	var collections []string
	for i := range 12 {
		collections = append(collections, fmt.Sprintf("c%02d", i))
	}
	o.exec("create view c00 as select 1 as n; create table c01 (id int); revoke create on schema public from ROLE")
	named := func(op *rigatoni.Opening) { op.Scope = &rigatoni.Scope{Database: "shop", Collections: collections} }
	err := o.open(named)
	for _, text := range []string{`"public"."c00" is a view`, `"public"."c01" can't be the mirror`, `"public"."c02" can't be created`, `"public"."c09" can't be created`, "; and 2 more"} {
		wantClosed(t, err, text)
	}
	if strings.Count(err.Error(), "refused") != 1 || strings.Contains(err.Error(), "c10") {
		t.Errorf("got %v", err)
	}
}

// The form of the rows is not changed beside rows: that is refused, and accepted by the
// statement of the message. Where there are no rows yet, it is changed.
func TestChangedForm(t *testing.T) {
	for _, c := range []struct {
		was, is postgres.Options
		form    string
	}{
		{postgres.Options{}, postgres.Options{Format: postgres.Relaxed}, "a mirror (format: relaxed)"},
		{postgres.Options{}, postgres.Options{SoftDelete: true}, "a mirror (soft-delete: true)"},
		{postgres.Options{SoftDelete: true, Format: postgres.Relaxed}, postgres.Options{}, "a mirror"},
		{postgres.Options{Mode: postgres.Log, Format: postgres.Relaxed}, postgres.Options{Mode: postgres.Log}, "a log"},
	} {
		o := newOwner(t, c.was)
		o.many(4)
		exec(t, o.pool, "delete from c01")
		changed := ownerOf(t, o.pool, o.key, c.is)
		text := `by the options it would be "public"."c00", ` + c.form
		check := changed.d.CheckOpening(t.Context(), rigatoni.Opening{Key: o.key})
		wantRefused(t, check, text)
		err := changed.open(nil)
		wantRefused(t, err, text)
		if strings.Contains(err.Error(), "c01") || err.Error() != check.Error() {
			t.Errorf("got %v", err)
		}
		o.acquire()
		if err := o.open(nil); err != nil {
			t.Errorf("with the options as they were: %v", err)
		}
		changed.acquire()
		_, sql, _ := strings.Cut(changed.open(nil).Error(), " by executing ")
		sql, _, _ = strings.Cut(sql, ", which ")
		exec(t, o.pool, sql)
		if err := changed.open(nil); err != nil {
			t.Errorf("after %s: %v", sql, err)
		}
		wantRefused(t, o.open(nil), "a table would have rows of two forms")
	}
}

// Without soft deletes, a copy removes the rows that were marked before.
func TestCopyAfterSoftDelete(t *testing.T) {
	o := newOwner(t, postgres.Options{SoftDelete: true})
	o.must(insertDoc(1))
	o.must(insertDoc(2), rigatonitest.Delete("shop.orders", 1))
	o.want("select op from orders order by 1", "delete", "insert")
	hard := ownerOf(t, o.pool, o.key, postgres.Options{})
	wantRefused(t, hard.open(nil), "a table would have rows of two forms")
	exec(t, o.pool, "update rigatoni_tables set mode = 'mirror'")
	began := insertDoc(3)
	hard.must(rigatonitest.Insert("shop.other", bson.D{e("_id", 1)}), rigatonitest.Read("shop.orders", bson.D{e("_id", 2)}))
	if err := sweepOf(hard, began); err != nil {
		t.Fatal(err)
	}
	o.want("select _id || op from orders", "2read")
}

// A collection whose table would be one of this package's own is refused at the start, if
// the source names it, whether or not that table is there; and otherwise at its first
// event, which isn't to blame.
func TestOwnTables(t *testing.T) {
	for _, c := range []struct {
		opts             postgres.Options
		collection, text string
	}{
		{postgres.Options{}, "rigatoni_tables", `would be "public"."rigatoni_tables", which has the record of which table`},
		{postgres.Options{}, "rigatoni_checkpoints", `would be "public"."rigatoni_checkpoints", which has the checkpoints`},
		{postgres.Options{Table: "{collection}"}, "rigatoni_checkpoints", `would be "public"."rigatoni_checkpoints", which has the checkpoints`},
		{postgres.Options{Checkpoints: "public.orders"}, "orders", `would be "public"."orders", which has the checkpoints`},
		{postgres.Options{Mode: postgres.Log}, "rigatoni_tables", "the log of shop.rigatoni_tables would be"},
	} {
		named := rigatoni.Opening{Key: "shop", Scope: &rigatoni.Scope{Database: "shop", Collections: []string{"users", c.collection}}}
		empty, err := postgres.New(newPool(t, pgserver.Database(t), nil), &c.opts)
		if err != nil {
			t.Fatal(err)
		}
		wantRefused(t, empty.CheckOpening(t.Context(), named), c.text)

		o := newOwner(t, c.opts)
		wantRefused(t, o.d.CheckOpening(t.Context(), named), c.text)
		wantClosed(t, o.open(func(op *rigatoni.Opening) { op.Scope = named.Scope }), c.text)
		wantClosed(t, o.deliver(rigatonitest.Insert("shop."+c.collection, bson.D{e("_id", 1)})), c.text)
	}
	elsewhere := newOwner(t, postgres.Options{Table: "{database}.{collection}"})
	elsewhere.must(rigatonitest.Insert("shop.rigatoni_tables", bson.D{e("_id", 1)}))
	elsewhere.want("select _id from shop.rigatoni_tables", "1")
}
