// Command owndestination delivers to a custom destination that takes each batch
// and its checkpoint in one transaction: each event takes effect exactly once.
// ledger.go is the destination.
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	source, err := changestream.Open(uri, &changestream.Options{Database: "shop", Collections: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}
	db := new(Memory)
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source,
		Destination: Ledger{db}, // keeps the checkpoints too: there is no Store
	})
	for _, row := range db.Rows() {
		fmt.Println(row)
	}
	if err != nil {
		log.Fatal(err)
	}
}
