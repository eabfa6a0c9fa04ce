package redisstore_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// An outage is one warning with its cause and the server, and one line at its end,
// however many calls fail and however often they are retried.
func TestOutageIsLoggedOnce(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes"}})
	var log sharedlog.Buffer
	s := open(t, server.URL(), redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), MaxRetryBackoff: 10 * time.Millisecond})
	ctx := t.Context()
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
	for range 2 {
		before := len(log.String())
		want(t, server.Kill(), nil, "Kill")
		from := time.Now()
		for range 10 {
			want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), state.ErrUnavailable, "Save without a server")
		}
		least := time.Since(from)
		want(t, server.Restart(ctx), nil, "Restart")
		want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
		want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
		lines := strings.Split(strings.TrimSpace(log.String()[before:]), "\n")
		if len(lines) != 2 {
			t.Fatalf("%d lines, want 2:\n%s", len(lines), log.String())
		}
		for _, part := range []string{"level=WARN", "redis unavailable", "connection refused", server.Addr} {
			if !strings.Contains(lines[0], part) {
				t.Errorf("the first line lacks %q: %s", part, lines[0])
			}
		}
		_, seconds, _ := strings.Cut(lines[1], "outage_seconds=")
		if d, err := time.ParseDuration(seconds + "s"); err != nil || d < least || d > time.Since(from) || !strings.Contains(lines[1], "redis available again") {
			t.Errorf("the last line has %v, not %v to %v: %s", d, least, time.Since(from), lines[1])
		}
	}
}

// A retry that helps is no outage.
func TestRetryIsNotLogged(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	var log sharedlog.Buffer
	s := open(t, p.url(), redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p.next(before, before)
	_, err := s.Load(t.Context(), "k")
	want(t, err, state.ErrNotFound, "Load")
	if log.String() != "" {
		t.Errorf("the log: %q", log.String())
	}
}
