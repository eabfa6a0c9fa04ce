package checkpoints

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
)

// span is a duration in seconds for people.
func span(s *float64) string {
	if s == nil {
		return "unknown"
	}
	switch d := *s; {
	case d < 10:
		return fmt.Sprintf("%.1f s", d)
	case d < 120:
		return fmt.Sprintf("%.0f s", d)
	case d < 2*3600:
		return fmt.Sprintf("%.0f min", d/60)
	case d < 3*86400:
		return fmt.Sprintf("%.1f h", d/3600)
	default:
		return fmt.Sprintf("%.1f days", d/86400)
	}
}

func moment(t *time.Time) string {
	if t == nil {
		return "unknown"
	}
	return t.UTC().Format(time.RFC3339)
}

// Table prints the checkpoints, one a line.
func (r Report) Table(w io.Writer) {
	if len(r.Checkpoints) == 0 {
		fmt.Fprintln(w, "the store has no checkpoints")
		return
	}
	copying := slices.ContainsFunc(r.Checkpoints, func(v View) bool { return v.copy != nil })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "NAME\tPOSITION\tBEHIND\tSAVED\tRUNWAY\tOWNER\tGAPS")
	if copying {
		fmt.Fprint(t, "\tSNAPSHOT")
	}
	fmt.Fprintln(t)
	for _, v := range r.Checkpoints {
		position, behind, saved, runway := moment(v.Position), "-", "-", "-"
		if v.State != stateSaved && v.State != stateLost {
			position = v.State
		} else if v.State == stateLost {
			position = "lost at " + position
		}
		if v.Age != nil {
			saved = span(v.Age) + " ago"
		}
		if r.Server != nil && v.Position != nil {
			behind, runway = span(v.Lag), span(v.Runway)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d", v.Key, position, behind, saved, runway, owner(v.Owner, nil), len(v.Gaps))
		if copying {
			fmt.Fprint(t, "\t"+v.copied())
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // of what w is, the command sees it
	if r.Server == nil {
		fmt.Fprintln(w, "\nwith --source or a pipeline file: how far behind they are, and how long they stay good")
	}
}

// copied is how far the copy has got, in a column.
func (v View) copied() string {
	if v.copy == nil {
		return "-"
	}
	return strings.TrimPrefix(snapshotview.Brief(*v.copy), "snapshot ")
}

func owner(name string, until *time.Time) string {
	switch {
	case name == "":
		return "none"
	case until != nil:
		return name + ", until " + moment(until) + " unless it renews"
	}
	return name
}

// A sheet prints names and values, aligned.
type sheet struct{ w io.Writer }

func (s sheet) line(name, format string, args ...any) {
	fmt.Fprintf(s.w, "  %-12s%s\n", name, fmt.Sprintf(format, args...))
}

// Sheets prints all that is known of each checkpoint.
func (r Report) Sheets(w io.Writer) {
	for i, v := range r.Checkpoints {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, v.Key)
		s := sheet{w}
		if v.Error != "" {
			s.line("state", "%s: %s", v.State, v.Error)
		}
		if v.Position != nil || v.Token != nil {
			v.whereAndWhen(s, r.Server)
		}
		s.line("owner", "%s", owner(v.Owner, v.OwnerUntil))
		v.copying(s)
		v.skipped(s)
		v.details(s)
	}
}

func (v View) whereAndWhen(s sheet, server *ServerView) {
	s.line("position", "%s (cluster time %s): all up to there is delivered", moment(v.Position), v.ClusterTime)
	s.line("saved", "%s ago, at %s", span(v.Age), moment(v.SavedAt))
	if server == nil {
		s.line("server", "not asked; give --source or the pipeline's file")
		return
	}
	s.line("behind", "%s", span(v.Lag))
	switch {
	case v.Runway != nil && v.Oldest != nil:
		s.line("runway", "%s; the server's oldest event is of %s", span(v.Runway), moment(v.Oldest))
	default:
		s.line("runway", "unknown: %s", v.Unknown)
	}
	if v.Verdict != nil {
		s.line("server", "%s", v.Verdict.Answer)
	}
}

func (v View) skipped(s sheet) {
	switch {
	case v.GapsError != "":
		s.line("skipped", "unknown: %s", v.GapsError)
	case len(v.Gaps) == 0:
		s.line("skipped", "nothing on record")
	}
	for i, g := range v.Gaps {
		name := ""
		if i == 0 {
			name = "skipped"
		}
		s.line(name, "%s", gapText(g))
	}
}

func gapText(g rigatoni.Gap) string {
	t := fmt.Sprintf("%s to %s: %s (%s)", moment(wall(g.From)), moment(wall(g.To)), config.Words(g.Reason), g.Policy)
	if !g.At.IsZero() {
		t += ", recorded at " + moment(&g.At)
	}
	if !g.Healed.IsZero() {
		t += "; healed by a snapshot that ended at " + moment(&g.Healed)
	}
	if g.Remains != "" {
		t += "; what remains: " + config.Words(g.Remains)
	}
	return t
}

func (v View) details(s sheet) {
	if v.Fingerprint != "" {
		s.line("stream", "%s", v.Fingerprint)
	}
	if v.Token != nil {
		s.line("token", "%s", v.Token)
	}
	if v.Sequence > 0 || v.Epoch > 0 {
		s.line("saves", "sequence %d, epoch %d", v.Sequence, v.Epoch)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Extra)) {
		s.line(name, "%s", clip(v.Extra[name]))
	}
}

