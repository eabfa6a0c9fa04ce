package changestream

import (
	"context"
	"strings"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/event"
)

// A call is what a client of our own reports about the commands of a stream, while
// the driver is still busy with them: it resumes a stream by itself, for half a minute,
// before it returns the error of a getMore.
type call struct {
	outage  *outage
	address atomic.Pointer[string] // of the server that was asked last
}

type callKey struct{}

// with is a context for commands of the stream.
func (c *call) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// server is the address of the server that was asked last, "" if it is unknown.
func (c *call) server() string {
	if a := c.address.Load(); a != nil {
		return *a
	}
	return ""
}

// observer reports the commands of a client to the calls that they belong to.
var observer = &event.CommandMonitor{
	Started: func(ctx context.Context, e *event.CommandStartedEvent) {
		if c, ok := ctx.Value(callKey{}).(*call); ok {
			address, _, _ := strings.Cut(e.ConnectionID, "[")
			c.address.Store(&address)
		}
	},
	Failed: func(ctx context.Context, e *event.CommandFailedEvent) {
		c, ok := ctx.Value(callKey{}).(*call)
		if !ok || ctx.Err() != nil {
			return
		}
		if _, away := absenceOf(e.Failure); away {
			c.outage.suspect(e.Failure)
		}
	},
}
