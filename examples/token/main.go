// Command token is a loop over the driver's Watch that keeps its resume token in a
// store, and does all else itself. Events since the last save are repeated after a
// crash. What it lacks: a lease, saves that are not one for each event, and
// resuming after an invalidate event and in the moments before the first save; a
// pipeline has all of that.
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

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uri := cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://localhost:27017")
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		log.Fatal(err)
	}
	store, err := filestore.Open("./state", nil)
	if err != nil {
		log.Fatal(err)
	}
	handle := func(ev bson.Raw) { fmt.Println(ev.Lookup("operationType"), ev.Lookup("documentKey")) }
	if err := watch(ctx, client.Database("shop").Collection("orders"), store, handle); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func watch(ctx context.Context, orders *mongo.Collection, store state.Store, handle func(bson.Raw)) error {
	opts := options.ChangeStream()
	cp, err := store.Load(ctx, "orders")
	switch {
	case err == nil:
		opts.SetStartAfter(cp.Token.Raw())
	case !errors.Is(err, state.ErrNotFound):
		return err // damaged, expired or unreachable is no first start
	}
	stream, err := orders.Watch(ctx, mongo.Pipeline{}, opts)
	if err != nil {
		return err
	}
	defer stream.Close(context.WithoutCancel(ctx))
	log.Print("streaming")
	for stream.Next(ctx) {
		handle(stream.Current)
		cp, err := state.At(stream.ResumeToken())
		if err != nil {
			return err
		}
		if err := store.Save(ctx, "orders", cp); err != nil {
			return err
		}
	}
	return stream.Err()
}
