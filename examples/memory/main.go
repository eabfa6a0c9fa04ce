// Command memory keeps its checkpoint in memory, for development and tests. The
// checkpoint is lost when the process ends, so each start begins at now.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")

	// Without Collections: every collection of the database, future ones included.
	source, err := changestream.Open(uri, &changestream.Options{Database: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name:   "shop",
		Source: source,
		Store:  memstore.New(),
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
}
