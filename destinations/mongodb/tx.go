package mongodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

// A TxFunc does what the events of a batch are to do, inside a transaction: every call of
// the driver that gets ctx belongs to it. It neither commits nor aborts: that is done when
// it returns. What it does elsewhere (a call over the network, a call without ctx) is
// repeated where the transaction is.
//
// After an error the transaction is aborted, and the batch is tried again, as any sink's
// is; [rigatoni.Permanent] refuses it. An error of the driver is to be returned, wrapped or
// as it is: a conflict with other writes has the function called again at once.
type TxFunc func(ctx context.Context, b *rigatoni.Batch) error

// TxOptions are those of [OpenTx]. Nil *TxOptions, and the zero value of each field, are
// the defaults.
type TxOptions struct {
	// Checkpoints is the collection of the checkpoints, DATABASE.COLLECTION. The default
	// is "rigatoni.checkpoints".
	Checkpoints string
	// CallTimeout and TransactionTimeout are those of [mongostore.Options].
	CallTimeout, TransactionTimeout time.Duration
}

// A TxDestination runs a TxFunc. It is safe for concurrent use.
type TxDestination struct {
	client      *mongo.Client
	checkpoints string
	store       *mongostore.Store
	fn          TxFunc
}

var (
	_ rigatoni.Checkpointer   = (*TxDestination)(nil)
	_ rigatoni.OpeningChecker = (*TxDestination)(nil)
)

// Tx is a destination that calls fn for each batch, in the transaction that saves the
// checkpoint after it, under the fence of the lease. The caller disconnects the client,
// after the pipeline has ended.
func Tx(client *mongo.Client, fn TxFunc) *TxDestination {
	d, err := OpenTx(client, fn, nil)
	if err != nil {
		panic(err) // the client is nil
	}
	return d
}

// OpenTx is [Tx] with options. The error is state.ErrInvalid for one that is wrong. It does
// not connect.
func OpenTx(client *mongo.Client, fn TxFunc, o *TxOptions) (*TxDestination, error) {
	if o == nil {
		o = &TxOptions{}
	}
	opts, err := (&Options{Checkpoints: o.Checkpoints, CallTimeout: o.CallTimeout, TransactionTimeout: o.TransactionTimeout}).complete()
	if err != nil {
		return nil, err
	}
	store, err := opts.store(client)
	if err != nil {
		return nil, err
	}
	return &TxDestination{client: client, checkpoints: opts.Checkpoints, store: store, fn: fn}, nil
}

// Checkpoints is the store of the checkpoints. It has leases.
func (d *TxDestination) Checkpoints() state.Store { return d.store }

// Open begins a session. What fn has written is not known here: a first start is not
// refused. A stream that watches the collection of the checkpoints is: each save would be
// an event.
func (d *TxDestination) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	if err := d.CheckOpening(ctx, o); err != nil {
		return nil, err
	}
	txs, err := d.store.Transactions(o.Key)
	if err != nil {
		return nil, fmt.Errorf("mongodb: %w", err)
	}
	return &txSink{txs: txs, fn: d.fn}, nil
}

// CheckOpening reports whether Open would refuse.
func (d *TxDestination) CheckOpening(ctx context.Context, o rigatoni.Opening) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.store.Check(ctx); err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	return checkLoop(ctx, d.client, d.checkpoints, o, nil)
}

// A txSink is the sink of one session.
type txSink struct {
	txs *mongostore.Transactions
	fn  TxFunc
}

var (
	_ rigatoni.Transactional = (*txSink)(nil)
	_ io.Closer              = (*txSink)(nil)
)

// errDeliver: the pipeline calls DeliverAt.
var errDeliver = rigatoni.Permanent(errors.New("mongodb: events are taken with their checkpoint only (DeliverAt)"))

// Deliver fails.
func (s *txSink) Deliver(context.Context, *rigatoni.Batch) error { return errDeliver }

// DeliverAt calls the function and saves cp in one transaction.
func (s *txSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	return s.txs.Save(ctx, f, cp, func(ctx context.Context) error { return s.fn(ctx, b) })
}

// Close ends the session of the transactions.
func (s *txSink) Close() error {
	s.txs.Close()
	return nil
}
