package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// The examples read events that they have made themselves, so that they run
// without a server. A program has its source from package changestream, and its
// store from package filestore or redisstore.

var quiet = slog.New(slog.DiscardHandler)

// A function is called for each event. After an error it is called with the same
// event again; the checkpoint never passes an event that was not delivered.
func Example() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 5}}),
		rigatonitest.Update("shop.orders", 1, bson.D{{Key: "total", Value: 7}}),
		rigatonitest.Delete("shop.orders", 1),
	)
	source.End() // then Run returns; a change stream has no end

	failed := false
	handle := func(_ context.Context, ev rigatoni.Event) error {
		if ev.OperationType() == "update" && !failed {
			failed = true
			return errors.New("the database is busy")
		}
		fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
		return nil
	}
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(handle),
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// insert shop.orders {"_id": {"$numberInt":"1"}}
	// update shop.orders {"_id": {"$numberInt":"1"}}
	// delete shop.orders {"_id": {"$numberInt":"1"}}
}

// Events of different documents are delivered at once, and those of each document
// in order. Here the first document waits for the second one.
func Example_concurrency() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: "slow"}}),
		rigatonitest.Update("shop.orders", "slow", bson.D{{Key: "paid", Value: true}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: "quick"}}),
	)
	source.End()

	quick := make(chan struct{})
	handle := func(_ context.Context, ev rigatoni.Event) error {
		switch id := ev.DocumentKey().Lookup("_id").StringValue(); {
		case id == "quick":
			defer close(quick)
		case ev.OperationType() == "insert":
			<-quick
		}
		fmt.Println(ev.OperationType(), ev.DocumentKey())
		return nil
	}
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(handle), Concurrency: 16,
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// insert {"_id": "quick"}
	// insert {"_id": "slow"}
	// update {"_id": "slow"}
}

// A transform changes events, or drops them, before they are delivered.
func Example_transform() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.users", bson.D{{Key: "_id", Value: 1}, {Key: "name", Value: "Ada"}, {Key: "password", Value: "…"}}),
		rigatonitest.Insert("shop.sessions", bson.D{{Key: "_id", Value: 2}}),
	)
	source.End()

	transform := func(_ context.Context, ev rigatoni.Event) (rigatoni.Event, bool, error) {
		if ev.Namespace().Coll == "sessions" {
			return ev, false, nil // counts as delivered
		}
		var user struct {
			ID   int    `bson:"_id"`
			Name string `bson:"name"`
		}
		if err := ev.Decode(&user); err != nil {
			return ev, false, rigatoni.Permanent(err)
		}
		raw, err := bson.Marshal(bson.D{{Key: "operationType", Value: ev.OperationType()}, {Key: "fullDocument", Value: user}})
		return ev.With(raw), true, err // the position stays that of ev
	}
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "users", Source: source, Store: memstore.New(), Logger: quiet,
		Transform: transform,
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.FullDocument())
			return nil
		}),
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// insert {"_id": {"$numberInt":"1"},"name": "Ada"}
}

// The function is given the document as a struct. An event without one, as a
// delete, has nil.
func ExampleTyped() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 5}}),
		rigatonitest.Delete("shop.orders", 1),
	)
	source.End()

	type order struct {
		ID    int `bson:"_id"`
		Total int `bson:"total"`
	}
	handle := func(_ context.Context, ev rigatoni.Event, o *order) error {
		if o == nil {
			fmt.Println(ev.OperationType(), ev.DocumentKey())
			return nil
		}
		fmt.Println(ev.OperationType(), o.ID, o.Total)
		return nil
	}
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Typed(handle),
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// insert 1 5
	// delete {"_id": {"$numberInt":"1"}}
}

