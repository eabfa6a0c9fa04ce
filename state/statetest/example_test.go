package statetest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
)

// A mapStore is a custom store: a lock, a map, and the rule book.
type mapStore struct {
	mu   sync.Mutex
	recs map[string]record.Record
}

func (s *mapStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	err := record.CheckSave(key, cp)
	if err == nil {
		err = s.change(ctx, key, func(old record.Record) (record.Record, error) {
			return record.Admit(old, state.Fence{}, cp.Clone(), time.Now())
		})
	}
	return wrap("save", key, err)
}

func (s *mapStore) Load(ctx context.Context, key string) (cp state.Checkpoint, err error) {
	if err = state.CheckKey(key); err == nil {
		err = s.change(ctx, key, func(old record.Record) (record.Record, error) {
			cp, err = old.Load()
			return old, err
		})
	}
	return cp.Clone(), wrap("load", key, err)
}

func (s *mapStore) Clear(ctx context.Context, key string) error {
	err := state.CheckKey(key)
	if err == nil {
		err = s.change(ctx, key, func(old record.Record) (record.Record, error) {
			return record.AdmitClear(old, state.Fence{}, time.Now())
		})
	}
	return wrap("clear", key, err)
}

func (s *mapStore) change(ctx context.Context, key string, do func(old record.Record) (record.Record, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := do(s.recs[key])
	switch {
	case err != nil:
	case rec.IsEmpty():
		delete(s.recs, key)
	default:
		s.recs[key] = rec
	}
	return err
}

func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "mapstore", Key: key, Err: err}
}

// harness says how to get at a mapStore. It lives in memory, so that every handle
// is the same store; what it keeps can be counted.
func (s *mapStore) harness() statetest.Harness {
	return statetest.Harness{
		Open:     func(context.Context) (state.Store, error) { return s, nil },
		Volatile: true,
		Stored: func(context.Context) (int, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.recs), nil
		},
	}
}

// The one test that the author of a store writes first.
func TestMapStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		return (&mapStore{recs: make(map[string]record.Record)}).harness()
	})
}

// A program tries a store that its user points it at, and shows the report.
func ExampleCheck() {
	store := &mapStore{recs: make(map[string]record.Record)}
	report, err := statetest.Check(context.Background(), store.harness())
	if err != nil {
		fmt.Println(err)
		fmt.Print(report)
		return
	}
	fmt.Println(len(report.Failed()), "cases failed")
	// Output: 0 cases failed
}
