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
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// The server sends new orders of 100 and more, without what they contain but
// the customer and the total.
func ExamplePipeline() {
	ctx := context.Background()
	server, err := mongotest.Listen(ctx, mongotest.Options{}) // or your own MongoDB
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
	defer client.Disconnect(ctx)
	type order struct {
		ID       int `bson:"_id"`
		Customer string
		Total    int
		Card     string
	}
	_, err = client.Database("shop").Collection("orders").InsertMany(ctx, []order{
		{1, "Ada", 250, "4111 1111 1111 1111"}, {2, "Ben", 20, "5500 0000 0000 0004"}, {3, "Cleo", 100, "3400 0000 0000 009"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	source, err := changestream.New(client, &changestream.Options{
		Database:    "shop",
		Collections: []string{"orders", "orders_*"},
		Operations:  []string{"insert"},
		Pipeline: changestream.Pipeline{
			{{Key: "$match", Value: bson.M{"fullDocument.total": bson.M{"$gte": 100}}}},
			{{Key: "$project", Value: bson.M{"fullDocument.customer": 1, "fullDocument.total": 1}}},
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	err = rigatoni.Run(running, rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: slog.New(slog.DiscardHandler),
		FirstStart: rigatoni.FirstStart{Time: bson.Timestamp{T: 1, I: 1}}, // all that the server has
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			id := ev.DocumentKey().Lookup("_id").AsInt64()
			fmt.Println(ev.OperationType(), ev.Namespace(), id, ev.FullDocument())
			if id == 3 {
				stop()
			}
			return nil
		}),
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// insert shop.orders 1 {"customer": "Ada","total": {"$numberInt":"250"}}
	// insert shop.orders 3 {"customer": "Cleo","total": {"$numberInt":"100"}}
}

// A pipeline that is written as text.
func ExampleParsePipeline() {
	p, err := changestream.ParsePipeline(`[
		{"$match": {"fullDocument.paidAt": {"$gte": {"$date": "2026-01-31T00:00:00Z"}}}},
		{"$unset": "fullDocument.card"}
	]`)
	fmt.Println(len(p), err)

	_, err = changestream.ParsePipeline(`[{"$replaceWith": "$fullDocument"}]`)
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// changestream: the pipeline is not valid: stage[0]: $replaceWith must name the fields of the new event, such as {$replaceWith: {doc: "$fullDocument"}}, because with any other expression the event could lose its resume token
}
