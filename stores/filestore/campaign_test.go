package filestore

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// The campaigns stop the store at random moments, many times. By default they are
// short; these variables of the environment change that.
const (
	// campaignVar set to "full" makes them as long as "make powercut" and "make kill"
	// have them.
	campaignVar = "RIGATONI_CAMPAIGN"
	// seedVar repeats the calls of the run that had this seed. When they are cut off
	// depends on the machine, too.
	seedVar = "RIGATONI_CAMPAIGN_SEED"
	// cutsVar is how many power cuts there are on each kind of file system, and
	// killsVar how many kills.
	cutsVar  = "RIGATONI_CAMPAIGN_CUTS"
	killsVar = "RIGATONI_CAMPAIGN_KILLS"
)

// campaignSeed is the seed of a campaign, which is logged.
func campaignSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if text := os.Getenv(seedVar); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVar, err)
		}
	}
	t.Logf("seed %d; to repeat it: %s=%d", seed, seedVar, seed)
	return seed
}

func fullCampaign() bool { return os.Getenv(campaignVar) == "full" }

// A length is how long a campaign goes on: n times, but if it is a short one, no longer
// than it may take.
type length struct {
	n     int
	until time.Time // zero: as long as it takes
}

// campaignLength is campaignSize, but that the short form ends after some time.
func campaignLength(t testing.TB, variable string, full, short int, shortTime time.Duration) length {
	t.Helper()
	l := length{n: campaignSize(t, variable, full, short)}
	if os.Getenv(variable) == "" && !fullCampaign() {
		l.until = time.Now().Add(shortTime)
	}
	return l
}

// campaignSize is what the variable says, or else what the full or the short campaign
// has.
func campaignSize(t testing.TB, variable string, full, short int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: it is a number from 1 on", variable, text)
		}
		return n
	}
	if fullCampaign() {
		return full
	}
	return short
}

// part is the length of the i-th of parts.
func (l length) part(i, parts int) length {
	l.n = l.n*(i+1)/parts - l.n*i/parts
	return l
}

// more tells whether to go on after it was done so many times.
func (l length) more(done int) bool {
	return done < l.n && (done == 0 || l.until.IsZero() || time.Now().Before(l.until))
}
