package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

const (
	// firstPause and lastPause are the first and the longest time between two
	// attempts to acquire a lease.
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	// patience is how long Hold retries while the store is unavailable.
	patience = time.Second
	// heldSlack is the time from the end of another's lease to the last attempt:
	// stores round the end to milliseconds.
	heldSlack = 10 * time.Millisecond
)

// An acquirer repeats Acquire, always with the same nonce, until the lease is
// granted or a retry is pointless.
type acquirer struct {
	leaser Leaser
	key    string
	req    LeaseRequest
	opts   HoldOptions

	began     time.Time // of the first attempt
	giveUp    time.Time // the end of the wait for the holder; zero: no holder seen
	downSince time.Time // when the store became unavailable; zero: it is available
	failures  int       // to acquire it, since the store began to be unavailable if it did
}

func (a *acquirer) now() instant { return instant{boot: a.opts.clock(), mono: time.Now()} }

func (a *acquirer) acquire(ctx context.Context) (Grant, instant, error) {
	a.began = time.Now()
	for {
		sent := a.now()
		grant, err := a.attempt(ctx)
		if err == nil {
			trusted := sent.add(a.req.TTL - margin(a.req.TTL))
			if trusted.until(a.now()) > 0 {
				return grant, trusted, nil
			}
			err = fmt.Errorf("%w: acquiring the lease took longer than its TTL", ErrUnavailable)
		}
		if ctx.Err() != nil {
			return Grant{}, instant{}, err
		}
		pause, again := a.judge(err, sent.mono)
		if !again {
			return Grant{}, instant{}, err
		}
		if ended := backoff.Wait(ctx, pause); ended != nil {
			return Grant{}, instant{}, fmt.Errorf("state: hold %q: %w, after: %w", a.key, ended, err)
		}
	}
}

// attempt calls Acquire once. A response later than the TTL is useless.
func (a *acquirer) attempt(ctx context.Context) (Grant, error) {
	limited, cancel := context.WithTimeout(ctx, a.req.TTL)
	defer cancel()
	grant, err := a.leaser.Acquire(limited, a.key, a.req)
	if errors.Is(err, context.DeadlineExceeded) && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: no response within %v: %w", ErrUnavailable, a.req.TTL, err)
	}
	if err == nil || ctx.Err() == nil {
		a.opts.Attempted(err)
	}
	return grant, err
}

// judge reports whether to retry after an attempt that was sent at that time and
// failed with err, and the pause before the retry.
func (a *acquirer) judge(err error, sent time.Time) (pause time.Duration, again bool) {
	now := time.Now()
	switch {
	case errors.Is(err, ErrLeaseHeld):
		a.downSince = time.Time{}
		if a.giveUp.IsZero() && !a.mayWait(err) {
			return 0, false
		}
		if !now.Before(a.giveUp) {
			return 0, false
		}
		return min(a.nextPause(), a.giveUp.Sub(now)), true
	case errors.Is(err, ErrUnavailable):
		if a.downSince.IsZero() {
			a.downSince, a.failures = sent, 0
		}
		pause = a.nextPause()
		return pause, now.Add(pause).Before(a.downSince.Add(patience)) || now.Before(a.giveUp)
	}
	return 0, false
}

// mayWait decides, when the lease is first refused, how long to wait for it.
func (a *acquirer) mayWait(err error) bool {
	var held *HeldError
	if !errors.As(err, &held) {
		held = new(HeldError) // a store that returns only ErrLeaseHeld
	}
	switch {
	case a.opts.Wait > 0:
		a.giveUp = a.began.Add(a.opts.Wait)
	case a.opts.Wait < 0 || held.Until.IsZero():
		return false
	default:
		a.giveUp = held.Until.Add(heldSlack)
	}
	attrs := []any{"key", a.key, "holder", held.Owner}
	if !held.Until.IsZero() {
		attrs = append(attrs, "lease_until", held.Until.UTC())
	}
	a.opts.Logger.Info("waiting for the lease", append(attrs, "wait_until", a.giveUp.UTC())...)
	return true
}

func (a *acquirer) nextPause() time.Duration {
	p := backoff.Duration(firstPause, lastPause, a.failures)
	a.failures++
	return p
}
