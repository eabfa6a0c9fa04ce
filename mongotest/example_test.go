package mongotest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A complete pipeline with nothing installed. It resumes although all its
// connections are cut and its cursor is killed. (In a test, use Start.)
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server, err := mongotest.Listen(context.Background(), mongotest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Disconnect(context.Background())
	orders := client.Database("shop").Collection("orders")

	insert := func(n int) {
		var err error
		for range 10 { // its connections are cut too, and the driver repeats a write once only
			if _, err = orders.InsertOne(ctx, bson.D{{Key: "_id", Value: n}}); err == nil || mongo.IsDuplicateKeyError(err) {
				return
			}
		}
		fmt.Println(err)
		cancel()
	}
	insert(0)
	quiet := slog.New(slog.DiscardHandler)
	source, err := changestream.Open(server.URI(), &changestream.Options{Database: "shop", Collections: []string{"orders"}, Logger: quiet})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close(context.Background())
	handle := func(_ context.Context, ev rigatoni.Event) error {
		n := ev.DocumentKey().Lookup("_id").AsInt64()
		fmt.Println(ev.OperationType(), n)
		switch n {
		case 1:
			server.DropConnections()
		case 2:
			server.KillCursors()
		case 3:
			cancel()
			return nil
		}
		insert(int(n) + 1)
		return nil
	}
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source, Destination: rigatoni.Func(handle), Store: memstore.New(), Logger: quiet,
		FirstStart: rigatoni.FirstStart{Time: bson.Timestamp{T: 1, I: 1}}, // from the beginning of the oplog
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	// Output:
	// insert 0
	// insert 1
	// insert 2
	// insert 3
}
