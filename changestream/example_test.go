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
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A source usually goes into rigatoni.Config. Here it is read by hand.
func Example() {
	ctx := context.Background()
	server, err := mongod.Start(ctx, mongod.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Stop()
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Disconnect(ctx)

	source, err := changestream.New(client, &changestream.Options{
		Database:    "shop",
		Collections: []string{"orders", "users"},
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	stream, err := source.Open(ctx, "", rigatoni.Start{}) // from now on
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close(ctx)

	if _, err := client.Database("shop").Collection("orders").InsertOne(ctx, bson.D{{Key: "item", Value: "pasta"}}); err != nil {
		fmt.Println(err)
		return
	}
	for {
		events, _, err := stream.Next(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, ev := range events {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.FullDocument().Lookup("item"))
			return
		}
	}
	// Output: insert shop.orders "pasta"
}

// What the server filters out doesn't cross the network.
func ExampleOpen() {
	source, err := changestream.Open("mongodb://localhost:27017", &changestream.Options{
		Database:    "shop",
		Collections: []string{"orders", "log_*"},
		Operations:  []string{"insert", "update", "replace"},
		Pipeline: changestream.Pipeline{
			{{Key: "$match", Value: bson.M{"fullDocument.total": bson.M{"$gte": 100}}}},
			{{Key: "$project", Value: bson.M{"fullDocument.customer": 1, "fullDocument.total": 1}}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close(context.Background())
	fmt.Println(len(source.Streams()), "stream")
	// Output: 1 stream
}
