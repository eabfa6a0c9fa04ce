package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

func insertInto(ns string, ids ...any) (events []rigatoni.Event) {
	for _, id := range ids {
		events = append(events, rigatonitest.Insert(ns, bson.D{e("_id", id)}))
	}
	return events
}

// A drop, a rename and a dropDatabase are refused by default, with the facts; a drop of a
// collection without rows is none of them.
func TestDropStops(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode})
		o.must(insertInto(orders, 1)...)
		choice := map[string]string{postgres.Mirror: "on-drop: truncate deletes them", postgres.Log: "on-drop: ignore goes on"}[mode]
		for text, ev := range map[string]rigatoni.Event{
			`the collection "shop.orders" was dropped, at 2026-01-01T`:                     rigatonitest.Drop(orders),
			`the collection "shop.orders" was renamed to "shop.old", whose documents come`: rigatonitest.Rename(orders, "shop.old"),
			`the collection "shop.tmp" was renamed to "shop.orders"`:                       rigatonitest.Rename("shop.tmp", orders),
			`the database "shop" was dropped`:                                              rigatonitest.DropDatabase("shop"),
		} {
			o.refused(text, ev)
			o.refused(`its rows are in "public"."orders"`, ev)
			o.refused(choice, ev)
		}
		o.refused("no table has rows of it", rigatonitest.Rename("shop.a", "shop.b"))
		o.must(rigatonitest.Drop("shop.unknown"))
		o.must(rigatonitest.DropDatabase("unknown"))
		o.want("select _id from orders", "1")
	}
}

// With ignore the rows stay, and the log says so.
func TestDropIgnored(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode, OnDrop: postgres.Ignore})
		drop := rigatonitest.Drop(orders)
		o.must(insertInto(orders, 1)...)
		o.must(drop, rigatonitest.Invalidate(drop), rigatonitest.Rename(orders, "shop.new"), rigatonitest.DropDatabase("shop"))
		o.must(rigatonitest.Invalidate(drop))
		o.want("select _id from orders", "1")
		if n := o.log.count("rows kept"); n != 3 {
			t.Errorf("logged %d times", n)
		}
		o.must(rigatonitest.Drop("shop.none"))
		if n := o.log.count("rows kept"); n != 3 {
			t.Error("a collection without rows is said to have some")
		}
		if n := o.log.count("come without events"); n != 1 {
			t.Errorf("a rename was explained %d times", n)
		}
	}
}

// With truncate the rows go, those of the batch before the event too, and those after it
// stay.
func TestDropTruncates(t *testing.T) {
	for _, soft := range []bool{false, true} {
		o := newOwner(t, postgres.Options{OnDrop: postgres.Truncate, SoftDelete: soft})
		o.must(insertInto("shop.users", 1)...)
		o.must(insertInto("shop.old", 1)...)
		o.must(insertInto("other.things", 1)...)
		o.must(insertInto(orders, 1, 2, 3)...)
		left := func(table string, want ...string) {
			t.Helper()
			o.want("select _id from "+table+" where op <> 'delete' order by 1", want...)
		}
		batch := append(insertInto(orders, 4, 5), rigatonitest.Drop(orders))
		o.must(append(batch, insertInto(orders, 2, 6)...)...)
		left("orders", "2", "6")
		left("users", "1")
		if soft {
			o.want("select _id from orders where op = 'delete' and doc is not null order by 1", "1", "3", "4", "5")
		}
		o.must(rigatonitest.Rename(orders, "shop.old"))
		if o.log.count("come without events") != 1 {
			t.Error("no log line says what a rename leaves missing")
		}
		left("orders")
		left("old")
		o.must(insertInto(orders, 7)...)
		drop := rigatonitest.DropDatabase("shop")
		o.must(drop, rigatonitest.Invalidate(drop))
		left("orders")
		left("users")
		left("things", "1")
	}
}

// An invalidate whose cause was not delivered is refused: nobody knows what became of the
// rows. One whose cause was the last event before the session is not.
func TestInvalidate(t *testing.T) {
	for _, policy := range []string{postgres.Stop, postgres.Truncate} {
		o := newOwner(t, postgres.Options{OnDrop: policy})
		o.must(insertDoc(1))
		drop := rigatonitest.Drop(orders)
		o.refused("invalidate", rigatonitest.Invalidate(drop))
		if err := o.open(func(op *rigatoni.Opening) { op.ClusterTime = drop.ClusterTime() }); err != nil {
			t.Fatal(err)
		}
		o.must(rigatonitest.Invalidate(drop))
	}
}

