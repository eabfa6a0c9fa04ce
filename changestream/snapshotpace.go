package changestream

import (
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// A lagMeter says when the next slice is due.
type lagMeter struct {
	slice, run time.Duration // see limits

	last time.Time // the end of the last slice, or the beginning
	// reached: all that had happened by then is processed. coming: so it will be when
	// the batch is.
	reached, coming time.Time
}

// arrived notes a batch, which the server was asked for at a time. One that is full may
// not be the last.
func (m *lagMeter) arrived(asked time.Time, events []rigatoni.Event, full int) {
	m.reached = m.coming
	bytes := 0
	for _, ev := range events {
		bytes += len(ev.Raw)
	}
	if len(events) < full && bytes < 15<<20 {
		m.coming = asked
	}
}

// caughtUp notes that the server, asked at a time, had nothing more.
func (m *lagMeter) caughtUp(asked time.Time) { m.reached, m.coming = asked, asked }

func (m *lagMeter) sliced(now time.Time) { m.last = now }

// due reports whether a slice may begin: the stream has caught up, or has run for long.
func (m *lagMeter) due(now time.Time) bool {
	return now.Sub(m.reached) < m.slice/2 || now.Sub(m.last) >= m.run
}
