package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
)

// Apply is what a sink does with a batch in its transaction, without the checkpoint.
func Apply(sink rigatoni.Sink) TxFunc {
	return func(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch) error {
		switch s := sink.(type) {
		case *mirrorSink:
			c, err := s.collect(ctx, b)
			if err != nil {
				return err
			}
			return s.apply(c)(ctx, tx, b)
		case *logSink:
			tables, err := s.collect(ctx, b)
			if err != nil {
				return err
			}
			return s.apply(tables)(ctx, tx, b)
		}
		panic("no sink of this package")
	}
}
