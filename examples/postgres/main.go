// Command postgres keeps a table of PostgreSQL for each collection of a database, with a
// row for each document. Rows and checkpoint are one transaction: each change takes
// effect exactly once, and there is no store.
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
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	source, err := changestream.Open(uri, &changestream.Options{
		Database: "shop", Collections: []string{"orders"},
		FullDocument: "updateLookup", // a row is made of the whole document
	})
	if err != nil {
		log.Fatal(err)
	}
	dest, err := postgres.Open(ctx, os.Getenv("DATABASE_URL"), &postgres.Options{Mode: postgres.Mirror})
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
