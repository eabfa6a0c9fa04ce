package mongotest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A stream is what a change stream's cursor reads: where it is in the oplog,
// and what it makes of it. Its cursor's getMore, one at a time, owns it.
type stream struct {
	scope  scope
	lookup bool // fullDocument: updateLookup
	stages []stage
	format resumetoken.Format

	start bson.Timestamp
	// after is the token that the stream was opened with, until its event has
	// been found; nil if there is none, or if it is a high-water mark.
	after []byte
	// afterToken is the same as the client gave it.
	afterToken bson.Raw

	opened bool  // next has been found
	moved  bool  // something has been read
	next   int64 // the number of the next entry
	part   int   // how many of its events have been read

	mark    bson.Raw // the postBatchResumeToken
	markKey []byte
	ended   bool // by an invalidate event
}

// A scope is what a stream watches: a collection, a database (coll is empty), or
// all of them (both are).
type scope struct{ db, coll string }

// isWatch tells whether a command opens a change stream.
func isWatch(r *request) bool {
	if r.name != "aggregate" {
		return false
	}
	list := items(r.args["pipeline"])
	if len(list) == 0 {
		return false
	}
	doc, ok := list[0].DocumentOK()
	return ok && doc.Lookup("$changeStream").Type != 0
}

func watch(r *request, stages []bson.Raw) (*builder, error) {
	spec, ok := stages[0].Lookup("$changeStream").DocumentOK()
	if !ok {
		return nil, failf(codeChangeStreamNotAnObject, "$changeStream must take a nested object but found: $changeStream: %s", shell(stages[0].Lookup("$changeStream")))
	}
	s := &stream{format: resumetoken.FormatV1}
	ns, err := r.watched(s, spec)
	if err != nil {
		return nil, err
	}
	if err := r.checkReadConcern(); err != nil {
		return nil, err
	}
	if s.stages, err = compileStages(stages[1:], true); err != nil {
		return nil, err
	}
	if err := s.readOptions(spec); err != nil {
		return nil, err
	}
	n, _, err := r.batchSize()
	if err != nil {
		return nil, err
	}
	return r.openStream(s, ns, n)
}

// openStream replies with the events that are there already. Asked for none, it
// does not look, and what is wrong shows at the first getMore.
func (r *request) openStream(s *stream, ns namespace, n int) (*builder, error) {
	st := r.server.store
	if s.start == (bson.Timestamp{}) && s.mark == nil {
		s.start = st.lastTime()
		s.start.I++
	}
	if s.mark == nil {
		if err := s.advance(s.highWaterMark(s.start)); err != nil {
			return nil, err
		}
	}
	c := &cursor{ns: ns, session: r.sessionName(), stream: s}
	var batch []bson.Raw
	if n > 0 {
		var err error
		if batch, _, err = st.read(s, n); err != nil {
			return nil, asCommandError(err).prefixed("PlanExecutor error during aggregation :: caused by :: ")
		}
	}
	if !s.ended {
		r.server.cursors.add(c)
	}
	return c.reply("firstBatch", s.ended, batch, s.fields), nil
}

// fields are those that only a stream's batches have.
func (s *stream) fields(d *builder) {
	d.doc("postBatchResumeToken", s.mark)
	if s.ended {
		d.bool("invalidated", true)
	}
}

// watched is the namespace of the stream's cursor.
func (r *request) watched(s *stream, spec bson.Raw) (namespace, error) {
	all, err := spec.LookupErr("allChangesForCluster")
	cluster := false
	if err == nil {
		var ok bool
		if cluster, ok = all.BooleanOK(); !ok {
			return namespace{}, failf(codeTypeMismatch, "Field 'allChangesForCluster' should be a boolean value, but found: %s", typeName(all.Type))
		}
	}
	ns := namespace{r.db, "$cmd.aggregate"}
	if coll, ok := r.args["aggregate"].StringValueOK(); ok {
		ns.coll = coll
		s.scope.coll = coll
		if err := ns.check(); err != nil {
			return ns, err
		}
	}
	if cluster {
		if r.db != "admin" || s.scope.coll != "" {
			return ns, failf(codeInvalidOptions, "A $changeStream with 'allChangesForCluster:true' may only be opened on the 'admin' database, and with no collection name; found %s", ns)
		}
		return ns, nil
	}
	s.scope.db = r.db
	switch {
	case r.db == "admin" || r.db == "local" || r.db == "config":
		return ns, failf(codeInvalidNamespace, "$changeStream may not be opened on the internal %s database", r.db)
	case strings.HasPrefix(s.scope.coll, "system."):
		return ns, failf(codeInvalidNamespace, "$changeStream may not be opened on the internal %s collection", ns)
	}
	return ns, nil
}

