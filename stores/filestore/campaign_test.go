package filestore

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
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

// campaignSize is what the variable says, or the one or the other number.
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
