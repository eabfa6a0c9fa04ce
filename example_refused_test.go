package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

var errNoTotal = errors.New("the order has no total")

// bill refuses an order without a total: no repetition would give it one.
func bill(_ context.Context, ev rigatoni.Event) error {
	if ev.FullDocument().Lookup("total").IsZero() {
		return rigatoni.Permanent(errNoTotal)
	}
	fmt.Println("billed", ev.DocumentKey())
	return nil
}

func orders() *rigatonitest.Source {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 5}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 2}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 3}, {Key: "total", Value: 7}}),
	)
	source.End()
	return source
}

// Without dead letters, a pipeline stops at an event that is refused. Its
// checkpoint is before the event.
func ExamplePermanent() {
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: orders(), Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(bill),
	})
	if refused := new(rigatoni.RefusedError); errors.As(err, &refused) {
		fmt.Println("refused:", refused.Event.DocumentKey(), refused.Err)
	}
	// Output:
	// billed {"_id": {"$numberInt":"1"}}
	// refused: {"_id": {"$numberInt":"2"}} the order has no total
}

// letters keeps dead letters in memory. Those of package ndjson are in files.
type letters []rigatoni.DeadLetter

func (l *letters) Put(_ context.Context, d rigatoni.DeadLetter) error {
	*l = append(*l, d)
	return nil // durable: the checkpoint may pass the event
}

// With dead letters, an event that is refused is put aside, and the pipeline continues.
func ExampleDeadLetters() {
	var dead letters
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: orders(), Store: memstore.New(), Logger: quiet,
		Destination: rigatoni.Func(bill),
		DeadLetters: &dead,
		MaxAttempts: 5, // of other errors than a Permanent one; by default they are retried without end
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	for _, d := range dead {
		fmt.Println("dead letter:", d.Event.DocumentKey(), d.Err, errors.Is(d.Err, errNoTotal))
	}
	// Output:
	// billed {"_id": {"$numberInt":"1"}}
	// billed {"_id": {"$numberInt":"3"}}
	// dead letter: {"_id": {"$numberInt":"2"}} the order has no total true
}

// A function may do something else when it is tried again.
func ExampleAttempt() {
	source := rigatonitest.NewSource(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}))
	source.End()
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet, RetryMin: time.Millisecond,
		Destination: rigatoni.Func(func(ctx context.Context, ev rigatoni.Event) error {
			n := rigatoni.Attempt(ctx)
			fmt.Println("attempt", n)
			if n < 3 {
				return errors.New("the database is busy")
			}
			return nil
		}),
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}