func (r *request) checkReadConcern() error {
	rc, ok := r.args["readConcern"].DocumentOK()
	if !ok {
		return nil
	}
	level, ok := rc.Lookup("level").StringValueOK()
	if !ok || level == "majority" {
		return nil
	}
	return failf(codeInvalidOptions, "Command aggregate does not support { readConcern: { level: \"%s\", provenance: \"clientSupplied\" } } :: caused by :: "+
		"Aggregation stage $changeStream cannot run with a readConcern other than 'majority'. Current readConcern: %s", level, level)
}

func (s *stream) readOptions(spec bson.Raw) error {
	var resume, after, at bson.RawValue
	for _, e := range fields(spec) {
		v := e.Value()
		null := v.Type == bson.TypeNull
		switch name := e.Key(); name {
		case "allChangesForCluster":
		case "fullDocument", "fullDocumentBeforeChange":
			if err := s.readImages(name, v); err != nil {
				return err
			}
		case "resumeAfter", "startAfter":
			if null {
				continue
			}
			if v.Type != bson.TypeEmbeddedDocument {
				return wrongOption(name, v, "object")
			}
			if name == "resumeAfter" {
				resume = v
			} else {
				after = v
			}
		case "startAtOperationTime":
			if null {
				continue
			}
			if v.Type != bson.TypeTimestamp {
				return wrongOption(name, v, "timestamp")
			}
			at = v
		case "showExpandedEvents", "showSystemEvents", "showRawUpdateDescription", "showMigrationEvents":
			on, ok := v.BooleanOK()
			if !ok {
				return failf(codeTypeMismatch, "Field '%s' should be a boolean value, but found: %s", name, typeName(v.Type))
			}
			if on {
				return notImitated("the option '" + name + "' of $changeStream")
			}
		default:
			return failf(codeUnknownField, "BSON field '$changeStream.%s' is an unknown field.", name)
		}
	}
	return s.begin(resume, after, at)
}

func wrongOption(name string, v bson.RawValue, want string) *commandError {
	return failf(codeTypeMismatch, "BSON field '$changeStream.%s' is the wrong type '%s', expected type '%s'", name, typeName(v.Type), want)
}

// images are the values that exist, and whether they are imitated.
var images = map[string]map[string]bool{
	"fullDocument":             {"default": true, "updateLookup": true, "whenAvailable": false, "required": false},
	"fullDocumentBeforeChange": {"off": true, "whenAvailable": false, "required": false},
}

func (s *stream) readImages(name string, v bson.RawValue) error {
	mode, ok := v.StringValueOK()
	if !ok {
		return wrongOption(name, v, "string")
	}
	imitated, ok := images[name][mode]
	switch {
	case !ok:
		return failf(codeBadValue, "Enumeration value '%s' for field '$changeStream.%s' is not a valid value.", mode, name)
	case !imitated:
		return notImitated(name + ": '" + mode + "'")
	}
	s.lookup = s.lookup || mode == "updateLookup"
	return nil
}

// begin sets where the stream starts; nothing is set if that is now.
func (s *stream) begin(resume, after, at bson.RawValue) error {
	switch {
	case resume.Type != 0 && after.Type != 0:
		return failf(codeBothResumeOptions, "Do not specify both 'resumeAfter' and 'startAfter' in a $changeStream stage")
	case at.Type != 0 && (resume.Type != 0 || after.Type != 0):
		return failf(codeOneResumeOption, "Only one type of resume option is allowed, but multiple were found")
	case at.Type != 0:
		s.start.T, s.start.I = at.Timestamp()
		return s.advance(s.highWaterMark(s.start))
	case resume.Type != 0:
		return s.resume(resume.Document(), false)
	case after.Type != 0:
		return s.resume(after.Document(), true)
	}
	return nil
}

