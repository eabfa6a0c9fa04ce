package rigatoni

import "context"

// A gate lets one caller in at a time, as a mutex does, but for no longer than a
// context lasts. A nil gate lets everyone in.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// enter waits until the caller is let in, or returns the cause of ctx's end.
func (g gate) enter(ctx context.Context) error {
	if g == nil {
		return nil
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g gate) leave() {
	if g != nil {
		<-g
	}
}
