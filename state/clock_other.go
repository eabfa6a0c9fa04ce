//go:build !linux

package state

import "time"

var processStart = time.Now()

// bootClock is the monotonic clock. Whether it includes the time in suspend
// depends on the operating system.
func bootClock() time.Duration { return time.Since(processStart) }