func (s *stream) resume(doc bson.Raw, startAfter bool) error {
	d, key, err := readToken(doc)
	if err != nil {
		return err
	}
	switch {
	case d.FromInvalidate && !startAfter:
		return failf(codeInvalidResumeToken, "Attempting to resume a change stream using 'resumeAfter' is not allowed from an invalidate notification")
	case s.scope.coll != "" && !d.HighWaterMark && d.UUID.IsZero():
		return failf(codeInvalidResumeToken, "Attempted to resume a single-collection stream, but the resume token does not include a UUID")
	case d.IsFragment:
		return notImitated("resuming after a part of a large event")
	case d.Format < resumetoken.FormatV1:
		return notImitated("tokens of MongoDB 4.0 and before")
	}
	s.start, s.format = d.ClusterTime, d.Format
	s.mark, s.markKey = doc, key
	if !d.HighWaterMark {
		s.after, s.afterToken = key, doc
	}
	return nil
}

// readToken reads a client's resume token, or fails as the server does.
func readToken(doc bson.Raw) (d resumetoken.Decoded, key []byte, err error) {
	data, ok := doc.Lookup("_data").StringValueOK()
	switch {
	case !ok:
		return d, nil, failf(codeMissingResumeData, "Bad resume token: _data of missing or of wrong type. Expected string, got %s", compact(doc))
	case data == "":
		return d, nil, failf(codeEmptyResumeToken, "invalid empty resume token")
	}
	if bits, err := doc.LookupErr("_typeBits"); err == nil && bits.Type != bson.TypeBinary {
		return d, nil, failf(codeResumeTypeBits, "Bad resume token: _typeBits of wrong type %s", compact(doc))
	}
	if key, err = hex.DecodeString(data); err != nil {
		return d, nil, failf(codeFailedToParse, "resume token string was not a valid hex string")
	}
	token, err := resumetoken.New(doc)
	if err == nil {
		d, err = token.Decode()
	}
	if err != nil {
		return d, nil, malformedToken(err, len(key))
	}
	return d, key, nil
}

// malformedToken finds the server's words for what a decoder says.
func malformedToken(err error, length int) error {
	const time, version = 9, 2 // bytes
	switch {
	case length <= time:
		return failf(50796, "Resume Token does not contain version")
	case length <= time+version:
		return failf(51055, "Resume Token does not contain tokenType")
	}
	for _, known := range []struct {
		ours, words string
		code        int
	}{
		{"no version", "Resume Token does not contain version", 50796},
		{"no token type", "Resume Token does not contain tokenType", 51055},
		{"its version is not", "Invalid Resume Token: only supports version 0, 1 and 2", 50795},
		{"its token type", "Token type not recognized", 51057},
	} {
		if errors.Is(err, resumetoken.ErrMalformed) && strings.Contains(err.Error(), known.ours) {
			return failf(known.code, "%s", known.words)
		}
	}
	return failf(codeOverflow, "Invalid advance past end of buffer")
}

func (s *stream) highWaterMark(ts bson.Timestamp) resumetoken.Decoded {
	return resumetoken.Decoded{Format: s.format, ClusterTime: ts, HighWaterMark: true}
}

// advance moves the stream's mark to a token, unless it is further already.
func (s *stream) advance(d resumetoken.Decoded) error {
	token, key, err := encode(d)
	if err == nil && bytes.Compare(key, s.markKey) > 0 {
		s.mark, s.markKey = token, key
	}
	return err
}

// encode gives a token's document, and the key in it by which tokens compare.
func encode(d resumetoken.Decoded) (bson.Raw, []byte, error) {
	token, err := resumetoken.Encode(d)
	if err != nil {
		return nil, nil, err
	}
	doc := token.Raw()
	key, err := hex.DecodeString(doc.Lookup("_data").StringValue())
	return doc, key, err
}
