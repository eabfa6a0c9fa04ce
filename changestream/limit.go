package changestream

import (
	"context"
	"errors"
	"time"
)

// limits are how long a source waits. They are not options: nobody has had a reason
// to change them but tests.
type limits struct {
	// margin is how long a reply of the server may take beyond the time that it may
	// wait for events. A connection on which none came by then is given up: a router
	// or a proxy that has forgotten it tells neither side.
	margin time.Duration
	// opening is how long the first attempt to reopen a stream may take; each
	// further one has twice the time. The server may have to scan hours of its
	// oplog, but a connection may be dead here too. Opening a stream for the first
	// time is not limited.
	opening time.Duration
	// unknown is how long errors that this package doesn't know are taken for a
	// temporary failure of the server.
	unknown time.Duration
	// named is how long the server may be away at the start before it is logged.
	named time.Duration
	// probe is how long a stream waits in silence, beyond the time that the server
	// may wait for events, before the server is asked whether it is there; and how
	// long that may take.
	probe time.Duration
	// disconnect is how long the driver may take to end its connections.
	disconnect time.Duration
	// slice is how long the stream stands still, at a time, for what a snapshot reads;
	// run is how long it runs at most before it does again. It runs until it has caught
	// up, which under little load takes no time.
	slice, run time.Duration
}

var defaultLimits = limits{
	margin: 10 * time.Second, opening: time.Minute, unknown: time.Minute,
	named: 3 * time.Second, probe: 2 * time.Second, disconnect: 500 * time.Millisecond,
	slice: 200 * time.Millisecond, run: 800 * time.Millisecond,
}

// errLate is the cause of a context that was ended by limited.
var errLate = errors.New("the server does not reply")

// limited is ctx for d at most. It has no deadline: the driver would make that a
// maxTimeMS, and preserve the connection for a while. What is cancelled closes its
// connection, which then is in no pool any more.
func limited(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() { cancel(errLate) })
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}

// isLate reports whether a context of limited has ended because its time was over.
func isLate(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errLate) }

// maxDoublings is how often the time for a reply is doubled at most.
const maxDoublings = 4

// doubled is d, doubled n times.
func doubled(d time.Duration, n int) time.Duration { return d << min(n, maxDoublings) }
