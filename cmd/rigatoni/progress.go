package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// report says that the pipeline is ready, and shows its progress, until ctx ends
// or stop is called.
func report(ctx context.Context, p *rigatoni.Pipeline, s config.Settings, screen *console, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		screen.show("opening the stream…")
		select {
		case <-p.Ready():
		case <-ctx.Done():
			return
		}
		log.Info("ready", "pipeline", s.Pipeline.Name)
		if screen.terminal {
			tick(ctx, time.Second/4, p, func(pr progress) { screen.show(pr.line()) })
		} else {
			tick(ctx, s.Messages.ProgressInterval, p, func(pr progress) { log.LogAttrs(ctx, slog.LevelInfo, "progress", pr.attrs()...) })
		}
	})
	return func() {
		cancel()
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

// total adds up the streams. Its position is that of the stream furthest behind.
func total(streams []rigatoni.StreamStatus) (sum rigatoni.StreamStatus) {
	for i, s := range streams {
		sum.Events += s.Events
		sum.Saves += s.Saves
		sum.Retries += s.Retries
		sum.SaveErrors += s.SaveErrors
		if i == 0 || s.Position.Before(sum.Position) {
			sum.Position = s.Position
		}
		if s.LastEvent.After(sum.LastEvent) {
			sum.LastEvent = s.LastEvent
		}
		if i == 0 || s.LastSave.Before(sum.LastSave) {
			sum.LastSave = s.LastSave
		}
	}
	return sum
}

// A progress is what there is to show at a moment.
type progress struct {
	stats rigatoni.StreamStatus
	now   time.Time
	rate  float64 // events a second, lately
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

func (m *meter) measure(s rigatoni.StreamStatus, now time.Time) progress {
	if len(m.readings) == 0 {
		m.readings = []reading{{at: m.started}}
	}
	for len(m.readings) > 1 && now.Sub(m.readings[1].at) >= window {
		m.readings = m.readings[1:]
	}
	p := progress{stats: s, now: now}
	if first := m.readings[0]; now.After(first.at) {
		p.rate = float64(s.Events-first.events) / now.Sub(first.at).Seconds()
	}
	m.readings = append(m.readings, reading{now, s.Events})
	return p
}

// lag is how far behind the cluster the pipeline is known to be. A stream on
// which nothing happens moves on only with the server's own no-ops, every ten
// seconds; less than that says nothing then.
func (p progress) lag() (lag time.Duration, known, idle bool) {
	at := p.stats.Position
	if p.stats.LastEvent.After(at) {
		at = p.stats.LastEvent
	}
	if at.IsZero() {
		return 0, false, p.rate == 0
	}
	lag = max(0, p.now.Sub(at))
	return lag, true, p.rate == 0 && lag < 15*time.Second
}

// line is the line on a terminal.
func (p progress) line() string {
	lag, known, idle := p.lag()
	parts := []string{grouped(p.stats.Events) + " events", fmt.Sprintf("%s/s", grouped(uint64(p.rate+0.5)))}
	switch {
	case idle:
		parts = append(parts, "idle")
	case known:
		parts = append(parts, "lag "+brief(lag))
	default:
		parts = append(parts, "lag unknown")
	}
	if p.stats.LastSave.IsZero() {
		parts = append(parts, "no checkpoint yet")
	} else {
		parts = append(parts, "last checkpoint "+brief(p.now.Sub(p.stats.LastSave))+" ago")
	}
	if p.stats.Retries > 0 {
		parts = append(parts, grouped(p.stats.Retries)+" retries")
	}
	if p.stats.SaveErrors > 0 {
		parts = append(parts, grouped(p.stats.SaveErrors)+" failed saves")
	}
	return strings.Join(parts, " · ")
}

// attrs are the same for a log.
func (p progress) attrs() []slog.Attr {
	a := []slog.Attr{
		slog.Uint64("events", p.stats.Events), slog.Float64("per second", float64(int(p.rate*10+0.5))/10),
		slog.Uint64("saves", p.stats.Saves), slog.Uint64("retries", p.stats.Retries), slog.Uint64("save errors", p.stats.SaveErrors),
	}
	if lag, known, _ := p.lag(); known {
		a = append(a, slog.String("lag", brief(lag)))
	}
	if !p.stats.LastSave.IsZero() {
		a = append(a, slog.String("last checkpoint", brief(p.now.Sub(p.stats.LastSave))+" ago"))
	}
	return a
}

// brief is a duration as a person wants it.
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
