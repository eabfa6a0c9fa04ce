// Package snapshotview shows how far the copy of a snapshot has got: to people, and to
// programs.
package snapshotview

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// A View is a copy as JSON: in /status, in checkpoint show and in check. Its names are
// documented in docs/snapshot.md and don't change. What is unknown is null.
type View struct {
	Began              *time.Time   `json:"began"`
	CollectionsTotal   int          `json:"collections_total"`
	CollectionsDone    int          `json:"collections_done"`
	Documents          int64        `json:"documents"`
	DocumentsEstimated *int64       `json:"documents_estimated"`
	Bytes              int64        `json:"bytes"`
	BytesEstimated     *int64       `json:"bytes_estimated"`
	DocumentsPerSecond *float64     `json:"documents_per_second"`
	ETA                *float64     `json:"eta_seconds"`
	Collections        []Collection `json:"collections"` // 100 at most
}

// A Collection is the copy of one collection.
type Collection struct {
	Collection         string `json:"collection"`
	Done               bool   `json:"done"`
	Documents          int64  `json:"documents"`
	DocumentsEstimated *int64 `json:"documents_estimated"`
	Bytes              int64  `json:"bytes"`
	BytesEstimated     *int64 `json:"bytes_estimated"`
}

// Of returns the view of a copy; nil if there is none.
func Of(s *rigatoni.SnapshotStatus) *View {
	if s == nil {
		return nil
	}
	v := &View{
		CollectionsTotal: s.CollectionsTotal, CollectionsDone: s.CollectionsDone,
		Documents: s.Documents, DocumentsEstimated: known(s.DocumentsEstimated), Bytes: s.Bytes, BytesEstimated: known(s.BytesEstimated),
		Collections: []Collection{},
	}
	if !s.Began.IsZero() {
		v.Began = new(s.Began.UTC().Truncate(time.Millisecond))
	}
	if s.Rate > 0 {
		v.DocumentsPerSecond = new(math.Round(s.Rate))
	}
	if s.ETA > 0 {
		v.ETA = new(math.Round(s.ETA.Seconds()))
	}
	for _, c := range s.Collections {
		v.Collections = append(v.Collections, Collection{
			Collection: c.Namespace.String(), Done: c.Done,
			Documents: c.Documents, DocumentsEstimated: known(c.DocumentsEstimated), Bytes: c.Bytes, BytesEstimated: known(c.BytesEstimated),
		})
	}
	return v
}

// known is an estimate, nil where there is none.
func known(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// Percent is how much of a copy is done, by its documents. It is below 100 until all is
// done: an estimate may be too low. false: unknown.
func Percent(documents, estimated int64) (int, bool) {
	if estimated <= 0 {
		return 0, false
	}
	return int(min(99, documents*100/estimated)), true
}

// Text says how far a copy has got.
func Text(s rigatoni.SnapshotStatus) string {
	parts := []string{fmt.Sprintf("%s of %s done", Count(int64(s.CollectionsDone)), collections(s.CollectionsTotal)), amount(s.Documents, s.DocumentsEstimated, s.Bytes, s.BytesEstimated)}
	if s.Rate > 0 {
		parts = append(parts, Count(int64(s.Rate+0.5))+" documents/s")
	}
	if s.ETA > 0 {
		parts = append(parts, Span(s.ETA)+" left")
	}
	return strings.Join(parts, ", ")
}

// Brief is Text for a line that has other things to say.
func Brief(s rigatoni.SnapshotStatus) string {
	text := "snapshot " + documents(s.Documents)
	if percent, ok := Percent(s.Documents, s.DocumentsEstimated); ok {
		text = fmt.Sprintf("snapshot %d%%, %s of about %s", percent, Count(s.Documents), documents(s.DocumentsEstimated))
	}
	if s.ETA > 0 {
		text += ", " + Span(s.ETA) + " left"
	}
	return text
}

// Line says how far the copy of one collection has got.
func Line(c rigatoni.CollectionSnapshot) string {
	text := amount(c.Documents, c.DocumentsEstimated, c.Bytes, c.BytesEstimated)
	switch percent, ok := Percent(c.Documents, c.DocumentsEstimated); {
	case c.Done:
		return "done: " + text
	case c.Documents == 0 && c.DocumentsEstimated == 0:
		return "waits"
	case ok:
		return fmt.Sprintf("%d%%: %s", percent, text)
	}
	return text
}

// Plan says what there is to copy.
func Plan(s rigatoni.SnapshotStatus) string {
	text := collections(s.CollectionsTotal)
	if s.DocumentsEstimated > 0 {
		text += ", about " + documents(s.DocumentsEstimated)
	}
	if s.BytesEstimated > 0 {
		text += ", about " + Size(s.BytesEstimated)
	}
	return text
}

func amount(docs, estimated, bytes, bytesEstimated int64) string {
	text := documents(docs)
	if estimated > 0 {
		text = Count(docs) + " of about " + documents(estimated)
	}
	text += ", " + Size(bytes)
	if bytesEstimated > 0 {
		text += " of about " + Size(bytesEstimated)
	}
	return text
}

func collections(n int) string { return plural(int64(n), "collection") }

func documents(n int64) string { return plural(n, "document") }

func plural(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return Count(n) + " " + what
}

// Size is a number of bytes for people.
func Size(bytes int64) string {
	n, unit := float64(bytes), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB"} {
		if n < 1000 {
			break
		}
		n, unit = n/1000, larger
	}
	if n < 10 && unit != "B" {
		return fmt.Sprintf("%.1f %s", n, unit)
	}
	return fmt.Sprintf("%.0f %s", n, unit)
}

// Span is a duration for people.
func Span(d time.Duration) string {
	switch d = max(0, d); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()+0.5))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()+0.5))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24+0.5))
}

// Count writes 1234567 as 1,234,567.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Together is the copies of several streams as one; nil if there is none.
func Together(all []rigatoni.StreamStatus) *rigatoni.SnapshotStatus {
	var sum *rigatoni.SnapshotStatus
	for _, st := range all {
		s := st.Snapshot
		if s == nil {
			continue
		}
		if sum == nil {
			sum = &rigatoni.SnapshotStatus{Began: s.Began}
		}
		sum.CollectionsTotal += s.CollectionsTotal
		sum.CollectionsDone += s.CollectionsDone
		sum.Documents += s.Documents
		sum.DocumentsEstimated += s.DocumentsEstimated
		sum.Bytes += s.Bytes
		sum.BytesEstimated += s.BytesEstimated
		sum.Rate += s.Rate
		sum.ETA = max(sum.ETA, s.ETA)
		if s.Began.Before(sum.Began) {
			sum.Began = s.Began
		}
	}
	return sum
}
