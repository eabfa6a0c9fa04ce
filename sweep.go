package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A sweeper has the sink remove what no longer exists, where the copy of a collection
// has ended. It works while no lane does, in the feeder's goroutine.
type sweeper struct {
	sink     Sweeper // nil: the sink can't
	tracker  *tracker
	failures *failurePolicy
	lock     semaphore // between Sweep and Sync, or Sweep and saves; nil if there is neither
	status   *monitor
	log      *slog.Logger
	watchdog watchdog
	valid    func() error // of the lease
	atomic   bool         // the sink is transactional, and checks the fence
}

// sweep sweeps, with as many attempts as it takes, and then counts the end of the copy
// as delivered.
func (s *sweeper) sweep(ctx context.Context, it item) error {
	end, _ := it.event.snapshotEnd()
	began := time.Now()
	for try := 1; s.sink != nil; try++ {
		err := s.attempt(ctx, end, try)
		if err == nil {
			s.log.Info("swept: what the copy did not find is removed", "namespace", end.Namespace.String(), "took_seconds", time.Since(began).Seconds(), "attempts", try)
			break
		}
		if s.isFatal(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = fmt.Errorf("the sweep after the copy failed: %w", err)
		if s.failures.final(err, try) {
			return s.failures.stop(it.event, try, err)
		}
		if err := s.failures.pause(ctx, it.event, try, err); err != nil {
			return err
		}
	}
	s.tracker.done([]item{it})
	return nil
}

func (s *sweeper) attempt(ctx context.Context, end SnapshotEnd, try int) error {
	if err := s.valid(); err != nil {
		return fmt.Errorf("%w: %w", errLeaseLost, err)
	}
	if err := s.lock.acquire(ctx); err != nil {
		return err
	}
	err := s.watchdog.call(context.WithValue(ctx, attemptKey{}, try), watchedCall{
		name: "sweep", do: func(ctx context.Context) error { return s.sink.Sweep(ctx, end) },
		attrs: func(int) []any { return []any{"namespace", end.Namespace.String()} },
	})
	if errors.Is(err, ErrDeliveryHung) {
		return err // the lock stays taken: nothing may run beside it
	}
	s.lock.release()
	if s.atomic && errors.Is(err, state.ErrFenced) {
		return fmt.Errorf("%w: %w", errLeaseLost, err)
	}
	return err
}

// isFatal reports whether the session can't continue, whatever the policy.
func (s *sweeper) isFatal(err error) bool {
	return errors.Is(err, ErrDeliveryHung) || errors.Is(err, errLeaseLost) || errors.Is(err, ErrDestinationClosed) || s.atomic && transactionIsFinal(err)
}
