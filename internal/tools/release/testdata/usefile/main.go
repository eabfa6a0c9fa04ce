// A user's program that keeps its place in a file and asks for nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

func main() {
	ctx := context.Background()
	store, err := filestore.Open(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if cp, err := store.Load(ctx, "shop"); err == nil {
		fmt.Println("go on after", cp.Token)
		return
	} else if !errors.Is(err, state.ErrNotFound) {
		log.Fatal(err)
	}
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "826AEF5E80000000022B0229296E04"}})
	if err != nil {
		log.Fatal(err)
	}
	cp, err := state.At(token)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save(ctx, "shop", cp); err != nil {
		log.Fatal(err)
	}
	fmt.Println("a first start")
}
