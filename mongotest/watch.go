package mongotest

import (
	"encoding/hex"
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A stream is the state of a change stream's cursor: its position in the oplog,
// and what it does with the entries. The cursor's getMore, of which one runs at
// a time, owns it.
type stream struct {
	scope    scope
	full     string // fullDocument
	before   string // fullDocumentBeforeChange
	expanded bool   // showExpandedEvents
	stages   []query.Stage
	split    bool // the last of them is $changeStreamSplitLargeEvent
	format   resumetoken.Format

	// The stages that run before a required image is looked up.
	beforeImages, beforePostImage []query.Stage

	start bson.Timestamp
	// after is what the stream was resumed from, until that has been found; nil
	// for nothing and for a high-water mark.
	after *resumePoint

	opened bool     // next has been found
	moved  bool     // an entry has been read
	next   int64    // the number of the next entry
	part   int      // the number of its events that have been read
	ready  []output // read, and not yet sent to the client

	mark     bson.Raw // the postBatchResumeToken
	markTime bson.Timestamp
	ended    bool // by an invalidate event
}

// A scope is what a stream watches: a collection, a database (coll is empty),
// or the deployment (both are).
type scope struct{ db, coll string }

// isWatch reports whether a command opens a change stream.
func isWatch(r *request) bool {
	if r.name != "aggregate" {
		return false
	}
	list := bsondoc.Items(r.args["pipeline"])
	if len(list) == 0 {
		return false
	}
	doc, ok := list[0].DocumentOK()
	return ok && doc.Lookup("$changeStream").Type != 0
}

// v2Tokens reports whether the command requests tokens of version 2.
func (r *request) v2Tokens() (bool, error) {
	const name = "$_generateV2ResumeTokens"
	v, given := r.args[name]
	if !given {
		return r.server.v2Tokens, nil
	}
	return boolean(name, v)
}

// boolean reads an option that must be a boolean.
func boolean(name string, v bson.RawValue) (bool, error) {
	on, ok := v.BooleanOK()
	if !ok {
		return false, cmderr.Errorf(cmderr.TypeMismatch, "Field '%s' should be a boolean value, but found: %s", name, bsondoc.TypeName(v.Type))
	}
	return on, nil
}

func watch(r *request, stages []bson.Raw, v2 bool) (*bsondoc.Builder, error) {
	spec, ok := stages[0].Lookup("$changeStream").DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.ChangeStreamNotAnObject, "$changeStream must take a nested object but found: $changeStream: %s", bsondoc.Shell(stages[0].Lookup("$changeStream")))
	}
	s := &stream{format: resumetoken.FormatV1, full: "default", before: "off"}
	if v2 {
		s.format = resumetoken.FormatV2
	}
	ns, err := r.watched(s, spec)
	if err != nil {
		return nil, err
	}
	stages = stages[1:]
	if s.stages, err = query.CompileStages(stages, true); err != nil {
		return nil, err
	}
	if s.split, err = splits(stages); err != nil {
		return nil, err
	}
	if s.split {
		s.format = resumetoken.FormatV2
	}
	if err := r.read(func(w *writer) error { return w.st.noView(namespace(s.scope)) }); err != nil {
		return nil, err
	}
	if err := s.readOptions(spec); err != nil {
		return nil, err
	}
	if err := s.compileEarly(stages); err != nil {
		return nil, err
	}
	n, _, err := r.batchSize()
	if err != nil {
		return nil, err
	}
	return r.openStream(s, ns, n)
}

