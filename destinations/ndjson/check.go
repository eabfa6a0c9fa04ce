package ndjson

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/writable"
)

var _ rigatoni.OpeningChecker = (*Files)(nil)

// ErrOutputMissing: a file that holds events which the checkpoint covers is gone,
// or shorter than it was, although it was never finished. A consumer would not
// see those events.
var ErrOutputMissing = errors.New("output that the checkpoint covers is missing")

// check refuses to open where output and checkpoint disagree, unless the operator
// accepts it. It returns what is accepted, or nil.
func (r *recovery) check() (accept *rigatoni.OutputError, err error) {
	refused := r.disagreement()
	if refused == nil {
		return nil, nil
	}
	accepted := r.o.AcceptOutput != "" && r.o.AcceptOutput == refused.Accept ||
		r.o.AcceptAnyOutput && errors.Is(refused, rigatoni.ErrOutputExists)
	if !accepted {
		return nil, refused
	}
	return refused, nil
}

// accept writes what is accepted into the marker, so that it is accepted once.
func (r *recovery) accept(refused *rigatoni.OutputError) error {
	facts, _, _ := strings.Cut(refused.Facts, adviceMark)
	r.log.Warn("output accepted", "reason", refused.Err, "facts", facts)
	end := endOf(r.covered)
	m := marker{Size: end.size, Ordinal: end.ordinal, ClusterTime: r.o.ClusterTime}
	if r.o.FirstStart {
		m.ClusterTime = r.clusterTime()
	}
	if r.marker != nil {
		m.File = r.marker.File // its name is taken
	}
	if err := r.d.writeMarker(r.stem, r.owned, m); err != nil {
		return err
	}
	r.marker, r.accepted = &m, refused.Err
	others := slices.DeleteFunc(r.listing.markers, func(n uint64) bool { return n == r.owned.generation })
	return r.d.removeMarkers(r.stem, others) // they say more
}

// disagreement returns what is wrong between output and checkpoint, or nil.
func (r *recovery) disagreement() *rigatoni.OutputError {
	switch {
	case r.o.FirstStart:
		return r.exists()
	case r.isAhead():
		return r.ahead()
	}
	return r.missing()
}

func (r *recovery) exists() *rigatoni.OutputError {
	last, count := r.listing.last()
	finished := uint64(0)
	if r.marker != nil {
		finished = r.marker.Ordinal
	}
	if count == 0 && finished == 0 {
		return nil
	}
	var facts strings.Builder
	switch count {
	case 0:
		fmt.Fprintf(&facts, "%s has no file of %q any more", r.d.dir, r.o.Key)
	case 1:
		fmt.Fprintf(&facts, "in %s there is a file of %q, %s", r.d.dir, r.o.Key, last)
	default:
		fmt.Fprintf(&facts, "in %s there are %d files of %q, the last one %s", r.d.dir, count, r.o.Key, last)
	}
	if finished > 0 {
		fmt.Fprintf(&facts, "; files up to %s were finished, the last at %s, with events up to the cluster time %s",
			r.marker.File, stamp(r.marker.At), clock(r.marker.ClusterTime.T))
	}
	since := r.since()
	facts.WriteString(adviceMark + "restore the checkpoint, or write to another directory, or begin at " +
		timeOrBefore(since) + ", which loses nothing: events since then are delivered, some of them a second time; to begin at the present skips what was written since then")
	refused := r.refuse(rigatoni.ErrOutputExists, facts.String(), last.String(), count, finished)
	refused.Since = since
	return refused
}

// adviceMark is between what was found and what to do.
const adviceMark = "; to continue, "

// since is the time from which a first start beside output loses nothing; zero if it
// is unknown.
func (r *recovery) since() bson.Timestamp {
	if at := r.clusterTime(); at.T > 0 {
		return at
	}
	return bson.Timestamp{T: r.firstTime()}
}

func timeOrBefore(at bson.Timestamp) string {
	if at.IsZero() {
		return "the time of the last event in the output, or before"
	}
	return clock(at.T)
}

var clusterTimeField = regexp.MustCompile(`"clusterTime":(?:\{"\$timestamp":)?\{"t":(\d+)`)

// firstTime is the cluster time of the first event in the output that is there, in
// seconds, or 0. A transform may have removed it.
func (r *recovery) firstTime() uint32 {
	first, ok := r.listing.first()
	if !ok {
		return 0
	}
	head, err := readRegular(filepath.Join(r.d.dir, first), 4096) // the field is near the beginning of its line
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	m := clusterTimeField.FindSubmatch(line)
	if m == nil {
		return 0
	}
	seconds, _ := strconv.ParseUint(string(m[1]), 10, 32)
	return uint32(seconds)
}

