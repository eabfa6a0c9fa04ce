package postgres

import (
	"bytes"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// A row is what becomes of an event.
type row struct {
	id      string
	doc     []byte // JSON; nil for none
	op      string
	at      time.Time // the cluster time
	version []byte
}

// written are the operations of which a row is made.
var written = map[string]bool{"insert": true, "update": true, "replace": true, "delete": true, "read": true}

// skipped are the operations of which no row can be made, and which change none: those
// of an expanded stream.
var skipped = map[string]bool{
	"create": true, "createIndexes": true, "dropIndexes": true, "modify": true,
	"shardCollection": true, "refineCollectionShardKey": true, "reshardCollection": true,
}

// rowOf makes the row of an event about a document. doc is appended to buf.
func (s *session) rowOf(ev rigatoni.Event, t *table, buf []byte) (r row, rest []byte, err error) {
	op := ev.OperationType()
	if !written[op] {
		return r, buf, refuseEvent("the operation %q is unknown to this version", op)
	}
	id, err := ev.DocumentKey().LookupErr("_id")
	if err != nil {
		return r, buf, refuseEvent("the event has no documentKey with an _id, which its row needs; a pipeline or a transform must leave it")
	}
	at := ev.ClusterTime()
	r = row{op: op, at: time.Unix(int64(at.T), 0), version: versionOf(ev)}
	if r.id, err = idText(id); err != nil {
		return r, buf, refuseEvent("%w", err)
	}
	doc, err := s.documentOf(ev, op)
	if err != nil || doc == nil {
		return r, buf, err
	}
	start := len(buf)
	if buf, err = extjson.Append(buf, doc, s.d.opts.Format.mode()); err != nil {
		return r, buf, refuseEvent("%w", err)
	}
	r.doc = buf[start:len(buf):len(buf)]
	return r, buf, s.replaceNULs(r.doc, t)
}

// documentOf is the document after an event; nil if there is none.
func (s *session) documentOf(ev rigatoni.Event, op string) (bson.Raw, error) {
	if op == "delete" {
		return nil, nil
	}
	doc := ev.FullDocument()
	switch {
	case doc != nil:
		return doc, nil
	case op != "update":
		return nil, refuseEvent("the %s has no fullDocument, which its row is made of; a pipeline or a transform must leave it", op)
	case ev.Raw.Lookup("fullDocument").Type != bson.TypeNull:
		return nil, refuseEvent(errNoFullDocument)
	case s.scope != nil && s.scope.FullDocument == "whenAvailable":
		return nil, refuseEvent("the server no longer has the document as it was after this update (full-document: whenAvailable); open the source with updateLookup, which reads it as it is now")
	}
	return nil, nil // it was deleted before it could be read, and its delete follows
}

// nul is U+0000 in JSON. What replaces it is of the same length.
var nul, replacement = []byte(`\u0000`), []byte(`\ufffd`)

// replaceNULs replaces U+0000, or refuses it, as the options say.
func (s *session) replaceNULs(doc []byte, t *table) error {
	n := 0
	for at := 0; ; at += len(nul) {
		i := bytes.Index(doc[at:], nul)
		if i < 0 {
			break
		}
		at += i
		if isEscaped(doc, at) { // a backslash, and then the letters u0000
			at -= len(nul) - 1
			continue
		}
		if s.d.opts.OnNUL == Stop {
			return refuseEvent("the document has the character U+0000, which jsonb can't hold; on-nul: replace writes U+FFFD instead")
		}
		copy(doc[at:], replacement)
		n++
	}
	if n == 0 {
		return nil
	}
	s.d.replaced.Add(uint64(n))
	if !s.replaced[t.name.String()] {
		s.replaced[t.name.String()] = true
		s.log.Warn("U+0000 replaced by U+FFFD, since jsonb can't hold it; later ones are counted and not logged", "table", t.name.String(), "namespace", t.ns.String())
	}
	return nil
}

// isEscaped reports whether the backslash at i is the second of a pair.
func isEscaped(doc []byte, i int) bool {
	before := 0
	for before < i && doc[i-1-before] == '\\' {
		before++
	}
	return before%2 == 1
}
