// Package campaign configures the random tests of this repository: their length
// and their seed. They are short by default; environment variables change that.
package campaign

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const (
	// Var set to "full" makes campaigns as long as in the targets of the
	// Makefile.
	Var = "RIGATONI_CAMPAIGN"
	// SeedVar sets the seed, which repeats the calls of an earlier campaign, as
	// far as servers, disks and the scheduler are repeatable.
	SeedVar = "RIGATONI_CAMPAIGN_SEED"
)

// Full reports whether campaigns run in full length.
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

// Seed returns the seed of a campaign, and logs it.
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

// Size returns the value of an environment variable, or else the size for the
// full or the short form.
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
