package rigatonitest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// revenue is what the example tests: a function of the user's own.
type revenue struct{ total int64 }

func (r *revenue) take(_ context.Context, ev rigatoni.Event) error {
	if ev.OperationType() != "insert" {
		return nil
	}
	var order struct{ Total int64 }
	if err := ev.Decode(&order); err != nil {
		return err
	}
	r.total += order.Total
	return nil
}

// A function is tested with the whole pipeline around it.
func Example() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 30}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 2}, {Key: "total", Value: 12}}),
		rigatonitest.Delete("shop.orders", 1),
	)
	source.End() // Run returns once all is delivered

	var r revenue
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "test", Source: source, Destination: rigatoni.Func(r.take), Store: memstore.New(),
	})
	fmt.Println(r.total, errors.Is(err, rigatonitest.ErrEnd))
	// Output: 42 true
}

// Or the function is called with an event.
func ExampleInsert() {
	var r revenue
	err := r.take(context.Background(), rigatonitest.Insert("shop.orders", bson.D{{Key: "total", Value: 5}}))
	fmt.Println(r.total, err)
	// Output: 5 <nil>
}

func ExampleWith() {
	ev := rigatonitest.Update("shop.orders", 1, bson.D{{Key: "total", Value: 7}})
	ev = rigatonitest.With(ev, "fullDocument", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 7}})
	fmt.Println(ev.OperationType(), ev.UpdateDescription().Lookup("updatedFields"), ev.FullDocument())
	// Output: update {"total": {"$numberInt":"7"}} {"_id": {"$numberInt":"1"},"total": {"$numberInt":"7"}}
}

// What exists is copied at a first start, in between what changes.
func ExampleLog_Populate() {
	source := rigatonitest.NewSource()
	source.Populate("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 30}}, bson.D{{Key: "_id", Value: 2}, {Key: "total", Value: 12}})
	source.Append(rigatonitest.Replace("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 31}}))
	source.End()

	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "test", Source: source, Store: memstore.New(), Snapshot: "initial",
		Logger: slog.New(slog.DiscardHandler),
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.FullDocument().Lookup("_id"), ev.FullDocument().Lookup("total"), ev.IsSnapshot())
			return nil
		}),
	})
	fmt.Println(errors.Is(err, rigatonitest.ErrEnd))
	// Output:
	// read {"$numberInt":"1"} {"$numberInt":"30"} true
	// read {"$numberInt":"2"} {"$numberInt":"12"} true
	// replace {"$numberInt":"1"} {"$numberInt":"31"} false
	// true
}
