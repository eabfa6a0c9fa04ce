// Command redis keeps its checkpoint in Redis, so that any machine can take over
// from one that died. Start it twice: the second names the owner of the lease.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	source, err := changestream.Open(uri, &changestream.Options{Database: "shop", Collections: []string{"orders", "users"}})
	if err != nil {
		log.Fatal(err)
	}
	store, err := redisstore.Open(ctx, cmp.Or(os.Getenv("REDIS_URL"), "redis://localhost:6379/0"), &redisstore.Options{
		PoolSize: 10,
		TTL:      30 * 24 * time.Hour, // refreshed while the pipeline runs, with or without events
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "shop", Source: source, Store: store,
		LeaseTTL: 5 * time.Second, // how soon another instance takes over from one that died
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
			return nil
		}),
	})
	if held := new(state.HeldError); errors.As(err, &held) {
		log.Fatalf("%s has the lease", held.Owner)
	} else if err != nil {
		log.Fatal(err)
	}
}