// openStream replies with the existing events. With a batch size of 0 it does
// not read, and errors show at the first getMore.
func (r *request) openStream(s *stream, ns namespace, n int) (*bsondoc.Builder, error) {
	st := r.server.store
	if s.start == (bson.Timestamp{}) && s.mark == nil {
		s.start = st.lastTime()
		s.start.I++
	}
	if s.mark == nil {
		if err := s.advance(s.start); err != nil {
			return nil, err
		}
	}
	c := &cursor{ns: ns, session: r.sessionName(), stream: s}
	var batch []bson.Raw
	if n > 0 {
		var err error
		if batch, _, err = st.read(s, n); err != nil {
			return nil, cmderr.From(err).Prefixed("PlanExecutor error during aggregation :: caused by :: ")
		}
	}
	if !s.ended {
		r.server.cursors.add(c)
	}
	return c.reply("firstBatch", s.ended, batch, s.fields), nil
}

// fields adds the fields that only the batches of streams have.
func (s *stream) fields(d *bsondoc.Builder) {
	d.Doc("postBatchResumeToken", s.mark)
	if s.ended {
		d.Bool("invalidated", true)
	}
}

// watched returns the namespace of the stream's cursor.
func (r *request) watched(s *stream, spec bson.Raw) (namespace, error) {
	cluster := false
	if all, err := spec.LookupErr("allChangesForCluster"); err == nil {
		if cluster, err = boolean("allChangesForCluster", all); err != nil {
			return namespace{}, err
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
			return ns, cmderr.Errorf(cmderr.InvalidOptions, "A $changeStream with 'allChangesForCluster:true' may only be opened on the 'admin' database, and with no collection name; found %s", ns)
		}
		return ns, nil
	}
	s.scope.db = r.db
	switch {
	case isInternal(r.db):
		return ns, cmderr.Errorf(cmderr.InvalidNamespace, "$changeStream may not be opened on the internal %s database", r.db)
	case strings.HasPrefix(s.scope.coll, "system."):
		return ns, cmderr.Errorf(cmderr.InvalidNamespace, "$changeStream may not be opened on the internal %s collection", ns)
	}
	return ns, nil
}

func (s *stream) readOptions(spec bson.Raw) (err error) {
	var resume, after, at bson.RawValue
	for _, e := range bsondoc.Fields(spec) {
		v := e.Value()
		null := v.Type == bson.TypeNull
		switch name := e.Key(); name {
		case "allChangesForCluster":
		case "fullDocument":
			s.full, err = readImages(name, v)
		case "fullDocumentBeforeChange":
			s.before, err = readImages(name, v)
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
			on, err := boolean(name, v)
			switch {
			case err != nil:
				return err
			case name == "showExpandedEvents":
				s.expanded = on
			case on:
				return cmderr.Unsupported("the option '" + name + "' of $changeStream")
			}
		default:
			return cmderr.Errorf(cmderr.UnknownField, "BSON field '$changeStream.%s' is an unknown field.", name)
		}
		if err != nil {
			return err
		}
	}
	return s.begin(resume, after, at)
}

func wrongOption(name string, v bson.RawValue, want string) *cmderr.Error {
	return cmderr.Errorf(cmderr.TypeMismatch, "BSON field '$changeStream.%s' is the wrong type '%s', expected type '%s'", name, bsondoc.TypeName(v.Type), want)
}

// begin sets where the stream starts; by default, now.
func (s *stream) begin(resume, after, at bson.RawValue) error {
	switch {
	case resume.Type != 0 && after.Type != 0:
		return cmderr.Errorf(cmderr.BothResumeOptions, "Do not specify both 'resumeAfter' and 'startAfter' in a $changeStream stage")
	case at.Type != 0 && (resume.Type != 0 || after.Type != 0):
		return cmderr.Errorf(cmderr.OneResumeOption, "Only one type of resume option is allowed, but multiple were found")
	case at.Type != 0:
		s.start.T, s.start.I = at.Timestamp()
		return s.advance(s.start)
	case resume.Type != 0:
		return s.resume(resume.Document(), false)
	case after.Type != 0:
		return s.resume(after.Document(), true)
	}
	return nil
}

