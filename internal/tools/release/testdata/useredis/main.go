// A user's program that keeps its place in Redis and asks for nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

func main() {
	ctx := context.Background()
	store, err := redisstore.Open(ctx, os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cp, err := store.Load(ctx, "shop")
	if errors.Is(err, state.ErrNotFound) {
		fmt.Println("a first start")
	} else if err != nil {
		log.Fatal(err)
	} else {
		fmt.Println("go on after", cp.Token)
	}
}
