package postgres

import (
	"errors"

	"github.com/rigatoni-etl/rigatoni"
)

var errDeliverAt = rigatoni.Permanent(errors.New("postgres: events are taken with their checkpoint only (DeliverAt)"))

// finish notes what a delivery has seen, if it succeeded.
func (s *session) finish(err error, b *rigatoni.Batch) error {
	if err == nil {
		s.last = b.Events[len(b.Events)-1].ClusterTime()
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
