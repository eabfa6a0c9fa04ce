package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A checkReport is what check found. Its names in JSON are part of the command's
// interface.
type checkReport struct {
	Configuration string        `json:"configuration"`
	Server        partReport    `json:"server"`
	Rights        []rightReport `json:"rights,omitempty"`
	Store         partReport    `json:"store"`
	Destination   partReport    `json:"destination"`

	DestinationRights []rightReport `json:"destination_rights,omitempty"`
	DestinationGrant  string        `json:"destination_grant,omitempty"` // statements that grant what is missing

	DeadLetters *partReport   `json:"dead_letters,omitempty"`
	Start       []startReport `json:"start,omitempty"` // empty where server or store can't be asked
	Notes       []string      `json:"notes,omitempty"`
}

// A partReport is about one of the parts that a pipeline needs.
type partReport struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Note  string `json:"note,omitempty"`
	Error string `json:"error,omitempty"`
}

type rightReport struct {
	Name     string `json:"name"`
	For      string `json:"for"`
	Required bool   `json:"required"`
	Granted  bool   `json:"granted"`
}

// A startReport is what a start would do with one stream.
type startReport struct {
	Key string `json:"key"`
	// Action is resume, recover (from a lost history, as on-history-lost says),
	// first-start, or refused.
	Action        string   `json:"action"`
	From          string   `json:"from,omitempty"` // the cluster time of where it begins, as RFC 3339
	BehindSeconds *float64 `json:"behind_seconds,omitempty"`
	RunwaySeconds *float64 `json:"runway_seconds,omitempty"` // absent: unknown
	Owner         string   `json:"owner,omitempty"`          // who has the lease now
	// Snapshot is the copy that the start begins, or goes on with; absent without one.
	Snapshot *snapshotview.View `json:"snapshot,omitempty"`
	Error    string             `json:"error,omitempty"`
	Text     string             `json:"text"`
}

func partOf(name, note string, err error) partReport {
	p := partReport{Name: name, OK: err == nil, Note: note}
	if err != nil {
		p.Note, p.Error = "", strings.TrimPrefix(config.Words(err.Error()), "rigatoni: ")
	}
	return p
}

// startOf says what would happen to a stream.
func startOf(c rigatoni.StartCheck, s config.Settings, now time.Time) startReport {
	r := startReport{Key: c.Key, Action: "resume"}
	var held *state.HeldError
	if errors.As(c.Err, &held) {
		r.Owner = held.Owner
	}
	var parts []string
	if c.Checkpoint == nil {
		r.Action = "first-start"
		parts = append(parts, "is a first start, "+r.firstStart(c, s))
	} else {
		parts = append(parts, "resumes from "+r.resume(c, now))
		parts = append(parts, r.runway(c))
		if c.Gap != nil {
			r.Action = "recover"
			parts = append(parts, "and the server can't: by "+c.Gap.Policy+" it goes on at "+people(c.Position.ClusterTime)+", and what lies between is a gap on record")
		}
	}
	parts = append(parts, r.snapshot(c)...)
	r.Text = strings.Join(parts, ", ")
	if c.Err != nil {
		r.Action, r.Error = "refused", strings.TrimPrefix(strings.TrimPrefix(config.Words(c.Err.Error()), "rigatoni: "), c.Key+": ")
		r.Text = "refused because " + strings.ReplaceAll(r.Error, "\n", "; ")
		if held != nil && !c.Position.Token.IsZero() {
			r.Text += "; without that it " + strings.Join(parts, ", ")
		}
	}
	return r
}

func (r *startReport) firstStart(c rigatoni.StartCheck, s config.Settings) string {
	if !c.From.IsZero() {
		r.From = clockTime(c.From).Format(time.RFC3339)
		text := "at " + people(c.From)
		if c.From != s.Checkpoints.Start.Time {
			text += ", where other checkpoints of this pipeline end, which it continues"
		}
		return text
	}
	if t := c.Position.ClusterTime; !t.IsZero() {
		r.From = clockTime(t).Format(time.RFC3339)
	}
	switch {
	case c.Position.Snapshot != "":
		return "at now"
	case copiesAtFirst(s.Pipeline) && c.Err == nil:
		return "at now: there is nothing to copy"
	}
	return "at now: what was written before is not delivered"
}

// snapshot says what is copied.
func (r *startReport) snapshot(c rigatoni.StartCheck) []string {
	if c.Position.Snapshot == "" {
		return nil
	}
	status, ok, err := changestream.SnapshotProgress(state.Checkpoint{Extra: map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(c.Position.Snapshot)}})
	switch {
	case err != nil || !ok:
		return nil // the stream has opened with it
	case c.Checkpoint == nil || c.Gap != nil:
		r.Snapshot = snapshotview.Of(&status)
		return []string{"and copies what exists while it streams: " + snapshotview.Plan(status)}
	}
	r.Snapshot = snapshotview.Of(&status)
	return []string{"and goes on with the snapshot: " + snapshotview.Text(status)}
}

func (r *startReport) resume(c rigatoni.StartCheck, now time.Time) string {
	t := c.Checkpoint.ClusterTime
	if t.IsZero() {
		return "a checkpoint of an unknown time"
	}
	r.From = clockTime(t).Format(time.RFC3339)
	if !c.Now.IsZero() {
		now = clockTime(c.Now)
	}
	behind := max(0, now.Sub(clockTime(t)))
	r.BehindSeconds = new(behind.Seconds())
	return people(t) + ", " + brief(behind) + " behind"
}

func (r *startReport) runway(c rigatoni.StartCheck) string {
	if !c.RunwayKnown {
		return "runway unknown"
	}
	r.RunwaySeconds = new(c.Runway.Seconds())
	return "runway " + brief(c.Runway)
}

func clockTime(t bson.Timestamp) time.Time { return time.Unix(int64(t.T), 0).UTC() }

func people(t bson.Timestamp) string { return clockTime(t).Format("2006-01-02 15:04:05 UTC") }

// text is the report for people.
func (r *checkReport) text() string {
	var b strings.Builder
	line := func(name, text string) { fmt.Fprintf(&b, "%-13s  %s\n", name, text) }
	line("configuration", r.Configuration)
	for _, n := range r.Notes {
		line("", n)
	}
	line("server", r.Server.text(""))
	for _, one := range r.Rights {
		line("  right", one.text())
	}
	line("store", r.Store.text("can be used"))
	line("destination", r.Destination.text("can be written to"))
	for _, one := range r.DestinationRights {
		line("  right", one.text())
	}
	if r.DestinationGrant != "" {
		line("  to grant", r.DestinationGrant)
	}
	if r.DeadLetters != nil {
		line("dead letters", r.DeadLetters.text("can be written to"))
	}
	if r.Start == nil {
		line("start", "unknown without server, store and destination")
	}
	for _, s := range r.Start {
		line("start", fmt.Sprintf("%q %s", s.Key, s.Text))
	}
	return b.String()
}

func (p partReport) text(fine string) string {
	if !p.OK {
		return p.Name + ": " + p.Error
	}
	return p.Name + ": " + cmp.Or(p.Note, fine)
}

func (r rightReport) text() string {
	switch {
	case r.Granted:
		return r.Name + ": yes"
	case r.Required:
		return r.Name + ": MISSING, needed for " + r.For
	}
	return r.Name + ": no; it would be for " + r.For
}
