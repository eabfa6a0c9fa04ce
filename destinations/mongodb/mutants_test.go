package mongodb_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

// A delivery is the DeliverAt of a mutant.
type delivery func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error

// mutants are well-known mistakes in a transactional sink. The suite must find each.
var mutants = map[string]delivery{
	"the checkpoint in a transaction of its own": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		if err := s.transact(ctx, func(ctx context.Context) error { return s.insert(ctx, b) }); err != nil {
			return err
		}
		return s.store.SaveFenced(ctx, s.key, f, cp)
	},
	"the fence not checked in the transaction": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		return s.transact(ctx, func(ctx context.Context) error {
			var current struct {
				Epoch int64
				Nonce string
			}
			if err := s.checkpoints.FindOne(ctx, bson.D{{Key: "_id", Value: s.key}}).Decode(&current); err != nil {
				return err
			}
			cp.Sequence = 0 // or it would be found by its sequence
			if _, err := s.store.SaveTx(ctx, s.key, state.Fence{Epoch: uint64(current.Epoch), Nonce: current.Nonce}, cp); err != nil {
				return err
			}
			return s.insert(ctx, b)
		})
	},
	"the lost answer of a commit taken for failure": func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		return s.transact(ctx, func(ctx context.Context) error {
			if _, err := s.store.SaveTx(ctx, s.key, f, cp); err != nil {
				return err
			}
			return s.insert(ctx, b) // a repetition too
		})
	},
	lostForSuccess: func(s *mutantSink, ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		txs, err := s.store.Transactions(s.key)
		if err != nil {
			return err
		}
		defer txs.Close()
		err = txs.Save(ctx, f, cp, func(ctx context.Context) error { return s.insert(ctx, b) })
		if err != nil && strings.Contains(err.Error(), "commit") {
			err = nil
		}
		return err
	},
}

const lostForSuccess = "the lost answer of a commit taken for success"

// A mutantSink is a sink with a mistake.
type mutantSink struct {
	store       *mongostore.Store
	client      *mongo.Client
	checkpoints *mongo.Collection
	key         string
	insert      func(ctx context.Context, b *rigatoni.Batch) error
	deliver     delivery
}

func (s *mutantSink) Deliver(context.Context, *rigatoni.Batch) error {
	return rigatoni.Permanent(errors.New("DeliverAt only"))
}

func (s *mutantSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	return s.deliver(s, ctx, b, f, cp)
}

func (s *mutantSink) begin() (*mongo.Session, error) {
	session, err := s.client.StartSession()
	if err != nil {
		return nil, err
	}
	return session, session.StartTransaction(options.Transaction().SetWriteConcern(writeconcern.Majority()))
}

func (s *mutantSink) transact(ctx context.Context, do func(context.Context) error) error {
	session, err := s.begin()
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	if err := do(mongo.NewSessionContext(ctx, session)); err != nil {
		return err
	}
	return session.CommitTransaction(ctx)
}

// A mutant is its destination.
type mutant struct {
	*mongostore.Store
	l       lab
	client  *mongo.Client
	deliver delivery
}

func newMutant(l lab, client *mongo.Client, name string, timeout time.Duration) (mutant, error) {
	store, err := mongostore.New(client, l.db, "checkpoints", &mongostore.Options{CallTimeout: callTimeout, TransactionTimeout: timeout})
	return mutant{store, l, client, mutants[name]}, err
}

func (m mutant) Checkpoints() state.Store { return m.Store }

func (m mutant) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return &mutantSink{m.Store, m.client, m.client.Database(m.l.db).Collection("checkpoints"), o.Key, insert(rows(m.client, m.l.db), o.Key), m.deliver}, nil
}

func TestMutants(t *testing.T) {
	t.Parallel()
	for name := range mutants {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			must(t, l.client.Database(l.db).CreateCollection(t.Context(), "rows"))
			t.Parallel()
			h := destinationtest.Harness{
				Forgets: true, Short: true,
				Open: func(context.Context) (rigatoni.Destination, error) {
					return newMutant(l, l.client, name, callTimeout)
				},
				Read: readRows(l.client, l.db),
			}
			if name == lostForSuccess { // the others hold up their successors for a minute, too
				h.OpenFaulty = func(_ context.Context, fault destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
					f := &faults{Fault: fault}
					d, err := newMutant(l, connect(t, l.uri, f), name, faultyTimeout)
					return d, f.reached, err
				}
			}
			report, err := destinationtest.Check(t.Context(), h)
			if len(report.Failed()) == 0 {
				t.Fatalf("the mutant passes: %v", err)
			}
			for _, r := range report.Failed() {
				t.Logf("found by %s: %s", r.Name, r.Detail)
			}
		})
	}
}
