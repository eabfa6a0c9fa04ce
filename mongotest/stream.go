package mongotest

import (
	"bytes"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An output is the next item for a stream's client: an event, or a part of one.
type output struct {
	doc   bson.Raw // nil for an invalidate that the stages filter out
	token bson.Raw
	at    bson.Timestamp
	ends  bool // it ends the stream, as an invalidate does
}

// read returns a stream's next events: at most limit (-1 means no limit), and
// no more than fit into a reply. grown is closed when there may be more. An
// error discards the whole batch, as on a real server.
func (st *store) read(s *stream, limit int) (batch []bson.Raw, grown <-chan struct{}, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.position(s); err != nil {
		return nil, nil, err
	}
	for size := 0; ; {
		for ; len(s.ready) > 0; s.ready = s.ready[1:] {
			out := s.ready[0]
			if len(batch) == limit || len(batch) > 0 && size+len(out.doc) > bsondoc.MaxSize {
				return batch, st.oplog.grown, nil
			}
			if out.doc != nil {
				batch = append(batch, out.doc)
				size += len(out.doc)
			}
			s.mark, s.markTime, s.ended = out.token, out.at, out.ends
		}
		if s.ended {
			return batch, st.oplog.grown, nil
		}
		ev := s.nextEvent(&st.oplog)
		switch {
		case ev == nil:
			return batch, st.oplog.grown, s.advance(st.oplog.last().ts)
		case len(batch) == limit:
			return batch, st.oplog.grown, nil
		}
		if s.ready, err = s.pass(st, ev); err != nil {
			return nil, nil, err
		}
		s.part++
	}
}

// nextEvent returns the event after those that were read; nil if there is none
// yet.
func (s *stream) nextEvent(o *oplog) *event {
	for e := o.at(s.next); e != nil; e = o.at(s.next) {
		if events := s.events(e); s.part < len(events) {
			return events[s.part]
		}
		s.next, s.part, s.moved = s.next+1, 0, true
	}
	return nil
}

// position finds the stream's position in the oplog, which may have been
// removed.
func (st *store) position(s *stream) error {
	o := &st.oplog
	if !s.opened {
		if !o.reaches(s.start) {
			return cmderr.Errorf(cmderr.ChangeStreamHistoryLost, "Resume of change stream was not possible, as the resume point may no longer be in the oplog.").
				Label("NonResumableChangeStreamError")
		}
		s.opened, s.next = true, o.since(s.start)
	}
	if s.next < o.first || s.moved && s.next-1 < o.first {
		return cmderr.Errorf(cmderr.CappedPositionLost, "CollectionScan died due to failure to restore tailable cursor position. Last seen record id: RecordId(%d)", s.next-1)
	}
	return nil
}

// A resumePoint is the event that a stream was opened after.
type resumePoint struct {
	token  bson.Raw // as received from the client
	format resumetoken.Format
	key    []byte // of the whole event
	// fragment is the number of the fragment that the token belongs to, -1 for
	// a whole event.
	fragment int
}

// pass returns what the client gets for an event, after checking for the one
// that the stream was resumed from.
func (s *stream) pass(st *store, ev *event) ([]output, error) {
	token, _, err := encode(s.tokenOf(ev, s.format))
	if err != nil {
		return nil, err
	}
	c := 1 // the event is after the one to resume from
	if s.after != nil {
		_, key, err := encode(s.tokenOf(ev, s.after.format))
		if err != nil {
			return nil, err
		}
		if c = bytes.Compare(key, s.after.key); c < 0 {
			return nil, nil
		}
	}
	doc, err := s.visible(st, ev, token)
	switch {
	case err != nil:
		return nil, err
	case doc == nil && s.after == nil && ev.kind == opInvalidate:
		return []output{{token: token, at: ev.entry.ts, ends: true}}, nil
	case doc == nil:
		// An event that the stages filter out is not found either, which is why
		// a changed $match breaks a token.
		return nil, nil
	}
	fragments, err := s.fragments(ev, doc, token)
	switch {
	case err != nil:
		return nil, err
	case s.after != nil:
		return s.find(c, fragments)
	case fragments != nil:
		return fragments, nil
	}
	return []output{{doc: doc, token: token, at: ev.entry.ts, ends: ev.kind == opInvalidate}}, check(ev, doc, token)
}

// visible returns the event after the stages; nil if they filter it out.
func (s *stream) visible(st *store, ev *event, token bson.Raw) (bson.Raw, error) {
	doc := s.build(st, ev, token)
	if early, missing := s.missingImage(ev); missing != nil {
		if doc, err := run(early, doc); doc == nil && err == nil {
			return nil, nil
		}
		return nil, missing
	}
	return run(s.stages, doc)
}

// run runs a document through stages; nil if they filter it out.
func run(stages []query.Stage, doc bson.Raw) (bson.Raw, error) {
	for _, stage := range stages {
		var err error
		if doc, err = stage(doc); doc == nil || err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// find handles the first event that is not before the resume point: it must be
// that one, and the client gets the rest of it if its token was a fragment's.
func (s *stream) find(c int, fragments []output) ([]output, error) {
	n := s.after.fragment
	switch {
	case c > 0, n < 0 && fragments != nil:
		return nil, fatal("cannot resume stream; the resume token was not found. %s", shellToken(s.after.token))
	case n < 0:
		s.after = nil
		return nil, nil
	case fragments == nil:
		return nil, fatal("Attempted to resume from a split event fragment, but the event in the resumed stream was not large enough to be split")
	case n >= len(fragments):
		return nil, fatal("Attempted to resume from a split event, but the resumed stream produced a different split. " +
			"Ensure that the pipeline used to resume is the same as the original")
	}
	s.after = nil
	return fragments[n+1:], nil
}

// fatal returns an error after which the stream can't be resumed.
func fatal(format string, args ...any) *cmderr.Error {
	return cmderr.Errorf(cmderr.ChangeStreamFatalError, format, args...).Label("NonResumableChangeStreamError")
}

func shellToken(doc bson.Raw) string {
	return `{_data: "` + doc.Lookup("_data").StringValue() + `"}`
}

// check refuses an event that is too large, and one whose _id was changed by
// the stages: its client could not resume from it.
func check(ev *event, doc, token bson.Raw) error {
	size := len(doc)
	if ev.oversize() {
		size = 2 * bsondoc.MaxSize
	}
	if err := query.CheckSize(doc, size); err != nil {
		return err
	}
	found := bsondoc.New()
	if is, err := doc.LookupErr("_id"); err == nil {
		if is.Type == bson.TypeEmbeddedDocument && bytes.Equal(is.Value, token) {
			return nil
		}
		found.Value("_id", is)
	}
	return fatal("Encountered an event whose _id field, which contains the resume token, was modified by the pipeline. "+
		"Modifying the _id field of an event makes it impossible to resume the stream from that point. Only transformations that retain the "+
		"unmodified _id field are allowed. Expected: { _id: %s } but found: %s", bsondoc.ShellDoc(token), bsondoc.ShellDoc(found.Done()))
}
