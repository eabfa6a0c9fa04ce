package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

func want(t testing.TB, err, target error, what string) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, target)
	}
}

func checkpoint(t testing.TB, data string, sequence uint64) state.Checkpoint {
	t.Helper()
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := state.At(doc)
	if err != nil {
		t.Fatal(err)
	}
	cp.Sequence = sequence
	return cp
}

// at returns the URL of a collection on a server.
func at(uri, ns string) string {
	base, query, _ := strings.Cut(uri, "?")
	return strings.TrimSuffix(base, "/") + "/" + ns + "?" + query
}

func open(t testing.TB, url string, o *mongostore.Options) *mongostore.Store {
	t.Helper()
	if o == nil {
		o = &mongostore.Options{CallTimeout: time.Minute}
	}
	s, err := mongostore.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { want(t, s.Close(), nil, "Close") })
	return s
}

func client(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Disconnect(ended) // the error is that context's
	})
	return c
}

func set(field string, v any) bson.D {
	return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: v}}}}
}

// damages are the ways in which a document can be spoiled.
var damages = []bson.D{
	set("checkpoint.token", "x"),
	set("checkpoint.token", bson.D{}),
	set("checkpoint", "x"),
	set("checkpoint.extra", bson.A{bson.D{{Key: "name", Value: "x"}, {Key: "json", Value: "{"}}}),
	{{Key: "$unset", Value: bson.D{{Key: "version", Value: ""}}}},
	{{Key: "$unset", Value: bson.D{{Key: "checkpoint.token", Value: ""}}}},
	set("epoch", "seven"),
	set("rev", -1),
	set("leaseUntil", "soon"),
	set("lastSequence", -5),
}

func harness(uri, ns string, c *mongo.Client) statetest.Harness {
	db, name, _ := strings.Cut(ns, ".")
	coll := c.Database(db).Collection(name)
	var damage atomic.Int64
	update := func(ctx context.Context, key string, update bson.D) error {
		r, err := coll.UpdateOne(ctx, bson.D{{Key: "_id", Value: key}}, update)
		if err == nil && r.MatchedCount != 1 {
			err = fmt.Errorf("there is no document of %q", key)
		}
		return err
	}
	return statetest.Harness{
		Open: func(ctx context.Context) (state.Store, error) {
			return mongostore.Open(ctx, at(uri, ns), &mongostore.Options{CallTimeout: 30 * time.Second})
		},
		Damage: func(ctx context.Context, key string) error {
			return update(ctx, key, damages[int(damage.Add(1)-1)%len(damages)])
		},
		Newer: func(ctx context.Context, key string) error { return update(ctx, key, set("version", int64(2))) },
		ExpireLease: func(ctx context.Context, key string) error {
			return update(ctx, key, set("leaseUntil", time.UnixMilli(1)))
		},
		Stored: func(ctx context.Context) (int, error) {
			n, err := coll.CountDocuments(ctx, bson.D{})
			return int(n), err
		},
	}
}

// TestStore holds the store to its contract on the embedded server, which can be broken.
func TestStore(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		server := mongotest.Start(t)
		h := harness(server.URI()+"&serverSelectionTimeoutMS=5000", "rigatoni.checkpoints", client(t, server.URI()))
		h.Break = func(context.Context) error {
			server.StepDown(time.Hour)
			return nil
		}
		h.Restore = func(context.Context) error {
			server.StepUp()
			return nil
		}
		return h
	})
}

// TestStoreOnAReplicaSet does the same on a real one.
func TestStoreOnAReplicaSet(t *testing.T) {
	t.Parallel()
	db := mongod.ForTest(t)
	c := client(t, db.URI)
	var run atomic.Int64
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		h := harness(db.URI, fmt.Sprintf("%s.c%d", db.Name, run.Add(1)), c)
		h.Short = !campaign.Full(t)
		return h
	})
}
