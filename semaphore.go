package rigatoni

import "context"

// A semaphore lets one caller in at a time, as a mutex does, but for no longer than a
// context lasts. A nil semaphore lets everyone in.
type semaphore chan struct{}

func newSemaphore() semaphore { return make(semaphore, 1) }

// acquire waits until the caller is let in, or returns the cause of ctx's end.
func (s semaphore) acquire(ctx context.Context) error {
	if s == nil {
		return nil
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s semaphore) release() {
	if s != nil {
		<-s
	}
}
