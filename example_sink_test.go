package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A journal is a destination that buffers: what it has taken is durable once it is
// flushed.
type journal struct {
	buffer []string
	lines  []string // flushed
}

func (j *journal) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	fmt.Printf("opened %s: first start %v, saved %q\n", o.Key, o.FirstStart, o.Saved)
	j.buffer = nil // of a session before; it is redelivered
	return j, nil
}

func (j *journal) Deliver(_ context.Context, b *rigatoni.Batch) error {
	for _, ev := range b.Events {
		j.buffer = append(j.buffer, fmt.Sprint(ev.OperationType(), ev.DocumentKey()))
	}
	return nil
}

// Sync is called before each checkpoint is saved. What it returns is saved with it.
func (j *journal) Sync(context.Context) (json.RawMessage, error) {
	j.lines, j.buffer = append(j.lines, j.buffer...), nil
	return json.Marshal(map[string]int{"lines": len(j.lines)})
}

// A sink that delivers before it is durable has a Sync. What Sync returned comes
// back with the checkpoint, so that it can be compared with what is there.
func ExampleSyncer() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 2}}),
	)
	source.End()
	store, destination := memstore.New(), new(journal)
	for range 2 {
		err := rigatoni.Run(context.Background(), rigatoni.Config{
			Name: "orders", Source: source, Store: store, Logger: quiet, Destination: destination,
		})
		if !errors.Is(err, rigatonitest.ErrEnd) {
			log.Fatal(err)
		}
	}
	fmt.Println(len(destination.lines), "lines")
	// Output:
	// opened orders: first start true, saved ""
	// opened orders: first start false, saved "{\"lines\":2}"
	// 2 lines
}

// A table is a destination that writes row by row.
type table struct{ fails bool }

func (t *table) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return t, nil }

func (t *table) Deliver(_ context.Context, b *rigatoni.Batch) error {
	for i, ev := range b.Events {
		if t.fails && i == 1 {
			t.fails = false
			return rigatoni.Partial(i, errors.New("the connection was lost"))
		}
		fmt.Println("row", ev.DocumentKey())
	}
	return nil
}

// A sink that knows how far it got says so: the rest is delivered again.
func ExamplePartial() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 2}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 3}}),
	)
	source.End()
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet, RetryMin: time.Millisecond,
		Destination: &table{fails: true},
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// row {"_id": {"$numberInt":"1"}}
	// row {"_id": {"$numberInt":"2"}}
	// row {"_id": {"$numberInt":"3"}}
}

// A full is a destination that has output already.
type full struct{ rigatoni.Func }

func (d full) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	if o.FirstStart && !o.AcceptAnyOutput {
		return nil, &rigatoni.OutputError{Err: rigatoni.ErrOutputExists, Facts: "there are 7 rows, the last of 2026-11-23"}
	}
	return d.Func.Open(ctx, o)
}

// A first start is refused where there is output: it looks as if the checkpoint
// had been lost. The code in the error accepts it.
func ExampleOutputError() {
	source := rigatonitest.NewSource()
	source.End()
	cfg := rigatoni.Config{
		Name: "orders", Source: source, Logger: quiet,
		Store:       durable{memstore.New()},
		Destination: full{rigatoni.Ignore},
	}
	err := rigatoni.Run(context.Background(), cfg)
	if refused := new(rigatoni.FirstStartError); errors.As(err, &refused) {
		fmt.Println(errors.Is(err, rigatoni.ErrOutputExists), refused.Found[0])
		cfg.FirstStart.Accept = refused.Accept
	}
	err = rigatoni.Run(context.Background(), cfg)
	fmt.Println(errors.Is(err, rigatonitest.ErrEnd))
	// Output:
	// true there is output already, but no checkpoint: there are 7 rows, the last of 2026-11-23
	// true
}

// durable hides that a memstore forgets: with a store that does, every start is a
// first one, and output is accepted.
type durable struct{ *memstore.Store }

func (durable) Volatile() bool { return false }

// Nothing of an event is decoded until a method asks for it.
func ExampleEvent() {
	ev := rigatonitest.Update("shop.orders", 1, bson.D{{Key: "total", Value: 7}})
	fmt.Println(ev.OperationType(), ev.Namespace().DB, ev.Namespace().Coll)
	fmt.Println(ev.UpdateDescription().Lookup("updatedFields", "total"))
	fmt.Println(ev.FullDocument() == nil, ev.IsSnapshot())
	// Output:
	// update shop orders
	// {"$numberInt":"7"}
	// true false
}
