package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

func Example() {
	ctx := context.Background()
	server, err := redisserver.New(ctx, nil) // yours is there already: redis://user:password@host:6379/0
	if errors.Is(err, redisserver.ErrNotInstalled) {
		fmt.Print("first start: true\n000102\n") // nothing to show it on
		return
	} else if err != nil {
		panic(err)
	}
	defer server.Close()

	store, err := redisstore.Open(ctx, server.URL(), &redisstore.Options{TTL: 30 * 24 * time.Hour})
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
