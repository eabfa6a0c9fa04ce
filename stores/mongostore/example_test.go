package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

func Example() {
	ctx := context.Background()
	server, err := mongotest.Listen(ctx, mongotest.Options{}) // yours is there already
	if err != nil {
		panic(err)
	}
	defer server.Close()
	url := strings.Replace(server.URI(), "/?", "/rigatoni.checkpoints?", 1) // mongodb://a,b,c/rigatoni.checkpoints

	store, err := mongostore.Open(ctx, url, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()

	_, err = store.Load(ctx, "orders")
	fmt.Println("first start:", errors.Is(err, state.ErrNotFound))

	resumeToken, _ := bson.Marshal(bson.D{{Key: "_data", Value: "000102"}}) // as stream.ResumeToken()
	cp, err := state.At(resumeToken)
	if err != nil {
		panic(err)
	}
	if err := store.Save(ctx, "orders", cp); err != nil {
		panic(err)
	}
	cp, err = store.Load(ctx, "orders")
	if err != nil {
		panic(err)
	}
	fmt.Println(cp.Token.Raw().Lookup("_data").StringValue())
	// Output:
	// first start: true
	// 000102
}

// A checkpoint, and a document that belongs to it, in one transaction. (Destinations do this:
// see package destinations/mongodb.)
func ExampleStore_Transactions() {
	save := func(ctx context.Context, store *mongostore.Store, docs *mongo.Collection, f state.Fence, cp state.Checkpoint) error {
		txs, err := store.Transactions("orders")
		if err != nil {
			return err
		}
		defer txs.Close()
		return txs.Save(ctx, f, cp, func(ctx context.Context) error {
			_, err := docs.InsertOne(ctx, bson.D{{Key: "order", Value: 7}})
			return err
		})
	}
	_ = save
}
