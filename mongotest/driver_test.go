package mongotest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func connect(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = client.Disconnect(ctx) // the server may be gone
	})
	return client
}

// both runs a test through the driver on mongotest, and on a real server if
// there is one.
func both(t *testing.T, run func(t *testing.T, db *mongo.Database)) {
	t.Run("mongotest", func(t *testing.T) {
		run(t, connect(t, Start(t).URI()).Database("shop"))
	})
	t.Run("mongod", func(t *testing.T) {
		db := mongod.ForTest(t)
		run(t, connect(t, db.URI).Database(db.Name))
	})
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func id(n int) bson.D { return bson.D{{Key: "_id", Value: int32(n)}} }

func insertIDs(t testing.TB, c *mongo.Collection, ids ...int) {
	t.Helper()
	for _, n := range ids {
		if _, err := c.InsertOne(t.Context(), id(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// nextIDs reads the documentKeys of n events.
func nextIDs(t testing.TB, cs *mongo.ChangeStream, n int) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var ids []int
	for len(ids) < n {
		if !cs.Next(ctx) {
			t.Fatalf("the stream ended after %v: %v", ids, cs.Err())
		}
		ids = append(ids, int(cs.Current.Lookup("documentKey", "_id").AsInt64()))
	}
	return ids
}

func wantIDs(t testing.TB, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("events of %v, want %v", got, want)
	}
}

func TestDriverWatches(t *testing.T) {
	both(t, func(t *testing.T, db *mongo.Database) {
		c := db.Collection("c")
		cs := must[*mongo.ChangeStream](t)(c.Watch(t.Context(), mongo.Pipeline{}))
		defer cs.Close(t.Context())
		insertIDs(t, c, 1, 2, 3)
		wantIDs(t, nextIDs(t, cs, 2), 1, 2)
		again := must[*mongo.ChangeStream](t)(db.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(cs.ResumeToken())))
		defer again.Close(t.Context())
		wantIDs(t, nextIDs(t, again, 1), 3)
		n, err := c.CountDocuments(t.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: 1}}}})
		if n != 2 || err != nil {
			t.Errorf("%d documents, %v, want 2", n, err)
		}
	})
}

func TestDriverTransaction(t *testing.T) {
	both(t, func(t *testing.T, db *mongo.Database) {
		c := db.Collection("c")
		insertIDs(t, c, 0)
		cs := must[*mongo.ChangeStream](t)(c.Watch(t.Context(), mongo.Pipeline{}))
		defer cs.Close(t.Context())
		session := must[*mongo.Session](t)(db.Client().StartSession())
		defer session.EndSession(t.Context())
		_, err := session.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
			return c.InsertMany(ctx, []any{id(1), id(2), id(3)})
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		times := map[bson.Timestamp]int{}
		for range 3 {
			if !cs.Next(ctx) {
				t.Fatal(cs.Err())
			}
			ts, i := cs.Current.Lookup("clusterTime").Timestamp()
			times[bson.Timestamp{T: ts, I: i}]++
		}
		if len(times) != 1 {
			t.Errorf("the events of a transaction have %d times", len(times))
		}
	})
}

// Of two transactions that change one document, one must fail.
func TestTransactionsThatConflict(t *testing.T) {
	both(t, func(t *testing.T, db *mongo.Database) {
		c := db.Collection("c")
		insertIDs(t, c, 1)
		first := must[*mongo.Session](t)(db.Client().StartSession())
		defer first.EndSession(t.Context())
		if err := first.StartTransaction(); err != nil {
			t.Fatal(err)
		}
		ctx := mongo.NewSessionContext(t.Context(), first)
		if err := c.FindOne(ctx, id(1)).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.UpdateOne(t.Context(), id(1), bson.D{{Key: "$set", Value: bson.D{{Key: "by", Value: "other"}}}}); err != nil {
			t.Fatal(err)
		}
		_, err := c.UpdateOne(ctx, id(1), bson.D{{Key: "$set", Value: bson.D{{Key: "by", Value: "first"}}}})
		var e mongo.ServerError
		if !errors.As(err, &e) || !e.HasErrorCode(cmderr.WriteConflict) || !e.HasErrorLabel("TransientTransactionError") {
			t.Errorf("%v, want a write conflict", err)
		}
		_ = first.AbortTransaction(ctx) // it is aborted already
		var doc struct{ By string }
		if err := c.FindOne(t.Context(), id(1)).Decode(&doc); err != nil || doc.By != "other" {
			t.Errorf("%+v, %v, want the other one's", doc, err)
		}
	})
}

// followStream reads a collection's stream as a client should: after any
// interruption it is reopened after the last event.
func followStream(ctx context.Context, c *mongo.Collection, at *bson.Timestamp, event func(bson.Raw) bool) error {
	var token bson.Raw
	for ctx.Err() == nil {
		o := options.ChangeStream()
		if token != nil {
			o.SetResumeAfter(token)
		} else {
			o.SetStartAtOperationTime(at)
		}
		cs, err := c.Watch(ctx, mongo.Pipeline{}, o)
		if err != nil {
			continue
		}
		for cs.Next(ctx) {
			token = slices.Clone(cs.ResumeToken())
			if !event(cs.Current) {
				return cs.Close(ctx)
			}
		}
		_ = cs.Close(ctx) // it is broken already
	}
	return ctx.Err()
}

// A stream survives everything that can happen to connections, cursors and the
// primary: no event is lost and none is returned twice.
func TestSoak(t *testing.T) {
	events, faults := 3000, 20
	if campaign.Full(t) {
		events, faults = 100_000, 500
	}
	s := Start(t)
	seed := campaign.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	begin := s.store.lastTime()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		c := connect(t, s.URI()).Database("shop").Collection("c")
		for n := range events {
			for t.Context().Err() == nil {
				_, err := c.InsertOne(t.Context(), id(n))
				if err == nil || mongo.IsDuplicateKeyError(err) { // by an attempt whose answer was lost
					break
				}
			}
			if n%(events/faults) != 0 {
				continue
			}
			switch rng.IntN(3) {
			case 0:
				s.DropConnections()
			case 1:
				s.KillCursors()
			case 2:
				s.StepDown(5 * time.Millisecond)
			}
		}
	})
	n := 0
	err := followStream(t.Context(), connect(t, s.URI()).Database("shop").Collection("c"), &begin, func(event bson.Raw) bool {
		if got := event.Lookup("documentKey", "_id").AsInt64(); got != int64(n) {
			t.Errorf("event %d is of %d", n, got)
			return false
		}
		n++
		return n < events
	})
	if err != nil {
		t.Error(err)
	}
}

func TestManyServers(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			c := connect(t, Start(t).URI()).Database("shop").Collection("c")
			insertIDs(t, c, i)
			if n, err := c.EstimatedDocumentCount(t.Context()); n != 1 || err != nil {
				t.Errorf("%d documents, %v", n, err)
			}
		})
	}
}

func TestStartsInMilliseconds(t *testing.T) {
	best := time.Hour
	for range 10 {
		begin := time.Now()
		s, err := Listen(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, s.URI())
		c.call("admin", bson.D{{Key: "ping", Value: 1}})
		best = min(best, time.Since(begin))
		s.Close()
	}
	if best > 50*time.Millisecond {
		t.Errorf("it took %v to answer at best", best)
	}
}
