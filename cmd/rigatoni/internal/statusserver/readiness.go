package statusserver

import (
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// Limits are what a pipeline that is ready keeps. Zero is no limit.
type Limits struct {
	CheckpointAge time.Duration // the most since the checkpoint was saved
	Runway        time.Duration // the least; one that is unknown is no reason
}

// A Reason is why a pipeline is not ready.
type Reason struct {
	// Code is one of starting, lease, server, store, checkpoint, runway, rewinding,
	// stopping, failed.
	Code string `json:"code"`
	// Text says it for people, of the first stream that it holds for.
	Text string `json:"text"`
	// Stream is that stream, and Streams how many it holds for.
	Stream  string `json:"stream"`
	Streams int    `json:"streams"`
}

// String is the reason in a line.
func (r Reason) String() string {
	text := r.Code + ": " + r.Text
	switch {
	case r.Streams > 1:
		text += fmt.Sprintf(" (stream %q, and %d more)", r.Stream, r.Streams-1)
	case r.Stream != "":
		text += fmt.Sprintf(" (stream %q)", r.Stream)
	}
	return text
}

// Reasons returns why a pipeline with these streams is not ready, a reason of each
// kind; nil if it is ready.
func Reasons(streams []rigatoni.StreamStatus, l Limits, now time.Time) []Reason {
	var all []Reason
	index := map[string]int{}
	for _, s := range streams {
		for _, r := range reasonsOf(s, l, now) {
			i, known := index[r.Code]
			if !known {
				i = len(all)
				index[r.Code] = i
				all = append(all, r)
			}
			all[i].Streams++
		}
	}
	return all
}

// reasonsOf returns why one stream is not ready.
func reasonsOf(s rigatoni.StreamStatus, l Limits, now time.Time) []Reason {
	var all []Reason
	add := func(code, format string, args ...any) {
		all = append(all, Reason{Code: code, Text: fmt.Sprintf(format, args...), Stream: s.Stream})
	}
	if !s.StoreFailed.IsZero() {
		add("store", "the store has been failing for %s%s", brief(now.Sub(s.StoreFailed)), because(s.StoreErr))
	}
	switch s.Phase {
	case rigatoni.PhaseStarting:
		add("starting", "it has not begun")
	case rigatoni.PhaseLeasing:
		if s.Holder != "" {
			add("lease", "waits for the lease, which %s holds", s.Holder)
		} else {
			add("lease", "acquires the lease")
		}
	case rigatoni.PhaseOpening:
		add("starting", "opens the destination and the stream%s", recent(s, now))
	case rigatoni.PhaseRewinding:
		add("rewinding", "goes back to the last checkpoint%s", recent(s, now))
	case rigatoni.PhaseStopping, rigatoni.PhaseStopped:
		add("stopping", "it is being stopped")
	case rigatoni.PhaseFailed:
		add("failed", "it has ended%s", because(s.LastError))
	case rigatoni.PhaseStreaming:
		return append(all, streamingReasons(s, l, now)...)
	default:
		add("starting", "it is %s", s.Phase)
	}
	return all
}

// streamingReasons returns why a stream that is open is not ready.
func streamingReasons(s rigatoni.StreamStatus, l Limits, now time.Time) []Reason {
	var all []Reason
	add := func(code, format string, args ...any) {
		all = append(all, Reason{Code: code, Text: fmt.Sprintf(format, args...), Stream: s.Stream})
	}
	if !s.Outage.IsZero() {
		add("server", "MongoDB has not answered for %s%s", brief(now.Sub(s.Outage)), because(s.OutageErr))
	}
	if age := now.Sub(s.LastSave); l.CheckpointAge > 0 && !s.LastSave.IsZero() && age > l.CheckpointAge {
		add("checkpoint", "the checkpoint was saved %s ago, and %s is allowed (ready-checkpoint-age)%s", brief(age), brief(l.CheckpointAge), recent(s, now))
	}
	if l.Runway > 0 && s.RunwayKnown && s.Runway < l.Runway {
		add("runway", "the oplog reaches back beyond the checkpoint by %s, and %s is needed (ready-runway)", brief(s.Runway), brief(l.Runway))
	}
	return all
}

// recently is how old an error may be to be taken for the reason.
const recently = 5 * time.Minute

func recent(s rigatoni.StreamStatus, now time.Time) string {
	if now.Sub(s.LastErrorAt) > recently {
		return ""
	}
	return because(s.LastError)
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// brief is a duration for people.
func brief(d time.Duration) string {
	switch d = max(0, d); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}
