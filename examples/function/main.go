// Command function prints the changes of a collection. Stop it, kill it, start it
// again: it resumes where it was.
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
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")

	source, err := changestream.Open(uri, &changestream.Options{Database: "shop", Collections: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}
	store, err := filestore.Open("./state", nil)
	if err != nil {
		log.Fatal(err)
	}
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source, Store: store,
		Destination: rigatoni.Func(func(ctx context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
			return nil // delivered; after an error the same event is redelivered
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
}
