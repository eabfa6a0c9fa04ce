package ndjson_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

var source rigatoni.Source // changestream.New(…)

// A pipeline into files of at most 1 GiB, one a day or more.
func ExampleOpen() {
	files, err := ndjson.Open("./out", &ndjson.Options{MaxFileBytes: 1 << 30, MaxFileAge: 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	_ = rigatoni.Config{
		Name:        "shop",
		Source:      source,
		Destination: files,
		Store:       memstore.New(), // keep checkpoints as durably as the files: stores/filestore
	}
}

func ExampleTo() {
	out, err := ndjson.To(os.Stdout, nil)
	if err != nil {
		log.Fatal(err)
	}
	doc := bson.D{{Key: "operationType", Value: "insert"}, {Key: "fullDocument", Value: bson.D{{Key: "n", Value: int64(5)}, {Key: "paid", Value: 12.0}}}}
	raw, err := bson.Marshal(doc)
	if err != nil {
		log.Fatal(err)
	}
	err = out.Deliver(context.Background(), &rigatoni.Batch{Events: []rigatoni.Event{{Raw: raw}}})
	fmt.Println(err)
	// Output:
	// {"operationType":"insert","fullDocument":{"n":5,"paid":12.0}}
	// <nil>
}

// Events that the destination refuses are kept, and the pipeline goes on.
func ExampleOpenDeadLetters() {
	dead, err := ndjson.OpenDeadLetters("./dead", nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = rigatoni.Config{
		Name:        "shop",
		Source:      source,
		Destination: rigatoni.Func(func(context.Context, rigatoni.Event) error { return nil }),
		Store:       memstore.New(),
		MaxAttempts: 5,
		DeadLetters: dead,
	}
}
