package mongotest

import (
	"bytes"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// read gives a stream's next events: at most limit (-1 is no limit), and what
// fits into a reply. grown is closed when there may be more. An error takes the
// whole batch with it, as it does on a real server.
func (st *store) read(s *stream, limit int) (batch []bson.Raw, grown <-chan struct{}, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.position(s); err != nil {
		return nil, nil, err
	}
	size := 0
	for e := st.oplog.at(s.next); e != nil && !s.ended; e = st.oplog.at(s.next) {
		events := s.events(st, e)
		for s.part < len(events) {
			if limit >= 0 && len(batch) >= limit {
				return batch, st.oplog.grown, nil
			}
			ev := events[s.part]
			doc, key, err := s.pass(st, ev)
			if err != nil {
				return nil, nil, err
			}
			if doc != nil {
				if len(batch) > 0 && size+len(doc) > maxDocumentSize {
					return batch, st.oplog.grown, nil
				}
				batch = append(batch, doc)
				size += len(doc)
				s.mark, s.markKey = ev.token, key
			}
			s.part++
			if ev.kind == opInvalidate && s.after == nil && !ev.found {
				s.mark, s.markKey = ev.token, key
				s.ended = true
				return batch, st.oplog.grown, nil
			}
		}
		s.next, s.part, s.moved = s.next+1, 0, true
	}
	return batch, st.oplog.grown, s.advance(s.highWaterMark(st.oplog.last().ts))
}

// position finds the stream's place in the oplog, which may have been lost.
func (st *store) position(s *stream) error {
	o := &st.oplog
	if !s.opened {
		if !o.reaches(s.start) {
			return failf(codeChangeStreamHistoryLost, "Resume of change stream was not possible, as the resume point may no longer be in the oplog.").
				label("NonResumableChangeStreamError")
		}
		s.opened, s.next = true, o.since(s.start)
	}
	if s.next < o.first || s.moved && s.next-1 < o.first {
		return failf(codeCappedPositionLost, "CollectionScan died due to failure to restore tailable cursor position. Last seen record id: RecordId(%d)", s.next-1)
	}
	return nil
}

// pass runs an event through the stages, and looks for the token that the
// stream was opened with. The document is nil if the event is not for the
// client.
func (s *stream) pass(st *store, ev *event) (doc bson.Raw, key []byte, err error) {
	if doc, key, err = s.build(st, ev); err != nil {
		return nil, nil, err
	}
	whole := doc
	for _, stage := range s.stages {
		if doc, err = stage(doc); doc == nil || err != nil {
			break
		}
	}
	switch {
	case err != nil:
		return nil, nil, err
	case s.after != nil:
		return s.find(ev, key, doc != nil)
	case doc == nil:
		return nil, key, nil
	}
	return doc, key, checkID(whole, doc)
}

// find handles an event before the one whose token the stream was opened with
// has been seen. An event that the stages hide is not seen, which is how a
// changed $match breaks a token.
func (s *stream) find(ev *event, key []byte, seen bool) (bson.Raw, []byte, error) {
	switch c := bytes.Compare(key, s.after); {
	case !seen || c < 0:
		ev.found = true
	case c == 0:
		s.after = nil
		ev.found = true
	default:
		return nil, nil, failf(codeChangeStreamFatalError, "cannot resume stream; the resume token was not found. %s", shellToken(s.afterToken)).
			label("NonResumableChangeStreamError")
	}
	return nil, key, nil
}

func shellToken(doc bson.Raw) string {
	return `{_data: "` + doc.Lookup("_data").StringValue() + `"}`
}

// checkID refuses an event whose _id the stages have changed: its client could
// not resume after it.
func checkID(before, after bson.Raw) error {
	was := before.Lookup("_id")
	is, err := after.LookupErr("_id")
	if err == nil && identical(was, is) {
		return nil
	}
	found := emptyDoc
	if err == nil {
		found = newBuilder().value("_id", is).done()
	}
	return failf(codeChangeStreamFatalError, "Encountered an event whose _id field, which contains the resume token, was modified by the pipeline. "+
		"Modifying the _id field of an event makes it impossible to resume the stream from that point. Only transformations that retain the "+
		"unmodified _id field are allowed. Expected: { _id: %s } but found: %s", shell(was), shellDoc(found)).label("NonResumableChangeStreamError")
}
