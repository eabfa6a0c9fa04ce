// Package backoff has the pauses between attempts at something that fails.
//
// A module of its own, such as stores/redisstore, is released for a version of
// this module and may be linked with a newer one. Therefore what is exported here
// stays compatible, as if it were public.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Duration returns the pause after a failed attempt; the first attempt is number
// 0. It doubles from least to most with each attempt, and is subject to [Jitter].
func Duration(least, most time.Duration, attempt int) time.Duration {
	d := least
	for range attempt {
		if d > most/2 {
			return Jitter(most)
		}
		d *= 2
	}
	return Jitter(min(d, most))
}

// Jitter returns a random duration between half of d and d, so that clients which
// failed at the same time don't all try again at the same time.
func Jitter(d time.Duration) time.Duration { return d - rand.N(d/2+1) }

// Wait waits for d. It returns context.Cause(ctx) as soon as ctx is done, also
// when d is 0.
func Wait(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil || d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
