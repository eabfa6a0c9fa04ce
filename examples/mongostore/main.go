// Command mongostore keeps its checkpoint in a collection of MongoDB, in another database
// than the one that it watches: no further server is needed.
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
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	source, err := changestream.Open(uri, &changestream.Options{Database: "shop", Collections: []string{"orders", "users"}})
	if err != nil {
		log.Fatal(err)
	}
	store, err := mongostore.Open(ctx, cmp.Or(os.Getenv("STORE_URL"), "mongodb://localhost:27017/rigatoni.checkpoints"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "shop", Source: source, Store: store,
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
}
