package changestream

import (
	"fmt"
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// A streamError says what the driver's error means for the stream. The sentinel
// (if there is one) and the driver's error are found by errors.Is and As.
type streamError struct {
	text   string
	causes []error
}

func (e *streamError) Error() string { return "changestream: " + e.text }

func (e *streamError) Unwrap() []error { return e.causes }

// refused is an error that the position has no part in. It is an [ErrRefused] or an
// [ErrUnreachable] if it is known to be one.
func (s scope) refused(doing string, err error) error {
	e := &streamError{text: fmt.Sprintf("%s: can't %s: %s%s", s, doing, messageOf(err), s.hint(err)), causes: []error{err}}
	v := judge(err, atAggregate)
	a, away := absenceOf(err)
	switch {
	case away && code(err) == 0 && a.final:
		e.causes = []error{ErrRefused, err}
	case away && code(err) == 0:
		e.causes = []error{ErrUnreachable, err}
	case code(err) != 0 && v == retry:
		e.causes = []error{ErrUnreachable, err} // it will answer otherwise
	case code(err) != 0 && (v == refused || s.pipeline.id != "" && v == unknown):
		e.causes = []error{ErrRefused, err}
	}
	return e
}

// hint is what to do about an error, after a semicolon; empty if nobody knows.
func (s scope) hint(err error) string {
	if v := judge(err, atAggregate); s.pipeline.id != "" && (v == unknown || code(err) == codeBadValue) {
		return "; check the stages of Options.Pipeline"
	}
	switch code(err) {
	case codeUnauthorized:
		if strings.Contains(err.Error(), "requires authentication") {
			return "; the connection string names no user: mongodb://USER:PASSWORD@HOST/"
		}
		return s.missingPrivilege()
	case codeAuthFailed, codeAtlasRefused:
		return "; the user name or the password is wrong, or authSource is"
	case codeOnlyReplicaSets:
		return "; start mongod with --replSet and initiate it, one node will do"
	case codeOnView:
		return "; watch the collection that the view is made of (a time-series collection has no change streams)"
	case codeUnknownField, codeBadValue:
		return "; this version of the server may not support one of the options"
	}
	return ""
}

// missingPrivilege names the privilege that the stream needs, as a document that can
// be pasted into a role.
func (s scope) missingPrivilege() string {
	db, coll := s.target()
	text := fmt.Sprintf(`; the user needs the privileges find and changeStream there: {resource: {db: %q, collection: %q}, actions: ["find", "changeStream"]}`, db, coll)
	switch {
	case db == "":
		return text + " (the role readAnyDatabase has them)"
	case coll == "" && len(s.collections) > 1 && !anyPattern(s.collections):
		return text + fmt.Sprintf(", since one stream of several collections is a stream of the whole database (the role read on %s has them); rights on each of the collections are enough for a stream of each (OneEach)", quote.Name(db))
	}
	return text + fmt.Sprintf(" (the role read on %s has them)", quote.Name(db))
}

func anyPattern(names []string) bool {
	for _, n := range names {
		if glob.IsPattern(n) {
			return true
		}
	}
	return false
}
