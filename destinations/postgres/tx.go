package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// A TxFunc does what the events of a batch are to do, with tx. It neither commits nor
// rolls back: that is done when it returns. What it does elsewhere (a call over the
// network, another connection) is repeated where the transaction is.
//
// After an error the transaction is rolled back, and the batch is tried again, as any
// sink's is; [rigatoni.Permanent] refuses it.
type TxFunc func(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch) error

// TxOptions are those of [OpenTx]. Nil *TxOptions, and the zero value of each field, are
// the defaults.
type TxOptions struct {
	// Checkpoints are the options of the table of the checkpoints. Its CallTimeout
	// bounds how long a transaction waits for a lock, and how long the server lets it
	// stand idle: a TxFunc that does something else for longer has it ended.
	Checkpoints pgstore.Options
}

// A TxDestination runs a TxFunc. It is safe for concurrent use.
type TxDestination struct {
	store *pgstore.Store
	fn    TxFunc
}

var _ rigatoni.Checkpointer = (*TxDestination)(nil)

// Tx is a destination that calls fn for each batch, in the transaction that saves the
// checkpoint after it, under the fence of the lease. The caller closes the pool, after
// the pipeline has ended. A pipeline uses up to three connections at once for each
// stream.
func Tx(pool *pgxpool.Pool, fn TxFunc) *TxDestination {
	d, err := OpenTx(pool, fn, nil)
	if err != nil {
		panic(err) // the defaults are in order
	}
	return d
}

// OpenTx is [Tx] with options. The error is state.ErrInvalid for one that is wrong.
func OpenTx(pool *pgxpool.Pool, fn TxFunc, o *TxOptions) (*TxDestination, error) {
	if o == nil {
		o = &TxOptions{}
	}
	store, err := pgstore.New(pool, &o.Checkpoints)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return &TxDestination{store: store, fn: fn}, nil
}

// Checkpoints is the store of the checkpoints. It has leases.
func (d *TxDestination) Checkpoints() state.Store { return d.store }

// Open begins a session. What fn has written is not known here: a first start is not
// refused.
func (d *TxDestination) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &txSink{store: d.store, fn: d.fn, key: o.Key}, nil
}

// A txSink is the sink of one session.
type txSink struct {
	store *pgstore.Store
	fn    TxFunc
	key   string
}

var _ rigatoni.Transactional = (*txSink)(nil)

// Deliver fails: the pipeline calls DeliverAt.
func (s *txSink) Deliver(context.Context, *rigatoni.Batch) error {
	return rigatoni.Permanent(errors.New("postgres: events are taken with their checkpoint only (DeliverAt)"))
}

// DeliverAt calls the function and saves cp in one transaction.
//
// SaveTx comes first: it locks the record, so that an earlier attempt whose COMMIT is
// still under way is waited for, and then found; and so that an owner that has lost the
// lease does nothing at all.
func (s *txSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	tx, err := s.store.BeginTx(ctx)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	err = s.apply(ctx, tx, b, f, cp)
	if err == nil {
		err = commit(ctx, tx)
	}
	if errors.Is(err, errRepeated) {
		err = nil
	}
	// Where this fails, the driver closes the connection, and the server rolls back.
	_ = tx.Rollback(ctx)
	return err
}

// errRepeated: an earlier attempt was committed.
var errRepeated = errors.New("the checkpoint is saved already")

func (s *txSink) apply(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	repeated, err := s.store.SaveTx(ctx, tx, s.key, f, cp)
	switch {
	case errors.Is(err, state.ErrRefused) && isTableError(sqlState(err)):
		return refusal{err} // of the table of the checkpoints: no event is refused for it
	case err != nil:
		return err
	case repeated:
		return errRepeated
	}
	return s.fn(ctx, tx, b)
}

// commit commits. Whether it was done, where it fails, shows in the next attempt. An
// error here is never Permanent, which would say that nothing took effect.
func commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxClosed):
		return errors.New("postgres: the function has ended the transaction, which DeliverAt does")
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return errors.New("postgres: a statement failed and the function returned no error; the transaction was rolled back")
	}
	return fmt.Errorf("postgres: commit: %w", pgstore.OneLine(err))
}
