package rigatonitest

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Documents are those of the collection ns that a mirror of the events has, in the order
// in which they appeared: the last fullDocument of each that was not deleted, dropped or
// swept since. Its version is the token of the last event about it.
func (d *Database) Documents(ns string) (docs []bson.Raw) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := mirror{ns: parse(ns), docs: map[string]*version{}}
	for _, r := range d.rows {
		m.apply(r)
	}
	for _, key := range m.keys {
		if v := m.docs[key]; v.doc != nil {
			docs = append(docs, v.doc)
		}
	}
	return docs
}

// Sweeps are the sweeps of all committed transactions, in their order.
func (d *Database) Sweeps() (sweeps []rigatoni.SnapshotEnd) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rows {
		if r.sweep != nil {
			sweeps = append(sweeps, *r.sweep)
		}
	}
	return sweeps
}

// A mirror is the documents of one collection.
type mirror struct {
	ns   rigatoni.Namespace
	keys []string
	docs map[string]*version
}

type version struct {
	doc   bson.Raw // nil: it was removed
	token resumetoken.Token
}

func (m *mirror) apply(r row) {
	switch {
	case r.sweep != nil && r.sweep.Namespace == m.ns:
		for _, v := range m.docs {
			if order, ok := resumetoken.Compare(v.token, r.sweep.Began); ok && order < 0 {
				v.doc = nil
			}
		}
	case r.sweep == nil && r.event.Namespace() == m.ns:
		m.applyEvent(r.event)
	}
}

func (m *mirror) applyEvent(ev rigatoni.Event) {
	op := ev.OperationType()
	if op == "drop" || op == "rename" {
		m.keys, m.docs = nil, map[string]*version{}
		return
	}
	if ev.DocumentKey() == nil {
		return
	}
	key := keyText(ev)
	v := m.docs[key]
	if v == nil {
		v = &version{}
		m.docs[key] = v
		m.keys = append(m.keys, key)
	}
	v.token, _ = ev.Token() // without one the source would have refused it
	switch {
	case op == "delete":
		v.doc = nil
	case ev.FullDocument() != nil:
		v.doc = ev.FullDocument()
	}
}

var _ rigatoni.Sweeper = (*databaseSink)(nil)

// Sweep notes the end of a copy, in a transaction of its own. It is the example of how a
// transactional sink checks its fence there.
func (s *databaseSink) Sweep(ctx context.Context, end rigatoni.SnapshotEnd) error {
	return s.client.do(ctx, func(step func(Step) error) error {
		if err := step(Step{Point: Began, Sweep: true}); err != nil {
			return err
		}
		db := s.client.db
		defer db.begin()()
		rec := db.read(s.key)
		if rec.Fence() != s.fence {
			return fmt.Errorf("%w: another owner has the lease", state.ErrFenced)
		}
		if err := step(Step{Point: Admitted, Sweep: true}); err != nil {
			return err
		}
		if err := step(Step{Point: Committing, Sweep: true}); err != nil {
			return err
		}
		db.commit(s.key, rec, []row{{key: s.key, sweep: &end}})
		return step(Step{Point: Committed, Sweep: true})
	})
}
