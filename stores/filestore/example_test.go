package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// A program that keeps a checkpoint: it loads the last one, resumes from it, and saves
// after every event that it is done with.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := filestore.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	if _, err := store.Load(ctx, "shop/orders"); errors.Is(err, state.ErrNotFound) {
		fmt.Println("a first start")
	}

	// With the driver: stream.ResumeToken().
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "826AEF5E80000000022B0229296E04"}})
	if err != nil {
		log.Fatal(err)
	}
	cp, err := state.At(token)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save(ctx, "shop/orders", cp); err != nil {
		log.Fatal(err)
	}

	cp, err = store.Load(ctx, "shop/orders")
	fmt.Println(cp.Token, err)
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	fmt.Println(filepath.Base(names[0]), err)
	// Output:
	// a first start
	// resume token (2026-11-07T17:23:12Z, 47 bytes) <nil>
	// shop%2forders.json <nil>
}

// A process with many streams saves all their places at once, under the leases that it
// holds.
func ExampleStore_SaveBatch() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := filestore.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "826AEF5E80000000022B0229296E04"}})
	if err != nil {
		log.Fatal(err)
	}
	cp, err := state.At(token)
	if err != nil {
		log.Fatal(err)
	}
	items := make([]state.Item, 100)
	for i := range items {
		key := fmt.Sprintf("tenants/%d", i)
		grant, err := store.Acquire(ctx, key, state.LeaseRequest{Owner: "worker-1", Nonce: state.NewNonce(), TTL: time.Minute})
		if err != nil {
			log.Fatal(err)
		}
		items[i] = state.Item{Key: key, Fence: grant.Fence, Checkpoint: cp}
	}
	for i, err := range store.SaveBatch(ctx, items) {
		if err != nil {
			log.Fatal(items[i].Key, ": ", err)
		}
	}
	fmt.Println("saved")
	// Output: saved
}
