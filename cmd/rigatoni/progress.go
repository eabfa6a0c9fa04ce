package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
)

// report logs that the pipeline is ready, and shows its progress, until ctx ends
// or stop is called.
func report(ctx context.Context, p *rigatoni.Pipeline, s config.Settings, screen *console, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	shown, hide := context.WithCancel(context.WithoutCancel(ctx)) // also while it stops
	var wg sync.WaitGroup
	if screen.terminal {
		wg.Go(func() { tick(shown, time.Second/4, p, func(pr progress) { screen.show(pr.line()) }) })
	}
	wg.Go(func() {
		if p.Wait(ctx) != nil {
			return // Run returns the error
		}
		log.Info("ready", "pipeline", s.Pipeline.Name)
		if !screen.terminal && s.Messages.ProgressInterval > 0 {
			tick(ctx, s.Messages.ProgressInterval, p, func(pr progress) { log.LogAttrs(ctx, slog.LevelInfo, "progress", pr.attrs()...) })
		}
	})
	return func() {
		cancel()
		hide()
		wg.Wait()
		screen.clear()
	}
}

func tick(ctx context.Context, every time.Duration, p *rigatoni.Pipeline, show func(progress)) {
	m := meter{started: time.Now()}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			show(m.measure(total(p.Status()), time.Now()))
		}
	}
}

// A summary is the state of all streams together.
type summary struct {
	events, saves, retries, saveErrors, deadLetters uint64

	streams, streaming int
	phase              rigatoni.Phase // of a stream that is not streaming
	position           time.Time      // of the stream furthest behind; zero if one is unknown
	lastSave           time.Time      // of the stream whose checkpoint is oldest; zero if one has none

	inFlight    int
	away        int                    // streams whose server doesn't answer
	outage      time.Time              // since when, the longest of them
	storeFailed time.Time              // since when saves or renewals fail, the longest of them
	waiting     *rigatoni.StreamStatus // one that waits for a lease, if there is any
	snapshot    *rigatoni.SnapshotStatus
}

func total(streams []rigatoni.StreamStatus) summary {
	sum := summary{streams: len(streams), snapshot: snapshotview.Together(streams)}
	for i, s := range streams {
		sum.events += s.Events
		sum.saves += s.Saves
		sum.retries += s.Retries
		sum.saveErrors += s.SaveErrors
		sum.deadLetters += s.DeadLetters
		sum.inFlight += s.InFlight
		if s.Phase == rigatoni.PhaseStreaming {
			sum.streaming++
		} else {
			sum.phase = s.Phase
		}
		at := s.Position
		if s.LastEvent.After(at) { // the one is only known between events
			at = s.LastEvent
		}
		if i == 0 || at.Before(sum.position) {
			sum.position = at
		}
		if i == 0 || s.LastSave.Before(sum.lastSave) {
			sum.lastSave = s.LastSave
		}
		if !s.Outage.IsZero() {
			sum.away++
			if sum.outage.IsZero() || s.Outage.Before(sum.outage) {
				sum.outage = s.Outage
			}
		}
		if !s.StoreFailed.IsZero() && (sum.storeFailed.IsZero() || s.StoreFailed.Before(sum.storeFailed)) {
			sum.storeFailed = s.StoreFailed
		}
		if s.Holder != "" {
			sum.waiting = &streams[i]
		}
	}
	return sum
}

// A progress is a summary at a point in time.
type progress struct {
	sum  summary
	now  time.Time
	rate float64 // events a second, lately
}

// meter measures the rate over the last few seconds.
type meter struct {
	started  time.Time
	readings []reading
}

type reading struct {
	at     time.Time
	events uint64
}

// window is how far back the rate looks; at a slower pace, to the last reading.
const window = 3 * time.Second

func (m *meter) measure(s summary, now time.Time) progress {
	if len(m.readings) == 0 {
		m.readings = []reading{{at: m.started}}
	}
	for len(m.readings) > 1 && now.Sub(m.readings[1].at) >= window {
		m.readings = m.readings[1:]
	}
	p := progress{sum: s, now: now}
	if first := m.readings[0]; now.After(first.at) {
		p.rate = float64(s.events-first.events) / now.Sub(first.at).Seconds()
	}
	m.readings = append(m.readings, reading{now, s.events})
	return p
}

// idleLag is the largest lag of a stream that is idle. Its position advances only with
// the no-ops of the server, every ten seconds.
const idleLag = 30 * time.Second

// lag is how far the slowest stream is behind the cluster.
func (p progress) lag() (lag time.Duration, known, idle bool) {
	quiet := p.rate == 0 && p.sum.inFlight == 0 && p.sum.away == 0
	if p.sum.position.IsZero() {
		return 0, false, quiet
	}
	lag = max(0, p.now.Sub(p.sum.position))
	return lag, true, quiet && lag < idleLag
}

