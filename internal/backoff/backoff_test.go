package backoff

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestDuration(t *testing.T) {
	const least, most = 100 * time.Millisecond, 30 * time.Second
	for attempt := range 200 {
		want := min(least<<min(attempt, 20), most)
		var shortest, longest time.Duration = math.MaxInt64, 0
		for range 100 {
			d := Duration(least, most, attempt)
			shortest, longest = min(shortest, d), max(longest, d)
		}
		if shortest < want/2 || longest > want {
			t.Errorf("attempt %d: %v to %v, want %v to %v", attempt, shortest, longest, want/2, want)
		}
		if longest-shortest < want/4 {
			t.Errorf("attempt %d: 100 clients are spread over no more than %v", attempt, longest-shortest)
		}
	}
}

func TestDurationAtTheLimits(t *testing.T) {
	if d := Duration(time.Second, math.MaxInt64, 1000); d < math.MaxInt64/2 {
		t.Errorf("the longest pause is %v", d)
	}
	if d := Duration(time.Minute, time.Second, 0); d > time.Second {
		t.Errorf("a least pause above the longest one gives %v", d)
	}
	if d := Duration(0, 0, 3); d != 0 {
		t.Errorf("no pause is %v", d)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := Wait(t.Context(), time.Hour); err != nil || time.Since(begin) != time.Hour {
			t.Errorf("waited %v: %v", time.Since(begin), err)
		}
		why := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begin = time.Now()
		if err := Wait(ctx, time.Hour); err != why || time.Since(begin) != time.Second {
			t.Errorf("canceled after a second: waited %v: %v", time.Since(begin), err)
		}
		if err := Wait(ctx, 0); err != why {
			t.Errorf("with a ctx that has ended: %v", err)
		}
	})
}
