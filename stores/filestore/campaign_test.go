package filestore

import (
	"os"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// The number of repetitions, instead of what the full or the short form has.
const (
	cutsVar  = "RIGATONI_CAMPAIGN_CUTS" // power cuts on each kind of file system
	killsVar = "RIGATONI_CAMPAIGN_KILLS"
)

// A length is how long a campaign goes on: n times, but if it is a short one, no longer
// than it may take.
type length struct {
	n     int
	until time.Time // zero: as long as it takes
}

// campaignLength is campaign.Size, but that the short form ends after some time.
func campaignLength(t testing.TB, variable string, full, short int, shortTime time.Duration) length {
	t.Helper()
	l := length{n: campaign.Size(t, variable, full, short)}
	if os.Getenv(variable) == "" && !campaign.Full(t) {
		l.until = time.Now().Add(shortTime)
	}
	return l
}

// part is the length of the i-th of parts.
func (l length) part(i, parts int) length {
	l.n = l.n*(i+1)/parts - l.n*i/parts
	return l
}

// more reports whether to repeat what was done this many times.
func (l length) more(done int) bool {
	return done < l.n && (done == 0 || l.until.IsZero() || time.Now().Before(l.until))
}
