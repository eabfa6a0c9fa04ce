//go:build unix

package dbcampaign

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
)

// Exit codes after which a supervisor starts the command again.
const (
	exitHeld        = 3
	exitUnreachable = 5
)

// An owner is one of the two processes that compete for the stream, and its
// successors: whenever it ends it is started again.
type owner struct {
	binary string
	args   []string

	mu     sync.Mutex
	child  *crashtest.Child
	killed bool        // by us
	ends   map[int]int // how often it ended, by exit code; -1 for a kill
}

// run keeps a process running until ctx ends, and then stops it cleanly.
func (o *owner) run(ctx context.Context) error {
	for {
		c, err := crashtest.Start(o.binary, o.args)
		if err != nil {
			return fmt.Errorf("starting the pipeline: %w", err)
		}
		o.set(c)
		select {
		case <-ctx.Done():
			err := c.Stop(context.WithoutCancel(ctx))
			if code := c.Code(); code == exitHeld || code == exitUnreachable {
				return nil // it had just lost the lease
			}
			return err
		case <-c.Exited():
		}
		if err := o.ended(c); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (o *owner) set(c *crashtest.Child) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.child, o.killed = c, false
}

// ended returns an error if the process ended in a way that no supervisor mends.
func (o *owner) ended(c *crashtest.Child) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	code := c.Code()
	if o.ends == nil {
		o.ends = map[int]int{}
	}
	o.ends[code]++
	if code == exitHeld || code == exitUnreachable || o.killed {
		return nil
	}
	return fmt.Errorf("the pipeline ended by itself, with exit code %d:\n%s", code, c.Log())
}

// kill ends the process with SIGKILL.
func (o *owner) kill() {
	o.mu.Lock()
	o.killed = true
	c := o.child
	o.mu.Unlock()
	c.Kill()
}

func (o *owner) signal(sig syscall.Signal) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.child.Signal(sig)
}

func (o *owner) log() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.child.Log()
}

// streams reports whether it has the stream, as far as it has said. One that has ended
// has nothing, or a freeze would be of a process that isn't there.
func (o *owner) streams() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.child == nil {
		return false
	}
	select {
	case <-o.child.Exited():
		return false
	default:
		return o.child.IsOwner()
	}
}
