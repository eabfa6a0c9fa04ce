package changestream_test

import (
	"context"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// What exists is copied at a first start, while the stream goes on.
func Example_snapshot() {
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
	if _, err := client.Database("shop").Collection("orders").InsertMany(ctx, []any{bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}}}); err != nil {
		fmt.Println(err)
		return
	}
	quiet := slog.New(slog.DiscardHandler)
	source, err := changestream.New(client, &changestream.Options{Database: "shop", Collections: []string{"orders"}, Logger: quiet})
	if err != nil {
		fmt.Println(err)
		return
	}
	store := memstore.New()
	copied := 0
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source, Store: store, Snapshot: "initial", Logger: quiet,
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.FullDocument().Lookup("_id").Int32(), ev.IsSnapshot())
			if copied++; copied == 2 {
				cancel() // an example comes to an end
			}
			return nil
		}),
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// read shop.orders 1 true
	// read shop.orders 2 true
}

// A checkpoint whose stream copies a collection once more, at the next start.
func ExampleRequestSnapshot() {
	token, err := resumetoken.Parse([]byte(`{"_data": "826B0CD2B7000000022B0229296E04"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	cp := state.Checkpoint{Token: token, Fingerprint: "set=rs0 id=6b0ca2157952723b7c5fa502 database=shop collections=orders,users"}
	cp, err = changestream.RequestSnapshot(cp, rigatoni.Namespace{DB: "shop", Coll: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	progress, copying, err := changestream.SnapshotProgress(cp)
	fmt.Println(copying, progress.CollectionsTotal, progress.Collections[0].Namespace, err)

	_, err = changestream.RequestSnapshot(cp, rigatoni.Namespace{DB: "shop", Coll: "items"})
	fmt.Println(err)
	// Output:
	// true 1 shop.orders <nil>
	// changestream: shop.items is not a collection of the checkpoint's stream (shop.{orders,users}): invalid argument
}
