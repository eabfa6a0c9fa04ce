package mongod_test

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A server of one's own may be killed and started again on the same data.
func ExampleStart() {
	ctx := context.Background()
	server, err := mongod.Start(ctx, mongod.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Stop()
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Disconnect(ctx)

	if err := server.Kill(); err != nil {
		fmt.Println(err)
	}
	if err := server.Restart(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(client.Ping(ctx, nil))
}
