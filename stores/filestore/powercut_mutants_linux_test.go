package filestore

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// Of the mistakes that a store can make (see mutants), these lose what was acknowledged
// soon when the power is cut, and must be found by it. The others take rarer accidents
// than a short test can wait for.
func TestPowerCutMutants(t *testing.T) {
	needRoot(t)
	seed := campaign.Seed(t)
	childBinary(t, "no flush") // built once for all
	for i, m := range []struct {
		name   string
		onDisk bool
	}{
		{"no flush", false},
		{"no directory flush at creation", false},
		{"flush again after a failure", true},
		{"rename without flush", false},
		{"the slot in force chosen by sequence", false},
	} {
		if i > 2 && !campaign.Full(t) {
			return // the simulated disk finds these as well
		}
		t.Run(m.name, func(t *testing.T) {
			kinds := [][]fsKind{ext4Kinds, xfsKinds}[i%2]
			p := newPowerCuts(t, kinds[0], m.onDisk, rand.New(rand.NewPCG(seed, uint64(i))))
			p.binary = childBinary(t, m.name)
			findMutant(t, p)
		})
	}
}

// findMutant cuts the power until something is lost.
func findMutant(t *testing.T, p *powerCuts) {
	t.Helper()
	const enough = 300
	for start, n := time.Now(), 1; n <= enough; n++ {
		if err := p.live(); err != nil {
			t.Logf("power cut %d, after %v: %.300v", n, time.Since(start).Round(time.Millisecond), err)
			return
		}
	}
	t.Errorf("%d power cuts found nothing", enough)
}
