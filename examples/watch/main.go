// Command watch is the loop of command watchloop as a pipeline: concurrent, with
// the documents as structs, and with dead letters for those that it fails on. It
// loses nothing.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
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

	source, err := changestream.New(client, &changestream.Options{
		Database: "shop", Collections: []string{"orders"},
		Pipeline:     changestream.Pipeline(paid), // the mongo.Pipeline of the loop
		FullDocument: "updateLookup",
	})
	if err != nil {
		log.Fatal(err)
	}
	store, err := filestore.Open("./state", nil)
	if err != nil {
		log.Fatal(err)
	}
	dead, err := ndjson.OpenDeadLetters("./dead", nil)
	if err != nil {
		log.Fatal(err)
	}
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "paid-orders", Source: source, Store: store,
		Destination: rigatoni.Typed(ship),
		Concurrency: 16,   // documents at once; the events of each one stay in order
		MaxAttempts: 10,   // then the event is refused: after less than a minute,
		DeadLetters: dead, // and put here; without them the pipeline stops
	})
	if err != nil {
		log.Fatal(err)
	}
}

// ship is called again after an error, with a pause, unless the error is
// Permanent. The checkpoint passes the event once ship has returned nil, or the
// dead letter is on the disk.
func ship(ctx context.Context, ev rigatoni.Event, o *order) error {
	switch {
	case o == nil:
		return nil // a drop, say, has no document
	case o.Address == "":
		return rigatoni.Permanent(errors.New("the order has no address"))
	}
	fmt.Println("shipped", o.ID, "to", o.Address)
	return nil
}
