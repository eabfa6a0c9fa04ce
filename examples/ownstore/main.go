// Command ownstore keeps its checkpoint in a custom store: store.go is the store,
// and store_test.go checks it against the contract.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
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
	err = rigatoni.Run(ctx, rigatoni.Config{
		Name: "orders", Source: source, Store: Store{Table: newMap()},
		Destination: rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			fmt.Println(ev.OperationType(), ev.Namespace(), ev.DocumentKey())
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
}

// mapTable stands in for a database.
type mapTable struct {
	mu   sync.Mutex
	rows map[string][]byte
}

func newMap() *mapTable { return &mapTable{rows: map[string][]byte{}} }

func (m *mapTable) Update(_ context.Context, key string, change func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, err := change(m.rows[key])
	switch {
	case err != nil:
		return err
	case row == nil:
		delete(m.rows, key)
	default:
		m.rows[key] = row
	}
	return nil
}
