package destinationtest

import (
	"math/rand/v2"
	"testing"
)

// A stream with a sweep can be made whatever the random events before it are: also where
// they have deleted all documents.
func TestSweptStreams(t *testing.T) {
	for seed := range uint64(4000) {
		tr := &trial{rand: rand.New(rand.NewPCG(seed, 1))}
		if s := tr.sweptStream(); len(s.sweeps) != 1 || s.copied > len(s.events) {
			t.Fatalf("seed %d: %d sweeps in %d events", seed, len(s.sweeps), len(s.events))
		}
	}
}