// isAhead reports whether more was finished than the checkpoint covers. Without a
// marker the names of finished files say so, as far as they are still there.
func (r *recovery) isAhead() bool {
	end := endOf(r.covered)
	if r.marker != nil {
		return r.marker.extent().compare(end) > 0
	}
	for n, size := range r.listing.finished {
		if c := n.compare(end.name); c > 0 || c == 0 && size > end.size {
			return true
		}
	}
	return false
}

func (r *recovery) ahead() *rigatoni.OutputError {
	var facts strings.Builder
	end := endOf(r.covered)
	fmt.Fprintf(&facts, "the checkpoint was saved at %s, at the cluster time %s, and covers ", stamp(r.o.SavedAt), clock(r.o.ClusterTime.T))
	if end.ordinal == 0 {
		facts.WriteString("no file")
	} else {
		fmt.Fprintf(&facts, "%s up to byte %d", end.name, end.size)
	}
	last, _ := r.listing.last()
	if m := r.marker; m != nil {
		fmt.Fprintf(&facts, "; in %s, files up to %s (%d bytes) were finished, at %s, with events up to the cluster time %s", r.d.dir, m.File, m.Size, stamp(m.At), clock(m.ClusterTime.T))
		last = m.extent().name
	} else {
		fmt.Fprintf(&facts, "; in %s there is the finished file %s", r.d.dir, last)
	}
	facts.WriteString("; an older checkpoint seems to have been restored: the events between would be delivered to consumers a second time" + adviceMark + "restore the newer checkpoint, or accept the repetition")
	return r.refuse(rigatoni.ErrOutputAhead, facts.String(), last)
}

// missing looks for the files that the checkpoint covers and that were not
// finished. Where the marker says that a file was finished, a consumer may have
// taken it. Without a marker that is unknown.
func (r *recovery) missing() *rigatoni.OutputError {
	for _, e := range r.covered {
		f, open := r.listing.find(e.name)
		size, finished := r.listing.finished[e.name]
		switch {
		case e.size == 0: // nothing was left of it when its loss was accepted
		case open && f.size < e.size:
			return r.lost(e, fmt.Sprintf("%s has %d bytes, but %d were flushed before the checkpoint was saved", filepath.Join(r.d.dir, f.base), f.size, e.size))
		case open, finished && size >= e.size, r.isFinished(e):
		case r.marker == nil:
			r.log.Warn("a file that the checkpoint covers is not in the directory; if it ends in .partial elsewhere, its events were not finished", "file", e.name.String(), "dir", r.d.dir)
		default:
			return r.lost(e, fmt.Sprintf("%s, of %d bytes, is gone from %s although it was never finished", e.name.open(), e.size, r.d.dir))
		}
	}
	return nil
}

func (r *recovery) lost(e extent, facts string) *rigatoni.OutputError {
	facts += "; the checkpoint was saved at " + stamp(r.o.SavedAt) + ", at the cluster time " + clock(r.o.ClusterTime.T)
	finished := r.clusterTime()
	advice := "restore the file, or accept that consumers don't see these events"
	if finished.T > 0 {
		facts += "; finished files have the events up to the cluster time " + clock(finished.T)
		advice = "restore the file; or set the checkpoint back to that time, and accept then, which loses nothing: events since then are delivered, some of them a second time; " +
			"or accept now, and consumers don't see these events"
	}
	facts += adviceMark + advice
	refused := r.refuse(ErrOutputMissing, facts, e.name.String(), e.size)
	refused.Since = finished
	return refused
}

// refuse makes the error. Its code stands for the checkpoint and for what was
// found, so that it can't accept a later case.
func (r *recovery) refuse(err error, facts string, found ...any) *rigatoni.OutputError {
	h := sha256.New()
	fmt.Fprintf(h, "%v\n%s\n%s\n%v\n%v\n", err, r.o.Key, r.o.Saved, r.o.ClusterTime, found)
	if r.marker != nil {
		fmt.Fprintf(h, "%+v\n", *r.marker)
	}
	return &rigatoni.OutputError{Err: err, Facts: facts, Accept: hex.EncodeToString(h.Sum(nil)[:6])}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

func clock(seconds uint32) string {
	if seconds == 0 {
		return "unknown"
	}
	return stamp(time.Unix(int64(seconds), 0))
}

// CheckOpening implements [rigatoni.OpeningChecker].
func (d *Files) CheckOpening(_ context.Context, o rigatoni.Opening) error {
	exists, err := writable.Dir(d.dir)
	if err != nil {
		return fmt.Errorf("ndjson: %w", err)
	}
	r := &recovery{d: d, o: o, stem: stemOf(o.Key), log: d.o.Logger.With("key", o.Key), listing: &listing{}}
	if exists {
		if err := r.look(); err != nil {
			return fmt.Errorf("ndjson: %w", err)
		}
	}
	if _, err := r.check(); err != nil {
		return fmt.Errorf("ndjson: %w", err)
	}
	return nil
}