// An old owner deletes nothing.
func TestTruncateIsFenced(t *testing.T) {
	o := newOwner(t, postgres.Options{OnDrop: postgres.Truncate})
	o.must(insertDoc(1))
	successor := *o
	successor.acquire()
	for name, do := range map[string]func() error{
		"a drop":  func() error { return o.deliver(rigatonitest.Drop(orders)) },
		"a sweep": func() error { return sweepOf(o, rigatonitest.Drop(orders)) },
	} {
		if err := do(); !errors.Is(err, state.ErrFenced) {
			t.Errorf("%s: got %v, want ErrFenced", name, err)
		}
	}
	o.want("select _id from orders", "1")
}

func sweepOf(o *owner, began rigatoni.Event) error {
	token, err := began.Token()
	if err != nil {
		o.t.Fatal(err)
	}
	sweeper, ok := rigatoni.As[rigatoni.Sweeper](o.sink)
	if !ok {
		o.t.Fatal("the sink is no Sweeper")
	}
	return sweeper.Sweep(o.t.Context(), rigatoni.SnapshotEnd{Namespace: rigatoni.Namespace{DB: "shop", Coll: "orders"}, Began: token})
}

// A sweep deletes what is older than the copy and nothing else, in as many steps as it
// takes, and may be repeated. One that is interrupted goes on where it was.
func TestSweep(t *testing.T) {
	for _, soft := range []bool{false, true} {
		o := newOwner(t, postgres.Options{SoftDelete: soft})
		if err := o.open(nil); err != nil {
			t.Fatal(err)
		}
		if err := sweepOf(o, rigatonitest.Drop(orders)); err != nil {
			t.Fatalf("of a collection without a table: %v", err)
		}
		const rows = 12_345 // some steps
		var events []rigatoni.Event
		for i := range rows {
			events = append(events, insertDoc(i))
		}
		o.must(events...)
		o.must(insertInto("shop.users", 1)...)
		exec(t, o.pool, "alter table orders alter version drop not null; insert into orders values ('\"mine\"', '{}', 'mine', now(), null)")
		began := rigatonitest.Drop(orders)
		data, _ := began.Raw.Lookup("_id", "_data").StringValueOK()
		exec(t, o.pool, `insert into orders values ('equal', '{}', 'mine', now(), '\x`+data+`')`)
		o.must(rigatonitest.Replace(orders, bson.D{e("_id", 7)}), rigatonitest.With(rigatonitest.Replace(orders, bson.D{e("_id", 12_000)}), "operationType", "read"))
		exec(t, o.pool, "create function f() returns trigger as 'begin if old._id > ''5'' then raise exception ''no''; end if; return case when tg_op = ''DELETE'' then old else new end; end' language plpgsql; "+
			"create trigger t before update or delete on orders for each row execute function f()")
		if err := sweepOf(o, began); err == nil || !strings.Contains(err.Error(), "no") {
			t.Errorf("with a trigger that fails: %v", err)
		}
		if n := o.values("select count(*)::text from orders where op in ('insert')"); n[0] == fmt.Sprint(rows-2) || n[0] == "0" {
			t.Errorf("%s rows after a sweep that failed on its way", n)
		}
		exec(t, o.pool, `drop trigger t on orders; insert into orders values ('!', '{}', 'insert', now(), '\x8201')`)
		for attempt := range 2 {
			if err := sweepOf(o, began); err != nil {
				t.Fatal(err)
			}
			if attempt == 0 { // the first goes on where the one before failed, the second is a new one
				o.want("select _id from orders where _id = '!' and op <> 'delete'", "!")
				exec(t, o.pool, "delete from orders where _id = '!'")
			}
			o.want("select _id from orders where op <> 'delete' order by 1", `"mine"`, "12000", "7", "equal")
			o.want("select _id from users", "1")
		}
		if soft {
			o.want("select count(*)::text from orders where op = 'delete' and doc is not null", fmt.Sprint(rows-2))
		}
	}
	log := newOwner(t, postgres.Options{Mode: postgres.Log})
	log.must(insertDoc(1))
	if _, ok := rigatoni.As[rigatoni.Sweeper](log.sink); ok {
		t.Error("a log is a Sweeper")
	}
}
