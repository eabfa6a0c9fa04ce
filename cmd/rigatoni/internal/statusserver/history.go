package statusserver

import (
	"math"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

const (
	// sampleEvery is how often the status is read for the charts.
	sampleEvery = 5 * time.Second
	// pointTime is how much of the charts' hour a point stands for.
	pointTime = 15 * time.Second
	points    = int(time.Hour / pointTime)
)

// A history is a stream's lag and throughput over the last hour: two rings, of the
// worst lag and the mean rate of each point in time. 10,000 streams take 20 MB.
type history struct {
	lag, rate [points]float32 // NaN: unknown

	events uint64 // at the last sample
	now    float64
}

func newHistory() *history {
	h := &history{}
	for i := range points {
		h.lag[i], h.rate[i] = float32(math.NaN()), float32(math.NaN())
	}
	return h
}

// add adds a sample, taken so long after the one before it, to the n-th point since
// the beginning. fresh: it is the first of that point.
func (h *history) add(s rigatoni.StreamStatus, point int, fresh bool, took time.Duration, now time.Time) {
	i := point % points
	if fresh {
		h.lag[i], h.rate[i] = float32(math.NaN()), float32(math.NaN())
	}
	if lagKnown(s) {
		h.lag[i] = float32(max(orZero(h.lag[i]), s.Lag(now).Seconds()))
	}
	if took <= 0 { // the first sample
		h.events = s.Events
		return
	}
	h.now = float64(s.Events-h.events) / took.Seconds()
	h.events = s.Events
	if old := float64(h.rate[i]); math.IsNaN(old) {
		h.rate[i] = float32(h.now)
	} else { // a mean of the samples so far, the later ones heavier
		h.rate[i] = float32((old + h.now) / 2)
	}
}

// lagKnown reports whether this process knows a stream's lag: not while another one
// reads it.
func lagKnown(s rigatoni.StreamStatus) bool { return !s.Position.IsZero() && s.Holder == "" }

func orZero(v float32) float64 {
	if math.IsNaN(float64(v)) {
		return 0
	}
	return float64(v)
}

// A sampler keeps the histories of all streams.
type sampler struct {
	streams []*history
	began   time.Time
	last    time.Time // of the last sample
	point   int
}

func (s *sampler) sample(all []rigatoni.StreamStatus, now time.Time) {
	if s.streams == nil {
		s.began, s.point = now, -1
		for range all {
			s.streams = append(s.streams, newHistory())
		}
	}
	point := int(now.Sub(s.began) / pointTime)
	took := now.Sub(s.last)
	if s.last.IsZero() {
		took = 0
	}
	for i, st := range all {
		for skipped := s.point + 1; skipped < point && skipped > point-points; skipped++ { // the process was suspended
			h := s.streams[i]
			h.lag[skipped%points], h.rate[skipped%points] = float32(math.NaN()), float32(math.NaN())
		}
		s.streams[i].add(st, point, point > s.point, took, now)
	}
	s.point, s.last = point, now
}

// fewest is how many points a chart has at least.
const fewest = 12

// series returns a ring's values in the order of time, the last one now: those of the
// last hour, or since the beginning.
func (s *sampler) series(ring *[points]float32) []float64 {
	values := make([]float64, min(points, max(fewest, s.point+1)))
	for i := range values {
		at := s.point - len(values) + 1 + i
		if values[i] = math.NaN(); at >= 0 {
			values[i] = float64(ring[at%points])
		}
	}
	return values
}

// span is how long ago the first of n values was, in words.
func span(n int) string {
	if n == points {
		return "an hour ago"
	}
	return brief(time.Duration(n)*pointTime) + " ago"
}
