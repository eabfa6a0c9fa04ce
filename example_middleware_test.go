package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A middleware is a function from a Func to a Func.
type middleware func(rigatoni.Func) rigatoni.Func

// with wraps f; the first middleware is the outermost.
func with(f rigatoni.Func, all ...middleware) rigatoni.Func {
	for i := len(all) - 1; i >= 0; i-- {
		f = all[i](f)
	}
	return f
}

// timed calls report with how long each call took.
func timed(report func(op string, took time.Duration, err error)) middleware {
	return func(next rigatoni.Func) rigatoni.Func {
		return func(ctx context.Context, ev rigatoni.Event) error {
			began := time.Now()
			err := next(ctx, ev)
			report(ev.OperationType(), time.Since(began), err)
			return err
		}
	}
}

// recovered refuses an event at which the function panics. Without it, a panic is
// an error like any other, and the event is tried again.
func recovered(next rigatoni.Func) rigatoni.Func {
	return func(ctx context.Context, ev rigatoni.Event) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = rigatoni.Permanent(fmt.Errorf("panic: %v", v))
			}
		}()
		return next(ctx, ev)
	}
}

// limited lets a call begin at most once per interval, over all lanes.
func limited(every time.Duration) middleware {
	tick := time.NewTicker(every)
	return func(next rigatoni.Func) rigatoni.Func {
		return func(ctx context.Context, ev rigatoni.Event) error {
			select {
			case <-tick.C:
				return next(ctx, ev)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// bounded gives each call a time of its own. Config.DeliverTimeout is that of a
// delivery without progress.
func bounded(d time.Duration) middleware {
	return func(next rigatoni.Func) rigatoni.Func {
		return func(ctx context.Context, ev rigatoni.Event) error {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return next(ctx, ev)
		}
	}
}

// Middleware are plain functions around a Func.
func ExampleFunc_middleware() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}, {Key: "total", Value: 5}}),
		rigatonitest.Delete("shop.orders", 1),
	)
	source.End()

	type order struct{ Total int }
	handle := rigatoni.Typed(func(_ context.Context, _ rigatoni.Event, o *order) error {
		fmt.Println("total", o.Total) // panics: a delete has no document
		return nil
	})
	report := func(op string, _ time.Duration, err error) { fmt.Println(op, err) }
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: with(handle, timed(report), recovered, limited(time.Millisecond), bounded(10*time.Second)),
		DeadLetters: new(letters),
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	// Output:
	// total 5
	// insert <nil>
	// delete panic: runtime error: invalid memory address or nil pointer dereference
}

// batchSizes is a decorator of a destination: it counts what goes to its sinks.
type batchSizes struct {
	rigatoni.Destination
	add func(events int)
}

func (d batchSizes) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	sink, err := d.Destination.Open(ctx, o)
	return countingSink{sink, d.add}, err
}

// Unwrap passes on what else the destination can do.
func (d batchSizes) Unwrap() rigatoni.Destination { return d.Destination }

type countingSink struct {
	rigatoni.Sink
	add func(events int)
}

func (s countingSink) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	err := s.Sink.Deliver(ctx, b)
	if err == nil {
		s.add(len(b.Events))
	}
	return err
}

// Unwrap passes on what else the sink can do: a Func stays Concurrent.
func (s countingSink) Unwrap() rigatoni.Sink { return s.Sink }

// Destinations and sinks are decorated; what else they can do is found through
// Unwrap.
func ExampleSink_decorator() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 2}}),
	)
	source.End()

	total := 0
	destination := batchSizes{rigatoni.Func(rigatoni.Ignore), func(n int) { total += n }}
	err := rigatoni.Run(context.Background(), rigatoni.Config{
		Name: "orders", Source: source, Store: memstore.New(), Logger: quiet,
		Destination: destination,
	})
	if !errors.Is(err, rigatonitest.ErrEnd) {
		log.Fatal(err)
	}
	fmt.Println(total, "events")
	// Output: 2 events
}

// As finds a capability in a sink or in what it wraps.
func ExampleAs() {
	sink := countingSink{rigatoni.Func(rigatoni.Ignore), nil}
	concurrent, ok := rigatoni.As[rigatoni.Concurrent](sink)
	fmt.Println(ok && concurrent.Concurrent())
	_, ok = rigatoni.As[rigatoni.Syncer](sink)
	fmt.Println(ok)
	// Output:
	// true
	// false
}
