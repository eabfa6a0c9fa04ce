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

// A pipeline of the Rust crate goes on where it stood.
func ExampleStore_LoadCrate() {
	ctx := context.Background()
	server, err := redisserver.New(ctx, nil) // yours is there already
	if errors.Is(err, redisserver.ErrNotInstalled) {
		fmt.Print("[users]\n8263A1\n") // nothing to show it on
		return
	} else if err != nil {
		panic(err)
	}
	defer server.Close()
	token, _ := bson.Marshal(bson.D{{Key: "_data", Value: "8263A1"}})
	if _, err := server.Do(ctx, "SET", "rigatoni:resume_token:users", string(token)); err != nil { // as the crate does
		panic(err)
	}

	store, err := redisstore.Open(ctx, server.URL(), nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	names, err := store.CrateNames(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(names)
	crate, err := store.LoadCrate(ctx, "users")
	if err != nil {
		panic(err)
	}
	cp, err := state.At(crate.Raw())
	if err != nil {
		panic(err)
	}
	if err := store.Save(ctx, "shop", cp); err != nil { // Config.Name of the new pipeline
		panic(err)
	}

	cp, err = store.Load(ctx, "shop")
	if err != nil {
		panic(err)
	}
	fmt.Println(cp.Token.Raw().Lookup("_data").StringValue())
	// Output:
	// [users]
	// 8263A1
}
