package destinationtest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// recordOf is what a reader finds of an event.
func recordOf(ev rigatoni.Event) (r destinationtest.Record) {
	r.ID = ev.DocumentKey().Lookup("_id").Int32()
	if n, err := ev.FullDocument().LookupErr("n"); err == nil {
		r.N = n.Int32()
	}
	return r
}

var errFault = errors.New("a fault of the test")

// faultOf counts the steps of a client, and has the fault at one of them.
func faultOf(f destinationtest.Fault) (fault func(rigatonitest.Step) rigatonitest.Fault, reached func() bool) {
	var mu sync.Mutex
	var steps atomic.Int64
	return func(s rigatonitest.Step) rigatonitest.Fault {
			mu.Lock()
			n := int(steps.Add(1)) - 1
			mu.Unlock()
			done := s.Point == rigatonitest.Committed || s.Point == rigatonitest.Executed
			switch {
			case n < f.Step, n > f.Step && f.Kind != destinationtest.Crash:
				return rigatonitest.Fault{}
			case f.Kind == destinationtest.Freeze:
				<-f.Thaw
				return rigatonitest.Fault{}
			case f.Kind == destinationtest.LoseAnswer && !done:
				return rigatonitest.Fault{}
			}
			return rigatonitest.Fault{Err: errFault}
		}, func() bool {
			return int(steps.Load()) > f.Step
		}
}

func TestDatabase(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		db := rigatonitest.NewDatabase()
		return destinationtest.Harness{
			Open: func(context.Context) (rigatoni.Destination, error) { return db.Client(nil), nil },
			OpenFaulty: func(_ context.Context, f destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
				fault, reached := faultOf(f)
				return db.Client(fault), reached, nil
			},
			Read: func(_ context.Context, key string) (records []destinationtest.Record, err error) {
				for _, ev := range db.EventsOf(key) {
					records = append(records, recordOf(ev))
				}
				return records, nil
			},
		}
	})
}

// TestFunc: a function that appends to a list is at least once.
func TestFunc(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		var mu sync.Mutex
		lists := map[string][]destinationtest.Record{}
		return destinationtest.Harness{
			Open: func(context.Context) (rigatoni.Destination, error) { return byKey{&mu, lists}, nil },
			Read: func(_ context.Context, key string) ([]destinationtest.Record, error) {
				mu.Lock()
				defer mu.Unlock()
				return lists[key], nil
			},
			Forgets: true,
			Refused: func(id int32) rigatoni.Event {
				return rigatonitest.Insert("destinationtest.items", bson.D{{Key: "_id", Value: id}, {Key: "n", Value: int32(-1)}})
			},
		}
	})
}

// byKey is a Func for each stream.
type byKey struct {
	mu    *sync.Mutex
	lists map[string][]destinationtest.Record
}

func (d byKey) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
		r := recordOf(ev)
		if r.N < 0 {
			return rigatoni.Permanent(errors.New("n is negative"))
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lists[o.Key] = append(d.lists[o.Key], r)
		return nil
	}), nil
}

// TestDatabaseMirror: the documents of a database, one for each key, are a mirror that sweeps.
func TestDatabaseMirror(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		m := &mirrors{dbs: map[string]*rigatonitest.Database{}}
		return destinationtest.Harness{
			Open: func(context.Context) (rigatoni.Destination, error) { return mirrorOf{m, nil}, nil },
			OpenFaulty: func(_ context.Context, f destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
				fault, reached := faultOf(f)
				return mirrorOf{m, fault}, reached, nil
			},
			Read: func(_ context.Context, key string) (records []destinationtest.Record, err error) {
				for _, doc := range m.of(key).Documents("destinationtest.items") {
					records = append(records, destinationtest.Record{ID: doc.Lookup("_id").Int32(), N: doc.Lookup("n").Int32()})
				}
				return records, nil
			},
			Mirror: true,
		}
	})
}

// mirrors are databases by key.
type mirrors struct {
	mu  sync.Mutex
	dbs map[string]*rigatonitest.Database
}

func (m *mirrors) of(key string) *rigatonitest.Database {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dbs[key] == nil {
		m.dbs[key] = rigatonitest.NewDatabase()
	}
	return m.dbs[key]
}

// mirrorOf is a client of the database of each key.
type mirrorOf struct {
	m     *mirrors
	fault func(rigatonitest.Step) rigatonitest.Fault
}

func (d mirrorOf) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return d.m.of(o.Key).Client(d.fault).Open(ctx, o)
}

func (d mirrorOf) Checkpoints() state.Store { return mirrorStore{d} }

// A mirrorStore is the stores of the databases.
type mirrorStore struct{ d mirrorOf }

func (s mirrorStore) of(key string) state.Leaser {
	store, _ := state.As[state.Leaser](s.d.m.of(key).Client(s.d.fault).Checkpoints())
	return store
}

func (s mirrorStore) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	return s.of(key).Load(ctx, key)
}

func (s mirrorStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.of(key).Save(ctx, key, cp)
}

func (s mirrorStore) Clear(ctx context.Context, key string) error { return s.of(key).Clear(ctx, key) }

func (s mirrorStore) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.of(key).SaveFenced(ctx, key, f, cp)
}

func (s mirrorStore) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	return s.of(key).ClearFenced(ctx, key, f)
}

func (s mirrorStore) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	return s.of(key).Acquire(ctx, key, r)
}

func (s mirrorStore) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.of(key).Renew(ctx, key, f, ttl)
}

func (s mirrorStore) Release(ctx context.Context, key string, f state.Fence) error {
	return s.of(key).Release(ctx, key, f)
}
