package filestore

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// simCampaign is the seed of a random test, and how long it may take.
func simCampaign(t *testing.T) (seed uint64, patience time.Duration) {
	t.Helper()
	seed, patience = rand.Uint64()>>1, 2500*time.Millisecond
	if text := os.Getenv("RIGATONI_CAMPAIGN_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	if os.Getenv("RIGATONI_CAMPAIGN") == "full" {
		patience = 5 * time.Minute
	}
	t.Logf("seed %d", seed)
	return seed, patience
}
