//go:build !linux

package state

import "time"

var processStart = time.Now()

// bootClock is the monotonic clock: whether it runs on while the machine is
// suspended is the operating system's choice.
func bootClock() time.Duration { return time.Since(processStart) }