// A router calls a function for each namespace and operation. The first route
// that matches is taken; an event that none matches is refused.
func ExampleRouter() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}),
		rigatonitest.Delete("shop.orders", 1),
		rigatonitest.Insert("shop.log_2026", bson.D{{Key: "_id", Value: 2}}),
		rigatonitest.Insert("shop.users", bson.D{{Key: "_id", Value: 3}}),
	)
	source.End()

	say := func(what string) rigatoni.Func {
		return func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(what, ev.DocumentKey())
			return nil
		}
	}
	var router rigatoni.Router
	router.On("shop.orders", say("cancelled"), "delete").
		On("shop.orders", say("ordered")).
		On("shop.log_*", rigatoni.Ignore).
		On("*", say("other"))
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "shop", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: &router,
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// ordered {"_id": {"$numberInt":"1"}}
	// cancelled {"_id": {"$numberInt":"1"}}
	// other {"_id": {"$numberInt":"3"}}
}

// A program judges the error of Run by what to do next.
func ExampleRun() {
	source := rigatonitest.NewSource()
	source.FailOpen(fmt.Errorf("%w: the oplog has moved on", rigatoni.ErrHistoryLost))

	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(rigatoni.Ignore),
	})
	switch {
	case err == nil:
		fmt.Println("stopped; everything in hand is delivered and saved")
	case errors.Is(err, rigatoni.ErrUndelivered), errors.Is(err, rigatoni.ErrUnsaved):
		fmt.Println("stopped; the next start redelivers some events")
	case errors.Is(err, rigatoni.ErrHistoryLost), errors.Is(err, rigatoni.ErrChangedStream):
		fmt.Println("requires manual intervention:", err)
	default:
		fmt.Println("start again later:", err)
	}
	// Output:
	// requires manual intervention: rigatoni: orders: opening the stream: the server can't resume from the checkpoint: the oplog has moved on
}

// Wait returns once every stream is open, Status describes each, and a pipeline
// stops cleanly when its context ends.
func ExamplePipeline() {
	source := rigatonitest.NewSource(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}))
	delivered := make(chan struct{})
	p, err := rigatoni.New(rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet, Owner: "worker-1",
		Destination: rigatoni.Func(func(context.Context, rigatoni.Event) error { close(delivered); return nil }),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()

	if err := p.Wait(ctx); err != nil {
		log.Fatal(err) // of Run, if that has failed
	}
	for _, s := range p.Status() {
		fmt.Println(s.Key, s.Phase, s.Owner)
	}
	<-delivered
	stop()
	err = <-ended // nil: everything in hand is delivered, and the checkpoint is saved
	for _, s := range p.Status() {
		fmt.Println(s.Key, s.Phase, s.Events, "events,", s.Lag(time.Now()) > 0, err)
	}
	// Output:
	// orders streaming worker-1
	// orders stopped 1 events, true <nil>
}

// Hooks are called as the pipeline works.
func ExampleHooks() {
	source := rigatonitest.NewSource(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}))
	source.End()
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(rigatoni.Ignore),
		Hooks: rigatoni.Hooks{
			Delivered: func(d rigatoni.Delivery) { fmt.Println("delivered", d.Events, d.Err) },
			PhaseChanged: func(key string, p rigatoni.Phase) {
				if p == rigatoni.PhaseStreaming || p == rigatoni.PhaseFailed {
					fmt.Println(key, p)
				}
			},
		},
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// orders streaming
	// delivered 1 <nil>
	// orders failed
}

// A checkpoint of another stream is refused, with what has changed. The code in the
// error accepts this change, and no later one.
func ExampleChangedStreamError() {
	source := rigatonitest.NewSource()
	source.FailOpen(&rigatoni.ChangedStreamError{Changes: []string{"collections: orders,users → orders"}, Accept: "3f9a"})
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "shop", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(rigatoni.Ignore),
	})
	if changed := new(rigatoni.ChangedStreamError); errors.As(err, &changed) {
		fmt.Println(changed.Changes, "accept it with Config.AcceptChangedStream:", changed.Accept)
	}
	// Output:
	// [collections: orders,users → orders] accept it with Config.AcceptChangedStream: 3f9a
}
