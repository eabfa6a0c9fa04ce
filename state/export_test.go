package state

import "time"

// LastPause and Patience are lastPause and patience.
const (
	LastPause = lastPause
	Patience  = patience
)

// BootClock is bootClock.
var BootClock = bootClock

// WithClock returns o with a clock in place of the machine's, unless it has one.
func WithClock(o HoldOptions, clock func() time.Duration) HoldOptions {
	if o.clock == nil {
		o.clock = clock
	}
	return o
}
