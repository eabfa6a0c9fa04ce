package destinationtest

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A refSweeper is a refTx that removes documents at the end of a copy.
type refSweeper struct {
	refTx
	fence state.Fence
}

func (db *refDB) setTokens(key string, events []rigatoni.Event) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.tokens[key] == nil {
		db.tokens[key] = map[int32]resumetoken.Token{}
	}
	for _, ev := range events {
		db.tokens[key][refRecord(ev).ID], _ = ev.Token()
	}
}

// before are the documents whose last event is before a token.
func (db *refDB) before(key, bug string, began resumetoken.Token) (ids []int32) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(db.tokens[key])) {
		order, ok := resumetoken.Compare(db.tokens[key][id], began)
		same := bug == "a sweep removes what is as new as the copy" && order == 0
		if ok && order < 0 || same || bug == "a sweep removes all" {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *refSweeper) Sweep(_ context.Context, end rigatoni.SnapshotEnd) error {
	db, bug := s.d.db, s.d.bug
	err := s.sweep(end)
	if bug == "a sweep hides its error" && errors.Is(err, errRef) {
		return nil
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if err == nil && bug == "a second sweep fails" {
		if db.swept {
			return errors.New("it is swept already")
		}
		db.swept = true
	}
	return err
}

func (s *refSweeper) sweep(end rigatoni.SnapshotEnd) error {
	db, bug := s.d.db, s.d.bug
	if err := s.d.step(); err != nil {
		return err
	}
	db.transaction.Lock()
	defer db.transaction.Unlock()
	if rec, _ := db.record(s.key); rec.Fence() != s.fence && bug != "a sweep ignores the fence" {
		return state.ErrFenced
	}
	if end.Namespace.String() != namespace && bug != "a sweep ignores the collection" || bug == "a sweep removes nothing" {
		return nil
	}
	for _, id := range db.before(s.key, bug, end.Began) {
		db.append(s.key, Record{ID: id})
	}
	return s.d.step()
}
