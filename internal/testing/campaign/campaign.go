// Package campaign tells the random tests of this repository how long to be, and which
// seed to begin with. By default they are short; variables of the environment change
// that.
package campaign

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const (
	// Var set to "full" makes campaigns as long as the Makefile's targets have them.
	Var = "RIGATONI_CAMPAIGN"
	// SeedVar repeats the campaign that had this seed: the same calls, as far as
	// servers, disks and the scheduler let themselves be repeated.
	SeedVar = "RIGATONI_CAMPAIGN_SEED"
)

// Full tells whether campaigns are to be long.
func Full(t testing.TB) bool {
	t.Helper()
	switch v := os.Getenv(Var); v {
	case "", "short":
		return false
	case "full":
		return true
	default:
		t.Fatalf("%s=%s: it is short (the default) or full", Var, v)
		return false
	}
}

// Seed is the seed of a campaign, which is logged.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if text := os.Getenv(SeedVar); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s=%s: it is a number", SeedVar, text)
		}
	}
	t.Logf("%s=%d repeats this one", SeedVar, seed)
	return seed
}

// Size is what a variable of the campaign's own says, or else what the full or the
// short form has.
func Size(t testing.TB, variable string, full, short int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: it is a number from 1 on", variable, text)
		}
		return n
	}
	if Full(t) {
		return full
	}
	return short
}