func clip(doc json.RawMessage) string {
	const most = 200
	if len(doc) <= most {
		return string(doc)
	}
	return strings.ToValidUTF8(string(doc[:most]), "") + "… (whole with --json)"
}

// String says what a token is of.
func (t *TokenView) String() string {
	text := fmt.Sprintf("format %s, %d bytes", t.Format, t.Bytes)
	switch {
	case t.Error != "":
		return text + ": " + t.Error
	case t.Format == "opaque":
		return text + ": of no format of MongoDB's; it is used as it is"
	case t.HighWaterMark:
		return text + ", between events"
	}
	text += ", of an event"
	if t.Operation != "" {
		text += " (" + t.Operation + ")"
	}
	if t.DocumentKey != nil {
		text += " of the document " + string(t.DocumentKey)
	}
	if t.CollectionID != "" {
		text += " in the collection with the UUID " + t.CollectionID
	}
	if t.Invalidate {
		text += ", which invalidated the stream"
	}
	return text
}

// Text prints a change.
func (c *Change) Text(w io.Writer) {
	state := "dry run, nothing is changed"
	switch {
	case c.Executed:
		state = "done"
	case c.Error != "":
		state = "NOT done: " + c.Error
	}
	fmt.Fprintf(w, "%s: %s %s\n", c.Key, c.Action, state)
	s := sheet{w}
	s.line("old", "%s", c.Old.text("none"))
	s.line("new", "%s", c.New.text("none: the key is cleared"))
	s.line("events", "%s", c.effectText())
	if c.New != nil {
		if c.Runway != nil {
			s.line("runway", "%s; the server's oldest event is of %s", span(c.Runway), moment(c.Oldest))
		} else {
			s.line("runway", "unknown: %s", c.Unknown)
		}
	}
	if c.copyText != "" {
		s.line("snapshot", "the next start copies %s", c.copyText)
	}
	if c.Gap != nil {
		s.line("gap", "%s", gapText(*c.Gap))
	}
	if c.Owner != "" {
		s.line("owner", "%s", owner(c.Owner, c.OwnerUntil))
	}
	for _, n := range c.Notes {
		s.line("note", "%s", n)
	}
}

func (p *Point) text(none string) string {
	if p == nil {
		return none
	}
	t := moment(p.Position)
	if p.ClusterTime != "" {
		t += " (cluster time " + p.ClusterTime + ")"
	}
	if p.SavedAt != nil {
		t += ", saved at " + moment(p.SavedAt)
	}
	if p.State != "" {
		t += ", " + p.State
	}
	return t
}

func (c *Change) effectText() string {
	n := "an unknown number"
	switch {
	case c.clear:
		return "those after the old position are SKIPPED, unless the next start says where to begin"
	case c.Events != nil && c.AtLeast:
		n = fmt.Sprintf("at least %d", *c.Events)
	case c.Events != nil:
		n = fmt.Sprint(*c.Events)
	case c.EventsUnknown != "":
		n += " (" + c.EventsUnknown + ")"
	}
	switch c.Effect {
	case effectRedelivers:
		return n + " between the new and the old position: they are redelivered"
	case effectSkips:
		return n + " after the old position: they are SKIPPED"
	case effectCopies:
		return "the position stays: none is skipped, and none redelivered"
	case effectStarts:
		return "the next start begins there, in place of a first start"
	}
	return "none lies between the positions"
}
