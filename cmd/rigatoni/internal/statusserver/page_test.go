package statusserver

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

const hostile = `"><script>alert(1)</script><b x='&`

// Whatever a stream, an owner or an error is called, it is text on the page.
func TestPageEscapes(t *testing.T) {
	bad := live(hostile)
	bad.Owner, bad.Key = hostile, hostile
	bad.LastError, bad.LastErrorAt, bad.OutageErr, bad.Outage = errors.New(hostile), time.Now(), errors.New(hostile), time.Now()
	bad.Gaps, bad.LastGap = 1, rigatoni.Gap{Reason: hostile, Policy: hostile, To: bson.Timestamp{T: 5}}
	waiting := live(hostile)
	waiting.Phase, waiting.Owner, waiting.Holder = rigatoni.PhaseLeasing, "", hostile
	s := newServer(bad, waiting)
	s.o.Pipeline, s.o.Version = hostile, hostile
	_, body := get(t, s, "/")
	if strings.Contains(body, "<script") || strings.Contains(body, "<b x") || strings.Contains(body, hostile) {
		t.Errorf("not escaped:\n%s", body)
	}
	if n := strings.Count(body, "&lt;script&gt;"); n < 9 {
		t.Errorf("%d of the hostile names are there:\n%s", n, body)
	}
	wellFormed(t, body)
}

// wellFormed fails the test if an element is not closed, or closed twice.
func wellFormed(t *testing.T, body string) {
	t.Helper()
	body = strings.NewReplacer("<!DOCTYPE html>", "", `<meta charset="utf-8">`, "", `initial-scale=1">`, `initial-scale=1"/>`, `content="5">`, `content="5"/>`).Replace(body)
	d := xml.NewDecoder(strings.NewReader(body))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
	}
}

func TestPage(t *testing.T) {
	s := newServer(live("orders"), live("users"))
	_, body := get(t, s, "/")
	wellFormed(t, body)
	for _, want := range []string{"<h1>shop</h1>", `<span class="badge good">Ready</span>`, "<h2>orders</h2>", "lease held as me, epoch 3", "<dt>Runway</dt><dd>30 h</dd>", "2 of 2", `http-equiv="refresh"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q:\n%s", want, body)
		}
	}
	for _, never := range []string{"<script", "src=", "http://", "https://", "@import", "url("} { // nothing from elsewhere
		if strings.Contains(body, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if _, body := get(t, s, "/?refresh=off"); strings.Contains(body, "http-equiv") {
		t.Error("it reloads itself although it is not to")
	}
	standby := live("orders")
	standby.Phase, standby.Owner, standby.Holder = rigatoni.PhaseLeasing, "", "other"
	if _, body := get(t, newServer(standby), "/"); !strings.Contains(body, "Standing by") || !strings.Contains(body, "lease held by other") || !strings.Contains(body, "<b>unknown</b>") {
		t.Errorf("a standby:\n%s", body)
	}
	_, body = get(t, newServer(), "/")
	wellFormed(t, body)
	if !strings.Contains(body, "Not ready") {
		t.Errorf("before the pipeline is there:\n%s", body)
	}
}

// The charts show an hour: the rate between samples, and the worst lag of each point.
func TestHistory(t *testing.T) {
	var s sampler
	st := healthy("orders")
	at := now
	tick := func(events uint64, lag time.Duration) {
		at = at.Add(sampleEvery)
		st.Events += events
		st.Position = at.Add(-lag)
		s.sample([]rigatoni.StreamStatus{st}, at)
	}
	last := func(values []float64) float64 { return values[len(values)-1] }
	tick(1000, time.Second) // before the first sample: no rate
	h := s.streams[0]
	if lag := s.series(&h.lag); len(lag) != fewest || last(lag) != 1 || !math.IsNaN(lag[0]) || !math.IsNaN(last(s.series(&h.rate))) {
		t.Errorf("after one sample: %v %v", lag, s.series(&h.rate))
	}
	tick(500, 20*time.Second)
	tick(500, 3*time.Second)
	if lag, rate := s.series(&h.lag), s.series(&h.rate); last(lag) != 20 || last(rate) != 100 || h.now != 100 {
		t.Errorf("the lag is %v, the rate %v", last(lag), last(rate))
	}
	for range 2 * points {
		for range 3 {
			tick(50, 0)
		}
	}
	lag, rate := s.series(&h.lag), s.series(&h.rate)
	if len(lag) != points || highest(lag) != 0 || rate[0] != 10 || last(rate) != 10 {
		t.Errorf("after two hours: %d points, highest lag %v, rates %v to %v", len(lag), highest(lag), rate[0], last(rate))
	}
	at = at.Add(10 * time.Minute) // suspended
	tick(0, 0)
	if lag := s.series(&h.lag); !math.IsNaN(lag[points-10]) || math.IsNaN(lag[points-60]) {
		t.Error("the time in which the process was suspended is no hole in the chart")
	}
}

func TestChart(t *testing.T) {
	nan := math.NaN()
	svg := string(chart([]float64{nan, 5, 10, nan, 0}, 10, `a "label"`))
	for _, want := range []string{"M60.0 29.5h0.1L120.0 3.0M240.0 56.0h0.1", "L120.0 56L60.0 56Z", `aria-label="a &#34;label&#34;"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	for v, want := range map[float64]float64{0: 20, 19: 20, 20.5: 50, 51: 100, 7000: 10000} {
		if got := roundUp(v, 20); got != want {
			t.Errorf("%v is rounded up to %v", v, got)
		}
	}
}
