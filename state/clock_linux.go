package state

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock returns the time since the machine started. Unlike the monotonic clock
// of time.Now it includes the time in suspend: a laptop that slept for an hour must
// not take its lease for a second old.
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Only kernels before 2.6.39 and some sandboxes refuse. The monotonic
		// clock of [instant] then decides alone.
		return 0
	}
	return time.Duration(ts.Nano())
}
