package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// errGoexit is what a function gives that ended its goroutine, as t.FailNow of a
// test does.
var errGoexit = errors.New("runtime.Goexit was called")

// guarded calls do in a goroutine of its own and sends its error. A panic and a
// runtime.Goexit are errors too.
func guarded(do func() error) <-chan error {
	result := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			result <- err
		}()
		err = do()
	}()
	return result
}

// abandonAfter is how long a function may take to return after its context has
// ended.
const abandonAfter = time.Second

// await waits for the error of a guarded function, for a while only once ctx has
// ended: a function that ignores its context is abandoned, with ErrDeliveryHung.
func await(ctx context.Context, result <-chan error) error {
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	t := time.NewTimer(abandonAfter)
	defer t.Stop()
	select {
	case err := <-result:
		return err
	case <-t.C:
		return fmt.Errorf("%w (%w)", ErrDeliveryHung, context.Cause(ctx))
	}
}

// within calls a function that has no context, and abandons it after a while, as
// await does.
func within(limit time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return await(ctx, guarded(do))
}