// line is the status line on a terminal.
func (p progress) line() string {
	parts := []string{grouped(p.sum.events) + " events", fmt.Sprintf("%s/s", grouped(uint64(p.rate+0.5)))}
	if p.sum.events == 0 && p.sum.streaming == 0 {
		parts = nil // it has not begun
	}
	if p.sum.snapshot != nil {
		parts = append([]string{snapshotview.Brief(*p.sum.snapshot)}, parts...)
	}
	if p.sum.streaming > 0 {
		parts = append(parts, p.lagText())
	}
	switch {
	case !p.sum.lastSave.IsZero():
		parts = append(parts, "last checkpoint "+brief(p.now.Sub(p.sum.lastSave))+" ago")
	case p.sum.streaming > 0:
		parts = append(parts, "no checkpoint yet")
	}
	if !p.sum.storeFailed.IsZero() {
		parts = append(parts, "the store fails for "+brief(p.now.Sub(p.sum.storeFailed)))
	}
	if p.sum.streaming < p.sum.streams {
		parts = append(parts, p.notStreaming()...)
	}
	for _, c := range []struct {
		n    uint64
		what string
	}{{p.sum.retries, "retries"}, {p.sum.saveErrors, "failed saves"}, {p.sum.deadLetters, "dead letters"}} {
		if c.n > 0 {
			parts = append(parts, grouped(c.n)+" "+c.what)
		}
	}
	return strings.Join(parts, " · ")
}

// lagText is how far behind the streams are; where a server doesn't answer, nobody
// knows.
func (p progress) lagText() string {
	lag, known, idle := p.lag()
	switch {
	case p.sum.away > 0 && p.sum.away < p.sum.streams:
		return fmt.Sprintf("no answer from MongoDB for %s (%d of %d streams)", brief(p.now.Sub(p.sum.outage)), p.sum.away, p.sum.streams)
	case p.sum.away > 0:
		return "no answer from MongoDB for " + brief(p.now.Sub(p.sum.outage))
	case idle:
		return "idle"
	case known:
		return "lag " + brief(lag)
	}
	return "lag unknown"
}

// notStreaming is what the streams that are not open do.
func (p progress) notStreaming() (parts []string) {
	if p.sum.streams > 1 {
		parts = append(parts, fmt.Sprintf("%d of %d streams open", p.sum.streaming, p.sum.streams))
	}
	if w := p.sum.waiting; w != nil {
		text := fmt.Sprintf("waiting for the lease, which %q holds", w.Holder)
		if w.HeldUntil.IsZero() {
			return append(parts, text+" until it ends")
		}
		return append(parts, text+" until "+w.HeldUntil.Local().Format(time.TimeOnly))
	}
	switch p.sum.phase {
	case rigatoni.PhaseLeasing:
		return append(parts, "acquiring the lease")
	case rigatoni.PhaseRewinding:
		return append(parts, "going back to the last checkpoint")
	case rigatoni.PhaseStopping:
		return append(parts, fmt.Sprintf("stopping, %s events in hand", grouped(p.sum.inFlight)))
	case rigatoni.PhaseStarting, rigatoni.PhaseOpening:
		return append(parts, "opening the stream")
	}
	return parts
}

// attrs are the same for a log.
func (p progress) attrs() []slog.Attr {
	a := []slog.Attr{
		slog.Uint64("events", p.sum.events), slog.Float64("events_per_second", tenths(p.rate)), slog.Uint64("saves", p.sum.saves),
		slog.Uint64("retries", p.sum.retries), slog.Uint64("save_errors", p.sum.saveErrors), slog.Uint64("dead_letters", p.sum.deadLetters),
	}
	if p.sum.streams > 1 || p.sum.streaming < p.sum.streams {
		a = append(a, slog.Int("streams", p.sum.streams), slog.Int("streams_open", p.sum.streaming))
	}
	if !p.sum.outage.IsZero() {
		a = append(a, slog.Int("streams_away", p.sum.away), slog.Float64("outage_seconds", tenths(p.now.Sub(p.sum.outage).Seconds())))
	}
	if !p.sum.storeFailed.IsZero() {
		a = append(a, slog.Float64("store_failed_seconds", tenths(p.now.Sub(p.sum.storeFailed).Seconds())))
	}
	if lag, known, _ := p.lag(); known {
		a = append(a, slog.Float64("lag_seconds", tenths(lag.Seconds())))
	}
	if s := p.sum.snapshot; s != nil {
		a = append(a, slog.Int64("snapshot_documents", s.Documents), slog.Int64("snapshot_documents_estimated", s.DocumentsEstimated),
			slog.Int("snapshot_collections_done", s.CollectionsDone), slog.Int("snapshot_collections", s.CollectionsTotal))
		if s.ETA > 0 {
			a = append(a, slog.Float64("snapshot_eta_seconds", math.Round(s.ETA.Seconds())))
		}
	}
	if !p.sum.lastSave.IsZero() {
		a = append(a, slog.Float64("checkpoint_age_seconds", tenths(p.now.Sub(p.sum.lastSave).Seconds())))
	}
	return a
}

func tenths(f float64) float64 { return math.Round(f*10) / 10 }

// brief is a duration for people.
func brief(d time.Duration) string {
	switch d = max(0, d); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}

// grouped writes 1234567 as 1,234,567.
func grouped[N int | uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
