package statusserver

import (
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
)

// A Document is what /status answers. Its fields are documented in docs/operations.md;
// they are added to, and don't change. What is unknown is null.
type Document struct {
	Version  string    `json:"version"`
	Pipeline string    `json:"pipeline"`
	Time     time.Time `json:"time"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	Reasons  []Reason  `json:"reasons"`
	// Streams are those from Offset on; Total is how many there are.
	Total   int      `json:"streams_total"`
	Offset  int      `json:"offset"`
	Streams []Stream `json:"streams"`
}

// A Stream is the part of a Document about one stream.
type Stream struct {
	Stream    string     `json:"stream"`
	Key       string     `json:"key"`
	Phase     string     `json:"phase"`
	Owner     string     `json:"owner"`
	Epoch     uint64     `json:"epoch"`
	Holder    string     `json:"holder"`
	HeldUntil *time.Time `json:"held_until"`

	Position        *time.Time `json:"position"`
	Lag             *float64   `json:"lag_seconds"`
	EventsPerSecond float64    `json:"events_per_second"`
	LastEvent       *time.Time `json:"last_event"`
	Checkpoint      *time.Time `json:"checkpoint"`
	CheckpointSaved *time.Time `json:"checkpoint_saved"`
	CheckpointAge   *float64   `json:"checkpoint_age_seconds"`
	Runway          *float64   `json:"runway_seconds"`

	Events        uint64            `json:"events"`
	Bytes         uint64            `json:"bytes"`
	Batches       uint64            `json:"batches"`
	InFlight      int               `json:"in_flight"`
	Retries       uint64            `json:"retries"`
	Dropped       uint64            `json:"dropped"`
	Refused       uint64            `json:"refused"`
	DeadLetters   uint64            `json:"dead_letters"`
	Saves         uint64            `json:"saves"`
	SaveErrors    uint64            `json:"save_errors"`
	Rewinds       uint64            `json:"rewinds"`
	Interruptions map[string]uint64 `json:"interruptions"`

	// Snapshot is the copy that is under way; null if none is.
	Snapshot *snapshotview.View `json:"snapshot"`

	Gaps    int           `json:"gaps"`
	LastGap *rigatoni.Gap `json:"last_gap"`

	ServerDownSince *time.Time `json:"server_down_since"`
	ServerError     string     `json:"server_error"`
	StoreDownSince  *time.Time `json:"store_down_since"`
	StoreError      string     `json:"store_error"`
	LastError       string     `json:"last_error"`
	LastErrorAt     *time.Time `json:"last_error_at"`
}

// streamOf is a status as a Document has it.
func streamOf(st rigatoni.StreamStatus, rate float64, now time.Time) Stream {
	d := Stream{
		Stream: st.Stream, Key: st.Key, Phase: string(st.Phase), Owner: st.Owner, Epoch: st.Epoch, Holder: st.Holder, HeldUntil: timeOf(st.HeldUntil),
		Position: timeOf(st.Position), Lag: secondsSince(st.Position, now), EventsPerSecond: rate, LastEvent: timeOf(st.LastEvent),
		Checkpoint: timeOf(st.Checkpoint), CheckpointSaved: timeOf(st.LastSave), CheckpointAge: secondsSince(st.LastSave, now),
		Events: st.Events, Bytes: st.Bytes, Batches: st.Batches, InFlight: st.InFlight, Retries: st.Retries, Dropped: st.Dropped, Refused: st.Refused,
		DeadLetters: st.DeadLetters, Saves: st.Saves, SaveErrors: st.SaveErrors, Rewinds: st.Rewinds, Interruptions: st.Interruptions, Gaps: st.Gaps,
		ServerDownSince: timeOf(st.Outage), ServerError: errorText(st.OutageErr), StoreDownSince: timeOf(st.StoreFailed), StoreError: errorText(st.StoreErr),
		LastError: errorText(st.LastError), LastErrorAt: timeOf(st.LastErrorAt),
	}
	if d.Interruptions == nil {
		d.Interruptions = map[string]uint64{}
	}
	if st.RunwayKnown {
		runway := st.Runway.Seconds()
		d.Runway = &runway
	}
	d.Snapshot = snapshotview.Of(st.Snapshot)
	if st.Gaps > 0 {
		d.LastGap = &st.LastGap
	}
	return d
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}

func secondsSince(t, now time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	s := max(0, now.Sub(t).Round(time.Millisecond).Seconds())
	return &s
}
