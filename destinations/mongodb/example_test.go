package mongodb_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
)

// The database shop of one deployment is mirrored as copy in another one.
func ExampleOpen() {
	ctx := context.Background()
	source, err := changestream.Open(os.Getenv("SOURCE_URI"), &changestream.Options{Database: "shop", FullDocument: "updateLookup"})
	if err != nil {
		log.Fatal(err)
	}
	dest, err := mongodb.Open(ctx, os.Getenv("TARGET_URI"), &mongodb.Options{Target: "copy.{collection}"})
	if err != nil {
		log.Fatal(err)
	}
	defer dest.Close()
	// There is no Store: the destination keeps the checkpoints.
	err = rigatoni.Run(ctx, rigatoni.Config{Name: "shop", Source: source, Destination: dest})
	fmt.Println(err)
}

// Each order that is paid adds to a sum, exactly once: the sum and the checkpoint are one
// transaction.
func ExampleTx() {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect(ctx)
	source, err := changestream.New(client, &changestream.Options{Database: "shop", Collections: []string{"payments"}, Operations: []string{"insert"}})
	if err != nil {
		log.Fatal(err)
	}
	sums := client.Database("shop").Collection("sums")
	dest := mongodb.Tx(client, func(ctx context.Context, b *rigatoni.Batch) error {
		for _, ev := range b.Events {
			doc := ev.FullDocument()
			add := bson.D{{Key: "$inc", Value: bson.D{{Key: "amount", Value: doc.Lookup("amount")}}}}
			if _, err := sums.UpdateByID(ctx, doc.Lookup("customer"), add, options.UpdateOne().SetUpsert(true)); err != nil {
				return err
			}
		}
		return nil
	})
	err = rigatoni.Run(ctx, rigatoni.Config{Name: "sums", Source: source, Destination: dest})
	fmt.Println(err)
}
