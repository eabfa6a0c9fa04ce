package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestRouter(t *testing.T) {
	var got []string
	to := func(name string) Func {
		return func(_ context.Context, ev Event) error { got = append(got, name); return nil }
	}
	r := new(Router).On("shop.orders", to("refund"), "delete").On("shop.orders", to("order")).On("*.orders", to("other"), "insert", "update").On("shop.*", to("shop"))
	sink, err := r.Open(t.Context(), Opening{})
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := As[Concurrent](sink); !ok || !c.Concurrent() {
		t.Error("a router isn't concurrent")
	}
	deliver := func(op, db, coll string) error {
		raw, err := bson.Marshal(bson.D{{Key: "operationType", Value: op}, {Key: "ns", Value: bson.D{{Key: "db", Value: db}, {Key: "coll", Value: coll}}}})
		if err != nil {
			t.Fatal(err)
		}
		return sink.Deliver(t.Context(), &Batch{Events: []Event{{Raw: raw}}})
	}
	for _, e := range [][3]string{{"delete", "shop", "orders"}, {"insert", "shop", "orders"}, {"insert", "bank", "orders"}, {"drop", "shop", "users"}, {"dropDatabase", "shop", ""}} {
		err = errors.Join(err, deliver(e[0], e[1], e[2]))
	}
	if want := "[refund order other shop]"; fmt.Sprint(got) != want || err == nil {
		t.Errorf("called %v, want %s; error %v", got, want, err)
	}
	if !errors.As(err, new(*PermanentError)) || !contains(err, "no route for dropDatabase", `"shop"`, "rigatoni.Ignore") {
		t.Errorf("an event without a route: %v", err)
	}
	r.On("*", Ignore)
	if err := deliver("drop", "bank", "orders"); err != nil {
		t.Error(err)
	}
	invalidate, _ := bson.Marshal(bson.D{{Key: "operationType", Value: "invalidate"}})
	if err := sink.Deliver(t.Context(), &Batch{Events: []Event{{Raw: invalidate}}}); err != nil {
		t.Error(err)
	}
}

func TestTyped(t *testing.T) {
	type order struct {
		Total int `bson:"total"`
	}
	var got []string
	f := Typed(func(_ context.Context, ev Event, o *order) error {
		if o == nil {
			got = append(got, "none")
		} else {
			got = append(got, fmt.Sprint(o.Total))
		}
		return nil
	})
	ev := func(doc any) Event {
		d := bson.D{{Key: "operationType", Value: "insert"}}
		if doc != nil {
			d = append(d, bson.E{Key: "fullDocument", Value: doc})
		}
		raw, err := bson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return Event{Raw: raw}
	}
	if err := errors.Join(f(t.Context(), ev(order{7})), f(t.Context(), ev(nil))); err != nil || fmt.Sprint(got) != "[7 none]" {
		t.Errorf("got %v, %v", got, err)
	}
	err := f(t.Context(), ev(bson.D{{Key: "total", Value: "many"}}))
	if !errors.As(err, new(*PermanentError)) || !contains(err, "rigatoni.order") {
		t.Errorf("a document of another shape: %v", err)
	}
}
