package statusserver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

var now = time.Date(2026, 11, 23, 0, 46, 0, 0, time.UTC)

// healthy is a stream that is well.
func healthy(name string) rigatoni.StreamStatus {
	return rigatoni.StreamStatus{
		Stream: name, Key: "shop/" + name, Phase: rigatoni.PhaseStreaming, Owner: "me", Epoch: 3,
		Position: now.Add(-time.Second), Checkpoint: now.Add(-2 * time.Second), LastSave: now.Add(-time.Second), Runway: 30 * time.Hour, RunwayKnown: true,
	}
}

var limits = Limits{CheckpointAge: time.Minute, Runway: time.Hour}

func TestReasons(t *testing.T) {
	away := errors.New("connection refused")
	for name, c := range map[string]struct {
		change func(s *rigatoni.StreamStatus)
		code   string // "" for ready
		text   string
	}{
		"nothing":                          {func(*rigatoni.StreamStatus) {}, "", ""},
		"a runway that is unknown":         {func(s *rigatoni.StreamStatus) { s.Runway, s.RunwayKnown = 0, false }, "", ""},
		"a runway at the limit":            {func(s *rigatoni.StreamStatus) { s.Runway = time.Hour }, "", ""},
		"an old error":                     {func(s *rigatoni.StreamStatus) { s.LastError, s.LastErrorAt = away, now }, "", ""},
		"a checkpoint that is not old yet": {func(s *rigatoni.StreamStatus) { s.LastSave = now.Add(-time.Minute) }, "", ""},
		"gaps and dead letters":            {func(s *rigatoni.StreamStatus) { s.Gaps, s.DeadLetters = 3, 4 }, "", ""},

		"a new phase": {func(s *rigatoni.StreamStatus) { s.Phase = "copying" }, "starting", "it is copying"},
		"not begun":   {func(s *rigatoni.StreamStatus) { s.Phase = rigatoni.PhaseStarting }, "starting", "has not begun"},
		"opening":     {func(s *rigatoni.StreamStatus) { s.Phase = rigatoni.PhaseOpening }, "starting", "opens the destination and the stream"},
		"standing by": {func(s *rigatoni.StreamStatus) { s.Phase, s.Holder = rigatoni.PhaseLeasing, "other" }, "lease", "which other holds"},
		"leasing":     {func(s *rigatoni.StreamStatus) { s.Phase = rigatoni.PhaseLeasing }, "lease", "acquires the lease"},
		"server away": {func(s *rigatoni.StreamStatus) { s.Outage, s.OutageErr = now.Add(-time.Second), away }, "server", "has not answered for 1.0 s: connection refused"},
		"store away":  {func(s *rigatoni.StreamStatus) { s.StoreFailed, s.StoreErr = now.Add(-time.Second), away }, "store", "failing for 1.0 s: connection refused"},
		"checkpoint":  {func(s *rigatoni.StreamStatus) { s.LastSave = now.Add(-61 * time.Second) }, "checkpoint", "saved 61 s ago, and 60 s is allowed (ready-checkpoint-age)"},
		"why it is old": {func(s *rigatoni.StreamStatus) {
			s.LastSave, s.LastError, s.LastErrorAt = now.Add(-time.Hour), away, now
		}, "checkpoint", "connection refused"},
		"short runway": {func(s *rigatoni.StreamStatus) { s.Runway = time.Minute }, "runway", "by 60 s, and 60 min is needed (ready-runway)"},
		"no runway":    {func(s *rigatoni.StreamStatus) { s.Runway = 0 }, "runway", "by 0.0 s"},
		"rewinding":    {func(s *rigatoni.StreamStatus) { s.Phase = rigatoni.PhaseRewinding }, "rewinding", "goes back"},
		"stopping":     {func(s *rigatoni.StreamStatus) { s.Phase = rigatoni.PhaseStopping }, "stopping", "being stopped"},
		"stopped":      {func(s *rigatoni.StreamStatus) { s.Phase = rigatoni.PhaseStopped }, "stopping", ""},
		"failed":       {func(s *rigatoni.StreamStatus) { s.Phase, s.LastError = rigatoni.PhaseFailed, away }, "failed", "has ended: connection refused"},
	} {
		s := healthy("orders")
		c.change(&s)
		got := Reasons([]rigatoni.StreamStatus{healthy("users"), s}, limits, now)
		switch {
		case c.code == "" && got != nil:
			t.Errorf("%s: not ready: %v", name, got)
		case c.code != "" && (len(got) != 1 || got[0].Code != c.code || !strings.Contains(got[0].Text, c.text) || got[0].Stream != "orders" || got[0].Streams != 1):
			t.Errorf("%s: %v, want %s: %s", name, got, c.code, c.text)
		}
	}
	if got := Reasons([]rigatoni.StreamStatus{func() rigatoni.StreamStatus { s := healthy(""); s.LastSave, s.Runway = time.Unix(1, 0), 0; return s }()}, Limits{}, now); got != nil {
		t.Errorf("without limits: %v", got)
	}
}

// Of many streams there is a line of each kind, and not one for each stream.
func TestReasonsOfManyStreams(t *testing.T) {
	all := make([]rigatoni.StreamStatus, 10000)
	for i := range all {
		all[i] = healthy("s")
		all[i].Outage, all[i].OutageErr = now, errors.New("away")
		if i%2 == 0 {
			all[i].Runway = 0
		}
	}
	got := Reasons(all, limits, now)
	if len(got) != 2 || got[0].Streams != 10000 || got[1].Streams != 5000 {
		t.Errorf("%v", got)
	}
	if text := got[1].String(); !strings.HasSuffix(text, `(stream "s", and 4999 more)`) {
		t.Errorf("%s", text)
	}
}
