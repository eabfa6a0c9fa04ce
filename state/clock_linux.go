package state

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock is the time since the machine started. It runs on while the machine
// is suspended, which the clock behind time.Now's monotonic reading doesn't: a
// laptop that slept for an hour must not think its lease a second old.
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Only kernels before 2.6.39 and odd sandboxes refuse. [instant] has
		// the monotonic clock beside this one, which then decides alone.
		return 0
	}
	return time.Duration(ts.Nano())
}
