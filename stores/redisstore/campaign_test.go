package redisstore_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// The campaigns try at random what a network and servers can do to a store. By
// default they are short; these variables of the environment change that.
const (
	// campaignEnv set to "full" makes them as long as "make campaign" has them.
	campaignEnv = "RIGATONI_CAMPAIGN"
	// campaignSeedEnv repeats the one that had this seed, as far as servers and
	// the scheduler let themselves be repeated.
	campaignSeedEnv = "RIGATONI_CAMPAIGN_SEED"
)

// full tells whether the campaigns are to be long.
func full(t testing.TB) bool {
	t.Helper()
	switch v := os.Getenv(campaignEnv); v {
	case "", "short":
		return false
	case "full":
		return true
	default:
		t.Fatalf("%s=%s: it is short (the default) or full", campaignEnv, v)
		return false
	}
}

// campaignSeed is short enough to be typed.
func campaignSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64N(1_000_000)
	if text := os.Getenv(campaignSeedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s=%s: it is a number", campaignSeedEnv, text)
		}
	}
	t.Logf("%s=%d repeats this one", campaignSeedEnv, seed)
	return seed
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
