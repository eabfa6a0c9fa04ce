// Command ownstore keeps its checkpoint in a custom store, that of package
// tablestore.
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
	"github.com/rigatoni-etl/rigatoni/examples/tablestore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	source, err := changestream.Open(uri, &changestream.Options{Database: "shop", Collections: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source, Store: tablestore.Store{Table: tablestore.NewMap()},
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
}
