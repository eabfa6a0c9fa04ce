package mongodb_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
)

// perKey is a mirror that gives each stream collections of its own, because those of
// destinationtest have all the same one. They refuse documents with a negative n.
type perKey struct {
	*mongodb.Destination
	l      lab
	client *mongo.Client
	o      mongodb.Options
}

func newPerKey(l lab, client *mongo.Client, timeout time.Duration) (perKey, error) {
	o := *l.options()
	o.TransactionTimeout = timeout
	d, err := mongodb.New(client, &o)
	return perKey{d, l, client, o}, err
}

func (d perKey) Open(ctx context.Context, at rigatoni.Opening) (rigatoni.Sink, error) {
	coll := d.l.collOf(at.Key)
	notNegative := bson.D{{Key: "n", Value: bson.D{{Key: "$gte", Value: 0}}}}
	err := coll.Database().CreateCollection(ctx, coll.Name(), options.CreateCollection().SetValidator(notNegative))
	if answer := (mongo.CommandError{}); err != nil && !(errors.As(err, &answer) && answer.Name == "NamespaceExists") {
		return nil, err
	}
	o := d.o
	o.Target = coll.Database().Name() + "." + coll.Name()
	own, err := mongodb.New(d.client, &o)
	if err != nil {
		return nil, err
	}
	return own.Open(ctx, at)
}

// collOf is the collection for the mirror of one key.
func (l lab) collOf(key string) *mongo.Collection {
	return l.client.Database(l.db + "_items").Collection(fmt.Sprintf("%x", sha256.Sum256([]byte(key))))
}

// A mirror keeps the contract, on a real server, with a fault at each command that it sends.
func TestMirror(t *testing.T) {
	t.Parallel()
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		l := newLab(t)
		t.Parallel()
		return destinationtest.Harness{
			Mirror: true, Short: !campaign.Full(t), Refused: refused,
			Open: func(context.Context) (rigatoni.Destination, error) { return newPerKey(l, l.client, callTimeout) },
			OpenFaulty: func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
				f := &faults{Fault: fault}
				d, err := newPerKey(l, connect(t, l.uri, f), faultyTimeout)
				return d, f.reached, err
			},
			Read: func(ctx context.Context, key string) ([]destinationtest.Record, error) {
				cur, err := l.collOf(key).Find(ctx, bson.D{})
				if err != nil {
					return nil, err
				}
				var docs []bson.Raw
				if err := cur.All(ctx, &docs); err != nil {
					return nil, err
				}
				records := make([]destinationtest.Record, len(docs))
				for i, doc := range docs {
					records[i] = destinationtest.Record{ID: doc.Lookup("_id").Int32(), N: number(doc)}
				}
				return records, nil
			},
		}
	})
}
