package rigatonitest

import (
	"context"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Client is a [Database] as one process sees it, with faults. It is a
// destination and a [rigatoni.Checkpointer], as the database is.
type Client struct {
	db    *Database
	fault func(Step) Fault
}

// Client returns access to the database for one process. fault is called at each
// step of each transaction and of each call of the store, and decides what goes
// wrong there; nil: nothing does. Steps of several calls may come concurrently.
//
// The database works on by itself where the client gives up: when a client's
// context ends, its call returns, and what it asked for is executed or not, then
// or later, as fault decides.
func (d *Database) Client(fault func(Step) Fault) *Client {
	if fault == nil {
		fault = func(Step) Fault { return Fault{} }
	}
	return &Client{db: d, fault: fault}
}

// A Point is how far a transaction, or a call of the store, has come.
type Point int

// A transaction (DeliverAt) passes Began, Admitted, Applied for each event,
// Committing and Committed; where it repeats one that was committed, Began,
// Admitted and Committed. One of Sweep passes Began, Admitted, Committing and
// Committed. From Admitted to Committed it excludes all others. A
// call of the store passes Called and Executed.
const (
	Began      Point = iota // nothing has been done
	Admitted                // the record of the checkpoint is read and locked
	Applied                 // so is Step.Event
	Committing              // all events are applied, and cp is written
	Committed               // the client doesn't know yet
	Called                  // the store was called; nothing has been done
	Executed                // the client doesn't know yet
)

// A Step is a point that has been reached.
type Step struct {
	Point Point
	Op    state.Op       // at Called and Executed, which call
	Event rigatoni.Event // at Applied, which event
	Sweep bool           // the transaction is that of a sweep
}

// A Fault is what goes wrong at a step; the zero Fault is nothing.
//
// Err alone ends the call with that error: before Committed or Executed nothing
// of it takes effect, and then it has taken effect and the answer is lost. After
// alone has the database pause for so long. Err and After both: the client gets
// the error at once, and the database carries on after that time. An error of a
// call of the store becomes a state.ErrUnavailable.
type Fault struct {
	Err   error
	After time.Duration
}

// do has the database execute a call, and waits for the answer as long as ctx
// lasts.
func (c *Client) do(ctx context.Context, call func(step func(Step) error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	answer := make(chan error, 1)
	reply := func(err error) {
		select {
		case answer <- err:
		default: // there was one
		}
	}
	go func() {
		reply(call(func(s Step) error {
			f := c.fault(s)
			if s.Op != "" {
				f.Err = unavailable(f.Err)
			}
			if f.After <= 0 {
				return f.Err
			}
			if f.Err != nil {
				reply(f.Err)
			}
			time.Sleep(f.After)
			return nil
		}))
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
