package statusserver

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
)

// A view is what the page shows.
type view struct {
	Pipeline, Version string
	Now, Up           string
	Tone, State       string
	Reasons           []Reason
	Figures           []figure // of all streams together
	Cards             []card
	From, To, Total   int
	Previous, Next    string // links; "" for none
	Refresh           int    // seconds; 0: not
}

// A figure is a number with its name.
type figure struct {
	Name, Value string
	Note        string // shown small behind it
	Bad         bool
}

// A card is one stream.
type card struct {
	Name, Key, Phase string
	Tone             string // good, warn or bad
	Lease            string
	Reasons          []Reason
	Lag, Rate        plot
	Figures          []figure
	Snapshot         *copying // nil if none is under way
	Gap, Error       string
}

// A copying is a snapshot that is under way.
type copying struct {
	Text        string
	Documents   int64
	Estimated   int64 // 0: unknown
	Collections []figure
	More        int // collections that are not shown
}

// pageCollections is how many collections of a copy are shown.
const pageCollections = 20

func copyingOf(s *rigatoni.SnapshotStatus) *copying {
	if s == nil {
		return nil
	}
	c := &copying{Text: snapshotview.Text(*s), Documents: s.Documents, Estimated: s.DocumentsEstimated}
	shown := s.Collections[:min(len(s.Collections), pageCollections)]
	for _, one := range shown {
		c.Collections = append(c.Collections, figure{Name: one.Namespace.String(), Value: snapshotview.Line(one)})
	}
	c.More = max(0, s.CollectionsTotal-len(shown))
	return c
}

// A plot is a chart of the last hour with its current value.
type plot struct {
	Title, Value string
	Top, From    string // the ends of the axes
	SVG          markup
}

// page writes the page. It is whole before the first byte is sent.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	page, err := number(r.URL.Query().Get("page"), 1, 1<<20)
	if err != nil {
		plain(w, http.StatusBadRequest, "page is a number from 1 on\n")
		return
	}
	v := s.view(s.streams(), max(1, page), time.Now())
	if r.URL.Query().Get("refresh") == "off" {
		v.Refresh = 0
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, string(v.markup())) // the client may have left
}

