package changestream

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// What an error means for a stream.
type verdict int

const (
	again    verdict = iota // the place is good: reopen
	unknown                 // nothing that is known: reopen for a while
	refused                 // no repetition will help, though the token may be good
	dead                    // the server can't go on from the token
	badEvent                // the next event can't be read; those before it can
)

// Where an error came from. What an aggregate says about a token is about the
// token that we gave; what a getMore says may be about the one that the driver
// gave when it resumed the stream by itself, with resumeAfter where only
// startAfter will do (260 behind an invalidate event).
type origin int

const (
	atAggregate origin = iota
	atGetMore
)

// The server's error codes (src/mongo/base/error_codes.yml and asserts in its
// change-stream code).
const (
	codeBadValue            = 2
	codeFailedToParse       = 9
	codeUnauthorized        = 13
	codeAuthFailed          = 18
	codeNoMatchingDocument  = 47
	codeInvalidOptions      = 72
	codeInvalidNamespace    = 73
	codeCappedPositionLost  = 136
	codeOnView              = 166
	codeInvalidResumeToken  = 260
	codeChangeStreamFatal   = 280
	codeHistoryLost         = 286
	codeNotSupportedThere   = 303 // how Amazon DocumentDB refuses an option
	codeResumeTenantStream  = 464
	codeObjectTooLarge      = 10334
	codeUnknownField        = 40415
	codeOnlyReplicaSets     = 40573
	labelNetwork            = "NetworkError"
	labelResumable          = "ResumableChangeStreamError"
	labelNotResumable       = "NonResumableChangeStreamError"
	labelOverloaded         = "SystemOverloadedError"
	labelRetryable          = "RetryableError"
	wordsOfTokenParseErrors = "resume token"
)

var verdicts = map[int32]verdict{
	codeHistoryLost: dead, codeChangeStreamFatal: dead, codeResumeTenantStream: dead, codeCappedPositionLost: dead,
	codeObjectTooLarge: badEvent, codeNoMatchingDocument: badEvent,
	codeUnauthorized: refused, codeAuthFailed: refused, codeOnlyReplicaSets: refused, codeOnView: refused,
	codeInvalidOptions: refused, codeInvalidNamespace: refused, codeUnknownField: refused, codeBadValue: refused,

	// The specification's list, and what happens to a cursor without a label:
	// not found, killed, its operation killed, timed out, in use, of another
	// session.
	6: again, 7: again, 63: again, 89: again, 91: again, 133: again, 150: again, 189: again, 234: again, 262: again, 9001: again,
	10107: again, 11600: again, 11602: again, 13388: again, 13435: again, 13436: again,
	43: again, 237: again, 11601: again, 50: again, 143: again, 50738: again,
	// Servers that are starting, electing or overloaded.
	94: again, 112: again, 134: again, 202: again, 216: again, 222: again, 246: again, 317: again, 384: again,
}

// Codes that condemn a token when an aggregate gives them: it is malformed, or of
// another kind of stream.
var tokenCodes = map[int32]bool{
	codeInvalidResumeToken: true, 50811: true, 40647: true, 40648: true, 40649: true, 50795: true, 50796: true, 51055: true, 51057: true,
}

// judge goes by code, then by label, and by text only where the server has no
// code of its own.
func judge(err error, from origin) verdict {
	if errors.Is(err, mongo.ErrClientDisconnected) || errors.Is(err, mongo.ErrMissingResumeToken) {
		return refused
	}
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return again // no word from a server
	}
	// A code first: a failed login is a network error too, to the driver.
	if v, ok := verdicts[ce.Code]; ok {
		return v
	}
	if tokenCodes[ce.Code] || ce.Code == codeFailedToParse && strings.Contains(strings.ToLower(ce.Message), wordsOfTokenParseErrors) {
		if from == atAggregate {
			return dead
		}
		return again
	}
	if ce.HasErrorLabel(labelNotResumable) {
		return dead
	}
	if slices.ContainsFunc([]string{labelResumable, labelNetwork, labelOverloaded, labelRetryable}, ce.HasErrorLabel) {
		return again
	}
	return unknown
}

// code is the server's own code, 0 if there is none.
func code(err error) int32 {
	var ce mongo.CommandError
	errors.As(err, &ce)
	return ce.Code
}

// maxWords is as much of a server's message as is worth repeating.
const maxWords = 300

// wordsOf is what an error says, without documents: the server quotes whole
// events and resume tokens, in braces, in some of its messages.
func wordsOf(err error) string {
	var ce mongo.CommandError
	if !errors.As(err, &ce) || ce.Code == 0 {
		if err == nil {
			return "it has none"
		}
		return err.Error()
	}
	text, _, cut := strings.Cut(ce.Message, "{")
	if len(text) > maxWords {
		text, cut = strings.ToValidUTF8(text[:maxWords], ""), true
	}
	if cut {
		text += "…"
	}
	return fmt.Sprintf("%s (%s, code %d)", strings.TrimSpace(text), ce.Name, ce.Code)
}

// A streamError says in our words what the driver's error means. The sentinel (if
// there is one) and the driver's error are reachable through errors.Is and As.
type streamError struct {
	text   string
	causes []error
}

func (e *streamError) Error() string { return "changestream: " + e.text }

func (e *streamError) Unwrap() []error { return e.causes }

// refused is an error for which nothing about the place is to blame.
func (s scope) refused(doing string, err error) error {
	hint := ""
	switch code(err) {
	case codeUnauthorized:
		hint = "; the user needs the privileges find and changeStream there (the role read has both)"
	case codeAuthFailed:
		hint = "; the user name or the password is wrong, or authSource is"
	case codeOnlyReplicaSets:
		hint = "; start mongod with --replSet and initiate it, one node will do"
	case codeUnknownField, codeBadValue:
		hint = "; this version of the server may not know one of the options"
	}
	return &streamError{text: fmt.Sprintf("%s: can't %s: %s%s", s, doing, wordsOf(err), hint), causes: []error{err}}
}

// nameOf is the server's name and code of an error, without its words.
func nameOf(err error) string {
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return "no code"
	}
	return fmt.Sprintf("%s, code %d", ce.Name, ce.Code)
}
