package rigatoni_test

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

// A function is called for each event. After an error it is called again with
// the same event; the place never moves past one that was not delivered.
func Example() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 5}}),
		rigatonitest.Update("shop.orders", 1, bson.D{{Key: "total", Value: 7}}),
		rigatonitest.Delete("shop.orders", 1),
	)
	source.End() // a real one goes on for ever

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
		Name: "orders", Source: source, Destination: rigatoni.Func(handle), Store: memstore.New(),
		Logger: slog.New(slog.DiscardHandler),
	})
	fmt.Println(errors.Is(err, rigatonitest.ErrEnd))
	// Output:
	// insert shop.orders {"_id": {"$numberInt":"1"}}
	// update shop.orders {"_id": {"$numberInt":"1"}}
	// delete shop.orders {"_id": {"$numberInt":"1"}}
	// true
}
