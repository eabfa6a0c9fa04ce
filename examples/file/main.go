// Command file writes the changes of a database to files, one event a line, and
// keeps its place in a file too: no database but the one it reads.
//
// The place is in ./state/shop.json, for a person to read. The lines in ./out are
// flushed to the disk before the place moves past them.
package main

import (
	"cmp"
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")

	source, err := changestream.Open(uri, &changestream.Options{
		Database:     "shop",
		FullDocument: "updateLookup", // updates come with the document as it is by then
	})
	if err != nil {
		log.Fatal(err)
	}
	store, err := filestore.Open("./state", nil)
	if err != nil {
		log.Fatal(err)
	}
	out, err := ndjson.Open("./out", nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := rigatoni.Run(ctx, rigatoni.Config{Name: "shop", Source: source, Store: store, Destination: out}); err != nil {
		log.Fatal(err)
	}
}