func (s *Server) view(streams []rigatoni.StreamStatus, page int, now time.Time) view {
	reasons := s.reasons(streams, now)
	v := view{
		Pipeline: s.o.Pipeline, Version: s.o.Version, Now: clock(now), Up: brief(now.Sub(s.started)),
		Reasons: reasons, Total: len(streams), Refresh: 5,
	}
	v.Tone, v.State = judge(reasons)
	if len(streams) > 1 {
		v.Figures = s.totals(streams, now)
	}
	order := s.worstFirst(streams, now)
	v.From = min((page-1)*pageStreams, len(order))
	v.To = min(v.From+pageStreams, len(order))
	if v.From > 0 {
		v.Previous = "?page=" + strconv.Itoa(page-1)
	}
	if v.To < len(order) {
		v.Next = "?page=" + strconv.Itoa(page+1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range order[v.From:v.To] {
		v.Cards = append(v.Cards, s.card(streams[i], i, now))
	}
	v.From++ // for people
	return v
}

// judge is the state of a pipeline in a word. To stand by is no trouble.
func judge(reasons []Reason) (tone, state string) {
	notLease := func(r Reason) bool { return r.Code != "lease" }
	switch {
	case len(reasons) == 0:
		return "good", "Ready"
	case !slices.ContainsFunc(reasons, notLease):
		return "warn", "Standing by"
	}
	return "bad", "Not ready"
}

// worstFirst are the indexes of the streams: those that are not ready first, otherwise
// in the source's order.
func (s *Server) worstFirst(streams []rigatoni.StreamStatus, now time.Time) []int {
	order, bad := make([]int, len(streams)), make([]int, len(streams))
	for i, st := range streams {
		order[i], bad[i] = i, min(1, len(reasonsOf(st, s.o.Limits, now)))
	}
	slices.SortStableFunc(order, func(a, b int) int { return bad[b] - bad[a] })
	return order
}

// totals are the figures of all streams together.
func (s *Server) totals(streams []rigatoni.StreamStatus, now time.Time) []figure {
	var rate float64
	s.mu.Lock()
	for _, h := range s.sampler.streams {
		rate += h.now
	}
	s.mu.Unlock()
	up, held, inFlight, gaps := 0, 0, 0, 0
	longest, shortest := "unknown", "unknown"
	var lag, runway *time.Duration
	for _, st := range streams {
		inFlight, gaps = inFlight+st.InFlight, gaps+st.Gaps
		if l := st.Lag(now); lagKnown(st) && (lag == nil || l > *lag) {
			lag = &l
		}
		if st.Owner != "" {
			held++
		}
		if st.Phase == rigatoni.PhaseStreaming && st.Outage.IsZero() {
			up++
		}
		if st.RunwayKnown && (runway == nil || st.Runway < *runway) {
			runway = &st.Runway
		}
	}
	if runway != nil {
		shortest = brief(*runway)
	}
	if lag != nil {
		longest = brief(*lag)
	}
	return []figure{
		{Name: "Streams up", Value: fmt.Sprintf("%s of %s", grouped(up), grouped(len(streams))), Bad: up < len(streams)},
		{Name: "Leases held", Value: grouped(held)},
		{Name: "Throughput", Value: grouped(int(rate+0.5)) + "/s"},
		{Name: "Longest lag", Value: longest},
		{Name: "Shortest runway", Value: shortest},
		{Name: "In flight", Value: grouped(inFlight)},
		{Name: "Gaps on record", Value: grouped(gaps), Bad: gaps > 0},
	}
}

// card shows the i-th stream. The caller holds the lock.
func (s *Server) card(st rigatoni.StreamStatus, i int, now time.Time) card {
	c := card{Name: st.Stream, Key: st.Key, Phase: string(st.Phase), Tone: "good", Lease: lease(st), Error: errorText(st.LastError)}
	if c.Name == "" {
		c.Name = st.Key
	}
	if c.Reasons = reasonsOf(st, s.o.Limits, now); len(c.Reasons) > 0 {
		c.Tone = "warn"
		if st.Phase == rigatoni.PhaseFailed || !st.Outage.IsZero() || !st.StoreFailed.IsZero() {
			c.Tone = "bad"
		}
	}
	if c.Error != "" {
		c.Error = ago(st.LastErrorAt, now) + ": " + c.Error
	}
	if st.Gaps > 0 {
		g := st.LastGap
		c.Gap = fmt.Sprintf("events between %s and %s may be missing (%s; decided by %s, recorded %s)",
			clock(wall(g.From.T)), clock(wall(g.To.T)), g.Reason, g.Policy, clock(g.At))
		if !g.Healed.IsZero() {
			c.Gap += "; healed by a snapshot that ended " + clock(g.Healed)
		}
		if g.Remains != "" {
			c.Gap += "; what remains: " + g.Remains
		}
	}
	c.Snapshot = copyingOf(st.Snapshot)
	c.Figures = figures(st, s.o.Limits, now)
	c.Lag, c.Rate = s.plots(st, i, now)
	return c
}

// lease says who has a stream's lease.
func lease(st rigatoni.StreamStatus) string {
	switch {
	case st.Owner != "":
		return fmt.Sprintf("lease held as %s, epoch %d", st.Owner, st.Epoch)
	case st.Holder != "" && !st.HeldUntil.IsZero():
		return fmt.Sprintf("lease held by %s, until %s or renewed", st.Holder, st.HeldUntil.UTC().Format("15:04:05"))
	case st.Holder != "":
		return "lease held by " + st.Holder
	}
	return "no lease held"
}

// plots are the charts of the i-th stream.
func (s *Server) plots(st rigatoni.StreamStatus, i int, now time.Time) (lag, rate plot) {
	lag, rate = plot{Title: "Lag", Value: "unknown"}, plot{Title: "Throughput", Value: "0/s"}
	if lagKnown(st) {
		lag.Value = brief(st.Lag(now))
	}
	if i >= len(s.sampler.streams) {
		return lag, rate
	}
	h := s.sampler.streams[i]
	rate.Value = grouped(int(h.now+0.5)) + "/s"
	lags, rates := s.sampler.series(&h.lag), s.sampler.series(&h.rate)
	top := roundUp(highest(lags), 20)
	lag.Top, lag.SVG = brief(time.Duration(top*float64(time.Second))), chart(lags, top, "lag over the last hour")
	top = roundUp(highest(rates), 10)
	rate.Top, rate.SVG = grouped(int(top))+"/s", chart(rates, top, "events a second over the last hour")
	lag.From, rate.From = span(len(lags)), span(len(rates))
	return lag, rate
}

// figures are the numbers of one stream.
func figures(st rigatoni.StreamStatus, l Limits, now time.Time) []figure {
	unknown := func(text string, known bool) string {
		if !known {
			return "unknown"
		}
		return text
	}
	interruptions := uint64(0)
	for _, n := range st.Interruptions {
		interruptions += n
	}
	all := []figure{
		{Name: "Position", Value: unknown(st.Position.UTC().Format("15:04:05"), !st.Position.IsZero()), Note: date(st.Position)},
		{Name: "Checkpoint", Value: unknown(ago(st.LastSave, now), !st.LastSave.IsZero()), Bad: l.CheckpointAge > 0 && !st.LastSave.IsZero() && now.Sub(st.LastSave) > l.CheckpointAge},
		{Name: "Runway", Value: unknown(brief(st.Runway), st.RunwayKnown), Bad: st.RunwayKnown && st.Runway < l.Runway},
		{Name: "In flight", Value: grouped(st.InFlight)},
		{Name: "Events", Value: grouped(st.Events), Note: size(st.Bytes)},
		{Name: "Saves", Value: grouped(st.Saves)},
	}
	for _, f := range []struct {
		name string
		n    uint64
	}{{"Retries", st.Retries}, {"Failed saves", st.SaveErrors}, {"Interruptions", interruptions}, {"Rewinds", st.Rewinds}, {"Dropped", st.Dropped},
		{"Refused", st.Refused}, {"Dead letters", st.DeadLetters}, {"Gaps", uint64(st.Gaps)}} {
		if f.n > 0 {
			all = append(all, figure{Name: f.name, Value: grouped(f.n), Bad: f.name == "Refused" || f.name == "Gaps"})
		}
	}
	return all
}

func wall(seconds uint32) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// clock is a time for people, in UTC.
func clock(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// date is the day of a time; "" if it is unknown.
func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("Jan 2")
}

func ago(t, now time.Time) string { return brief(now.Sub(t)) + " ago" }

// grouped writes 1234567 as 1,234,567.
func grouped[N int | uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(bytes uint64) string {
	switch {
	case bytes < 10<<10:
		return grouped(bytes) + " B"
	case bytes < 10<<20:
		return grouped(bytes>>10) + " KiB"
	}
	return grouped(bytes>>20) + " MiB"
}
