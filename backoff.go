package rigatoni

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause after the attempt of that number (from 0): it doubles
// from least to most, and is drawn from its upper half, so that many pipelines
// that failed together don't come back together.
func backoff(least, most time.Duration, attempt int) time.Duration {
	d := most
	if attempt < 32 {
		if doubled := least << attempt; doubled > 0 && doubled < most && doubled>>attempt == least {
			d = doubled
		}
	}
	return d/2 + rand.N(d/2+1)
}
