// Command mongodb keeps a copy of a database in another MongoDB deployment, or in another
// database of the same one. Documents and checkpoint are one transaction: each change
// takes effect exactly once, and there is no store.
package main

import (
	"cmp"
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	source, err := changestream.Open(uri, &changestream.Options{
		Database: "shop", Collections: []string{"orders"},
		FullDocument: "updateLookup", // a copy is made of the whole document
	})
	if err != nil {
		log.Fatal(err)
	}
	dest, err := mongodb.Open(ctx, cmp.Or(os.Getenv("TARGET_URI"), uri), &mongodb.Options{Target: "shop_copy.{collection}"})
	if err != nil {
		log.Fatal(err)
	}
	defer dest.Close()
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "shop", Source: source, Destination: dest,
		LeaseTTL: 5 * time.Second, // after a crash the next start waits for that long
	})
	if err != nil {
		log.Fatal(err)
	}
}
