package postgres

import (
	"errors"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

var errDeliverAt = rigatoni.Permanent(errors.New("postgres: events are taken with their checkpoint only (DeliverAt)"))

// finish notes what a delivery has seen, if it succeeded. A constraint that is checked
// at COMMIT, and fails, has rolled back: the server has said so.
func (s *session) finish(err error, b *rigatoni.Batch) error {
	switch {
	case err == nil:
		s.last = b.Events[len(b.Events)-1].ClusterTime()
	case isRowError(sqlState(err)) && !isPermanent(err) && !errors.As(err, new(*state.Error)):
		return refuseEvent("COMMIT refuses a row: %s (SQLSTATE %s)", message(err), sqlState(err))
	}
	return err
}

// failed says what an error of writing means. A table that somebody has changed is
// looked at again before the next attempt.
func (s *session) failed(t *table, err error) error {
	if isChanged(sqlState(err)) {
		delete(s.tables, t.ns)
	}
	return describeWriting(t, err)
}
