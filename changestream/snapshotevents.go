package changestream

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// What a change event means for a copy that is under way.

// delivers reports whether an event is to be delivered: one of a key that is not copied
// yet is not, because the copy will have what it did.
//
// A resumed copy delivers deletes in any case: before the crash the document may have
// been delivered, past the cursor of the checkpoint, and the copy won't find it again.
func (s *copyState) delivers(ev rigatoni.Event, resumed bool) bool {
	id, err := ev.DocumentKey().LookupErr("_id")
	if err != nil {
		return true // of no single document
	}
	at, ok := s.find(ev.Namespace())
	if !ok {
		return true // copied, or created since
	}
	if s.runs[at.run].again {
		return true // the destination may know the document
	}
	if resumed && ev.OperationType() == "delete" {
		return true
	}
	if at.active < 0 {
		return false
	}
	c := s.runs[at.run].active[at.active]
	return c.unordered || c.copied(id)
}

// copied reports whether the document of that _id is past the cursor of its range.
func (c *collectionCopy) copied(id bson.RawValue) bool {
	key, err := resumetoken.KeyString(id)
	if err != nil {
		return true // rather delivered too early than lost
	}
	for _, r := range c.ranges {
		if r.has(string(key)) {
			return r.copied(string(key))
		}
	}
	return true // its range is finished
}

// after is the state after an event: a collection that was dropped needs no copy any
// more, and one that was renamed is copied under its new name.
func (s *copyState) after(ev rigatoni.Event, sc scope) *copyState {
	if s == nil {
		return nil
	}
	switch ns := ev.Namespace(); ev.OperationType() {
	case "drop":
		return s.dropped(ns, ev.ClusterTime())
	case "dropDatabase":
		for _, name := range s.names() {
			if name.DB == ns.DB {
				s = s.dropped(name, ev.ClusterTime())
			}
		}
	case "rename":
		return s.renamed(ev, sc)
	}
	return s
}

// concerns reports whether an event of a time concerns a collection of the state: one
// up to the time of the list is in the list already, and about an earlier collection.
func (s *copyState) concerns(ns rigatoni.Namespace, t bson.Timestamp) bool {
	at, ok := s.find(ns)
	return ok && t.After(s.runs[at.run].listed)
}

// dropped is the state without a collection, which counts as copied.
func (s *copyState) dropped(ns rigatoni.Namespace, t bson.Timestamp) *copyState {
	if !s.concerns(ns, t) {
		return s
	}
	return s.forget(ns)
}

func (s *copyState) renamed(ev rigatoni.Event, sc scope) *copyState {
	from, to, t := ev.Namespace(), newNameOf(ev), ev.ClusterTime()
	_, has := s.find(to)
	switch copying := s.concerns(from, t); {
	case has && !s.concerns(to, t):
		// The list has what came of it under this name, and nothing of that is copied.
		return s.dropped(from, t)
	case copying:
		return s.forget(to).move(from, to, sc)
	case sc.covers(from):
		return s.forget(to) // what replaces it is copied
	case sc.covers(to):
		return s.forget(to).startOver(to, ev)
	}
	return s
}

// move gives a collection that is being copied its new name, cursors and all.
func (s *copyState) move(from, to rigatoni.Namespace, sc scope) *copyState {
	if !sc.covers(to) {
		return s.forget(from)
	}
	at, ok := s.find(from)
	if !ok {
		return s
	}
	if at.active >= 0 {
		c := *s.runs[at.run].active[at.active]
		c.ns = to
		return s.replace(at, &c)
	}
	return s.edit(func(s *copyState) {
		run := &s.runs[at.run]
		run.pending = run.pending.with(to).without(from)
	})
}

// startOver adds a collection that came into the scope under its present name: nobody
// knows its documents, so they are copied from nothing.
func (s *copyState) startOver(ns rigatoni.Namespace, ev rigatoni.Event) *copyState {
	began, err := ev.Token()
	if err != nil {
		return s
	}
	run := copyRun{began: began, listed: ev.ClusterTime(), pending: newPendingNames([]rigatoni.Namespace{ns})}
	if s == nil {
		s = &copyState{}
	}
	return s.edit(func(s *copyState) {
		s.runs = append(s.runs, run)
		s.figures.Collections++
	})
}

// onlyForCopy reports whether an event is one that the stream has for the sake of a copy
// alone: Options.Operations leave it out.
func (s scope) onlyForCopy(ev rigatoni.Event) bool {
	op := ev.OperationType()
	return len(s.operations) > 0 && (op == "drop" || op == "rename") && !slices.Contains(s.operations, op)
}

// covers reports whether the events of a namespace belong to the scope.
func (s scope) covers(ns rigatoni.Namespace) bool {
	matches := func(pattern string) bool { return glob.Match(pattern, ns.Coll) }
	switch {
	case ns.Coll == "" || strings.HasPrefix(ns.Coll, "system."), !s.hasDatabase(ns.DB):
		return false
	case len(s.collections) == 0:
		return true
	}
	return slices.ContainsFunc(s.collections, matches)
}

// hasDatabase reports whether a database belongs to the scope.
func (s scope) hasDatabase(db string) bool {
	if db == "admin" || db == "config" || db == "local" {
		return db == s.database
	}
	return s.database == "" || glob.Match(s.database, db)
}
