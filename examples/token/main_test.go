package main

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// TestWatch tests the program with mongotest: it is restarted, and its
// connections break, and it misses nothing.
func TestWatch(t *testing.T) {
	server := mongotest.Start(t)
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	orders, store := client.Database("shop").Collection("orders"), memstore.New()

	seen := make(chan int32, 10)
	start := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = watch(ctx, orders, store, func(ev bson.Raw) { seen <- ev.Lookup("documentKey", "_id").Int32() })
		}()
		return func() { cancel(); <-ended }
	}
	// The first start begins at now: write until it sees something.
	stop := start()
	last := int32(0)
	insert := func() {
		last++
		for { // the write has connections too, and may be done although its answer is lost
			_, err := orders.InsertOne(t.Context(), bson.D{{Key: "_id", Value: last}})
			if err == nil || mongo.IsDuplicateKeyError(err) {
				return
			}
			if !mongo.IsNetworkError(err) {
				t.Fatal(err)
			}
		}
	}
	next := int32(0)
	for next == 0 {
		insert()
		select {
		case next = <-seen:
		default:
		}
	}
	for ; next < last; next++ {
		if got := <-seen; got != next+1 {
			t.Fatalf("saw %d after %d", got, next)
		}
	}
	server.DropConnections()
	insert()
	if got := <-seen; got != last {
		t.Errorf("after the connections broke: saw %d, want %d", got, last)
	}
	stop()
	insert() // while nobody reads
	defer start()()
	got := <-seen
	if got == last-1 {
		got = <-seen // stopped before it had saved: it is repeated
	}
	if got != last {
		t.Errorf("after a restart: saw %d, want %d", got, last)
	}
}
