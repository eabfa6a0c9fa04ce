package state

import "time"

// An instant is a time by two clocks of this machine that are never set: one that
// keeps running while the machine is suspended, and that of Go's timers. The one
// by which more time has passed counts. (The first would do on a real machine; a
// test with testing/synctest moves the second.)
type instant struct {
	boot time.Duration
	mono time.Time
}

func (i instant) add(d time.Duration) instant {
	return instant{boot: i.boot + d, mono: i.mono.Add(d)}
}

// since returns the time from j to i.
func (i instant) since(j instant) time.Duration {
	return max(i.boot-j.boot, i.mono.Sub(j.mono))
}

// until returns the time from now to i, negative if i is past.
func (i instant) until(now instant) time.Duration {
	return min(i.boot-now.boot, i.mono.Sub(now.mono))
}