func (s *stream) resume(doc bson.Raw, startAfter bool) error {
	d, err := readToken(doc)
	if err != nil {
		return err
	}
	switch {
	case d.FromInvalidate && !startAfter:
		return cmderr.Errorf(cmderr.InvalidResumeToken, "Attempting to resume a change stream using 'resumeAfter' is not allowed from an invalidate notification")
	case s.scope.coll != "" && !d.HighWaterMark && d.UUID.IsZero():
		return cmderr.Errorf(cmderr.InvalidResumeToken, "Attempted to resume a single-collection stream, but the resume token does not include a UUID")
	case d.IsFragment && !s.split:
		return fatal("To resume from a split event, the $changeStream pipeline must include a %s stage", query.SplitStage)
	case d.Format < resumetoken.FormatV1:
		return cmderr.Unsupported("tokens of MongoDB 4.0 and before")
	}
	s.start, s.format = d.ClusterTime, max(s.format, d.Format)
	if d.HighWaterMark && d.Format != s.format {
		return s.advance(s.start)
	}
	s.mark, s.markTime = doc, s.start
	if d.HighWaterMark {
		return nil
	}
	s.after = &resumePoint{token: doc, format: d.Format, fragment: -1}
	if d.IsFragment {
		s.after.fragment = d.Fragment
		d.IsFragment, d.Fragment = false, 0
	}
	_, s.after.key, err = encode(d)
	return err
}

// readToken reads a client's resume token, or returns the error that a real
// server does.
func readToken(doc bson.Raw) (d resumetoken.Decoded, err error) {
	data, ok := doc.Lookup("_data").StringValueOK()
	switch {
	case !ok:
		return d, cmderr.Errorf(cmderr.MissingResumeData, "Bad resume token: _data of missing or of wrong type. Expected string, got %s", bsondoc.Compact(bsondoc.Value(doc)))
	case data == "":
		return d, cmderr.Errorf(cmderr.EmptyResumeToken, "invalid empty resume token")
	}
	if bits, err := doc.LookupErr("_typeBits"); err == nil && bits.Type != bson.TypeBinary {
		return d, cmderr.Errorf(cmderr.ResumeTypeBits, "Bad resume token: _typeBits of wrong type %s", bsondoc.Compact(bsondoc.Value(doc)))
	}
	key, err := hex.DecodeString(data)
	if err != nil {
		return d, cmderr.Errorf(cmderr.FailedToParse, "resume token string was not a valid hex string")
	}
	token, err := resumetoken.New(doc)
	if err == nil {
		d, err = token.Decode()
	}
	if err != nil {
		return d, malformedToken(err, len(key))
	}
	return d, nil
}

// malformedToken translates an error of the decoder into the message of a real
// server.
func malformedToken(err error, length int) error {
	const time, version = 9, 2 // bytes
	switch {
	case length <= time:
		return cmderr.Errorf(50796, "Resume Token does not contain version")
	case length <= time+version:
		return cmderr.Errorf(51055, "Resume Token does not contain tokenType")
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
			return cmderr.Errorf(known.code, "%s", known.words)
		}
	}
	return cmderr.Errorf(cmderr.Overflow, "Invalid advance past end of buffer")
}

// advance sets the stream's mark to the high-water mark of a time, unless it is
// there already.
func (s *stream) advance(ts bson.Timestamp) (err error) {
	if s.mark != nil && !ts.After(s.markTime) {
		return nil
	}
	s.markTime = ts
	s.mark, _, err = encode(resumetoken.Decoded{Format: s.format, ClusterTime: ts, HighWaterMark: true})
	return err
}

// encode returns a token's document, and the key in it by which tokens compare.
func encode(d resumetoken.Decoded) (bson.Raw, []byte, error) {
	token, err := resumetoken.Encode(d)
	if err != nil {
		return nil, nil, err
	}
	doc := token.Raw()
	key, err := hex.DecodeString(doc.Lookup("_data").StringValue())
	return doc, key, err
}
