package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

var errDeliverAt = rigatoni.Permanent(errors.New("postgres: events are taken with their checkpoint only (DeliverAt)"))

// finish notes what a delivery has seen, if it succeeded, and otherwise finds out who is
// to blame: the checkpoint's table, that of a collection, or an event. The transaction
// has ended. A constraint that is checked at COMMIT, and fails, has rolled back: the
// server has said so.
func (s *session) finish(ctx context.Context, err error, b *rigatoni.Batch) error {
	var w *writeError
	switch {
	case err == nil:
		s.last = b.Events[len(b.Events)-1].ClusterTime()
	case errors.As(err, &w):
		return s.blame(ctx, w.table, w.err)
	case isRowError(sqlState(err)) && !isPermanent(err) && !errors.As(err, new(*state.Error)):
		return refuseEvent("COMMIT refuses a row: %s (SQLSTATE %s)", message(err), sqlState(err))
	}
	return err
}

// blame says what an error of writing to a table means. Where somebody has dropped or
// changed the table, the server's error may look like one of the row: a new column that
// is NOT NULL. So the table is looked at before any event is refused.
func (s *session) blame(ctx context.Context, t *table, err error) error {
	if isPermanent(err) || errors.As(err, new(*state.Error)) {
		return err
	}
	if code := sqlState(err); code != "" && !passes(code) {
		if wrong := s.look(ctx, t); wrong != nil {
			return wrong
		}
	}
	return describeWriting(t, err)
}

// look looks at a table again that rows were written to. The error is Permanent if they
// can't be any more.
func (s *session) look(ctx context.Context, t *table) error {
	err := s.d.transact(ctx, func(tx pgx.Tx) error {
		f, err := s.d.look(ctx, tx, t.name)
		if errors.Is(err, pgx.ErrNoRows) {
			return s.isGone(claim{name: t.name, mode: s.d.opts.form(), ns: t.ns})
		}
		if err != nil {
			return err
		}
		return s.d.checkShape(ctx, tx, t.name, f)
	})
	return describeOpening(err)
}
