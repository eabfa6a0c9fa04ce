package destinationtest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
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
