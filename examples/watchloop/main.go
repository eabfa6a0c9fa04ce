// Command watchloop is a loop over the driver's Watch, as many programs have one.
// It loses events: those written while it is down, and those that it fails on.
// Command watch is the same program as a pipeline.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

type order struct {
	ID      string `bson:"_id"`
	Address string `bson:"address"`
}

var paid = mongo.Pipeline{
	{{Key: "$match", Value: bson.D{{Key: "fullDocument.status", Value: "paid"}}}},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		log.Fatal(err)
	}
	orders := client.Database("shop").Collection("orders")

	stream, err := orders.Watch(ctx, paid, options.ChangeStream().SetFullDocument(options.UpdateLookup))
	if err != nil {
		log.Fatal(err)
	}
	for stream.Next(ctx) {
		var ev struct {
			FullDocument order `bson:"fullDocument"`
		}
		if err := stream.Decode(&ev); err != nil {
			log.Print(err)
			continue
		}
		if err := ship(ctx, ev.FullDocument); err != nil {
			log.Print(err)
		}
	}
}

func ship(_ context.Context, o order) error {
	if o.Address == "" {
		return fmt.Errorf("order %s has no address", o.ID)
	}
	fmt.Println("shipped", o.ID, "to", o.Address)
	return nil
}
