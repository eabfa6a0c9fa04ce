package mongostore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

// A ledger is a store, and a collection of numbers that are written with its checkpoints.
type ledger struct {
	store *mongostore.Store
	rows  *mongo.Collection
	txs   *mongostore.Transactions
	fence state.Fence
}

func newLedger(t *testing.T, db *mongod.Database) *ledger {
	t.Helper()
	c := client(t, db.URI)
	s, err := mongostore.New(c, db.Name, "checkpoints", &mongostore.Options{CallTimeout: 30 * time.Second, TransactionTimeout: 30 * time.Second})
	want(t, err, nil, "New")
	want(t, s.Check(t.Context()), nil, "Check")
	txs, err := s.Transactions("k")
	want(t, err, nil, "Transactions")
	t.Cleanup(txs.Close)
	g, err := s.Acquire(t.Context(), "k", state.LeaseRequest{Owner: "test", Nonce: state.NewNonce(), TTL: time.Minute, Steal: true})
	want(t, err, nil, "Acquire")
	return &ledger{s, c.Database(db.Name).Collection("rows"), txs, g.Fence}
}

func (l *ledger) insert(n int) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := l.rows.InsertOne(ctx, bson.D{{Key: "n", Value: n}})
		return err
	}
}

func (l *ledger) wantRows(t *testing.T, when string, rows ...int) {
	t.Helper()
	cur, err := l.rows.Find(t.Context(), bson.D{})
	want(t, err, nil, "Find")
	var docs []struct{ N int }
	want(t, cur.All(t.Context(), &docs), nil, "All")
	got := []int{}
	for _, d := range docs {
		got = append(got, d.N)
	}
	if slices.Sort(got); !slices.Equal(got, rows) {
		t.Errorf("%s: the rows are %d, want %d", when, got, rows)
	}
}

// A transaction saves the checkpoint with what it writes, or neither; once, also if it is repeated;
// and under the current fence only.
func TestTransactions(t *testing.T) {
	db := mongod.ForTest(t)
	l := newLedger(t, db)
	ctx := t.Context()
	first, second := checkpoint(t, "82AA", 1), checkpoint(t, "82AB", 2)
	no := errors.New("no")

	want(t, l.txs.Save(ctx, l.fence, first, l.insert(1)), nil, "Save")
	want(t, l.txs.Save(ctx, l.fence, second, func(ctx context.Context) error { return errors.Join(l.insert(2)(ctx), no) }), no, "Save with an error")
	l.wantRows(t, "after an error", 1)
	repeated, err := l.txs.Before(ctx, l.fence, second, l.insert(20))
	if err != nil || repeated {
		t.Errorf("Before: %v, %v", repeated, err)
	}
	for range 2 { // the second time as if the answer to the first had been lost
		want(t, l.txs.Save(ctx, l.fence, second, l.insert(2)), nil, "Save")
	}
	if repeated, err := l.txs.Before(ctx, l.fence, second, l.insert(21)); err != nil || !repeated {
		t.Errorf("Before what is saved: %v, %v", repeated, err)
	}
	want(t, l.txs.Save(ctx, l.fence, first, l.insert(3)), state.ErrStale, "Save of an older sequence")
	want(t, l.txs.Save(ctx, l.fence, checkpoint(t, "82AC", 2), l.insert(3)), state.ErrStale, "Save of the same sequence with another token")
	want(t, l.txs.Fenced(ctx, l.fence, l.insert(30)), nil, "Fenced")
	l.wantRows(t, "before the next owner", 1, 2, 20, 30)
	cp, err := l.store.Load(ctx, "k")
	if err != nil || cp.Sequence != 2 {
		t.Errorf("the checkpoint is %d, %v", cp.Sequence, err)
	}

	next := newLedger(t, db)
	for name, f := range map[string]state.Fence{"the old one": l.fence, "none": {}} {
		want(t, l.txs.Save(ctx, f, checkpoint(t, "82AC", 3), l.insert(4)), state.ErrFenced, "Save under a fence that is "+name)
		want(t, l.txs.Fenced(ctx, f, l.insert(4)), state.ErrFenced, "Fenced under a fence that is "+name)
		_, err := l.txs.Before(ctx, f, checkpoint(t, "82AC", 3), l.insert(4))
		want(t, err, state.ErrFenced, "Before under a fence that is "+name)
	}
	want(t, next.txs.Save(ctx, next.fence, checkpoint(t, "82AC", 3), next.insert(5)), nil, "Save by the next owner")
	next.wantRows(t, "at the end", 1, 2, 5, 20, 30)
}

// Who acquires the lease ends the transaction of the owner before, which is open; a renewal of the
// owner's own keeps it, and waits for it.
func TestAcquireEndsTransaction(t *testing.T) {
	db := mongod.ForTest(t)
	l := newLedger(t, db)
	inside, goOn, renewed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- l.txs.Save(t.Context(), l.fence, checkpoint(t, "82AA", 1), func(ctx context.Context) error {
			select {
			case <-inside:
			default:
				close(inside)
			}
			<-goOn
			return l.insert(1)(ctx)
		})
	}()
	<-inside
	go func() { renewed <- l.store.Renew(t.Context(), "k", l.fence, time.Minute) }()
	began := time.Now()
	next := newLedger(t, db)
	if took := time.Since(began); took > 25*time.Second { // the server would end it after a minute
		t.Errorf("Acquire took %v", took)
	}
	close(goOn)
	want(t, <-ended, state.ErrFenced, "the transaction of the owner before")
	<-renewed // before the next owner, or fenced off
	next.wantRows(t, "at the end")
}
