package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

func Example() {
	ctx := context.Background()
	store := memstore.New()

	// What the driver's ChangeStream.ResumeToken returns:
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "8260EC7417000000012B0229296E04"}})
	if err != nil {
		log.Fatal(err)
	}
	cp, err := state.At(token)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save(ctx, "orders", cp); err != nil {
		log.Fatal(err)
	}
	if cp, err = store.Load(ctx, "orders"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cp.Token)

	if err := store.Clear(ctx, "orders"); err != nil {
		log.Fatal(err)
	}
	_, err = store.Load(ctx, "orders")
	fmt.Println(err, errors.Is(err, state.ErrNotFound))
	// Output:
	// resume token (2021-07-12T16:55:51Z, 47 bytes)
	// memstore: load "orders": no checkpoint true
}
