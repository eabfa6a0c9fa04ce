// Command file writes the changes of a database to files, one event a line, and
// keeps its checkpoint in a file too: it needs no database but the one it reads.
//
// The checkpoint is in ./state/shop.json, for people to read. A file in ./out is
// complete when it has its name without ".partial", and has each event once.
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
		FullDocument: "updateLookup", // updates have the document as it is when they are read
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
