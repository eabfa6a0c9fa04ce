package state

import "time"

// An instant is a moment by two clocks of this machine, neither of which is
// ever set: the one that runs on in suspend, and the one of Go's own timers.
// Whichever says that more time has passed is believed. (The first alone would
// do on a real machine; the second is what a test with testing/synctest moves.)
type instant struct {
	boot time.Duration
	mono time.Time
}

func (i instant) add(d time.Duration) instant {
	return instant{boot: i.boot + d, mono: i.mono.Add(d)}
}

// since is how much time passed from j to i.
func (i instant) since(j instant) time.Duration {
	return max(i.boot-j.boot, i.mono.Sub(j.mono))
}

// until is how much time is left from now to i: negative once it is over.
func (i instant) until(now instant) time.Duration {
	return min(i.boot-now.boot, i.mono.Sub(now.mono))
}
