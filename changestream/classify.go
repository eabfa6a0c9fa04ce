package changestream

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// A verdict is what an error means for a stream.
type verdict int

const (
	retry    verdict = iota // the position is good: reopen
	unknown                 // an error that we don't know: reopen for a while
	refused                 // retrying won't help, though the token may be good
	lost                    // the server can't resume from the token
	badEvent                // the next event can't be read; those before it can
)

// An origin is the command that an error came from. What an aggregate says about
// a token is about the token that we gave; what a getMore says may be about the
// one that the driver gave when it resumed the stream by itself, with resumeAfter
// where only startAfter works (260 after an invalidate event).
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
	codeAtlasRefused        = 8000
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
	codeHistoryLost: lost, codeChangeStreamFatal: lost, codeResumeTenantStream: lost, codeCappedPositionLost: lost,
	codeObjectTooLarge: badEvent, codeFieldTooBig: badEvent, codeNoMatchingDocument: badEvent,
	codeUnauthorized: refused, codeAuthFailed: refused, codeAtlasRefused: refused, codeOnlyReplicaSets: refused, codeOnView: refused,
	codeInvalidOptions: refused, codeInvalidNamespace: refused, codeUnknownField: refused, codeBadValue: refused,

	// The specification's list, and what happens to a cursor without a label:
	// not found, killed, its operation killed, timed out, in use, of another
	// session.
	6: retry, 7: retry, 63: retry, 89: retry, 91: retry, 133: retry, 150: retry, 189: retry, 234: retry, 262: retry, 9001: retry,
	10107: retry, 11600: retry, 11602: retry, 13388: retry, 13435: retry, 13436: retry,
	43: retry, 237: retry, 11601: retry, 50: retry, 143: retry, 50738: retry,
	// Servers that are starting, electing or overloaded.
	94: retry, 112: retry, 134: retry, 202: retry, 216: retry, 222: retry, 246: retry, 317: retry, 384: retry,
}

// tokenCodes mean, when an aggregate gives them, that the token is malformed or
// of another kind of stream.
var tokenCodes = map[int32]bool{
	codeInvalidResumeToken: true, 50811: true, 40647: true, 40648: true, 40649: true, 50795: true, 50796: true, 51055: true, 51057: true,
}

// judge goes by code, then by label, and by text only where the server has no
// specific code.
func judge(err error, from origin) verdict {
	if errors.Is(err, mongo.ErrClientDisconnected) || errors.Is(err, mongo.ErrMissingResumeToken) {
		return refused
	}
	if errors.As(err, new(*lateError)) {
		return retry
	}
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		if c := code(err); c != 0 {
			return verdicts[c]
		}
		return retry // not an answer of a server
	}
	// A code first: a failed login is a network error too, to the driver.
	if v, ok := verdicts[ce.Code]; ok {
		return v
	}
	if tokenCodes[ce.Code] || ce.Code == codeFailedToParse && strings.Contains(strings.ToLower(ce.Message), wordsOfTokenParseErrors) {
		if from == atAggregate {
			return lost
		}
		return retry
	}
	if ce.HasErrorLabel(labelNotResumable) {
		return lost
	}
	if slices.ContainsFunc([]string{labelResumable, labelNetwork, labelOverloaded, labelRetryable}, ce.HasErrorLabel) {
		return retry
	}
	return unknown
}

// failovers are the codes of a member that is no longer the primary, not yet one, or
// shutting down.
var failovers = []int32{91, 189, 10107, 11600, 11602, 13435, 13436, 94, 134, 216}

// cursors are the codes of a cursor that is gone: not found, killed, of another
// session.
var cursors = []int32{43, 237, 11601, 50738}

// cause is the word under which an interruption is counted.
func cause(err error) string {
	if a, _ := absenceOf(err); errors.As(err, new(*lateError)) && !a.failed {
		return "no-reply"
	}
	var ce mongo.CommandError
	switch isServers := errors.As(err, &ce); {
	case isServers && slices.Contains(failovers, ce.Code):
		return "failover"
	case isServers && slices.Contains(cursors, ce.Code), errors.Is(err, errCursorClosed):
		return "cursor"
	case mongo.IsTimeout(err):
		return "timeout"
	case mongo.IsNetworkError(err), !isServers:
		return "network"
	}
	return "other"
}

// code is the server's own code, 0 if there is none.
func code(err error) int32 {
	var ce mongo.CommandError
	if !errors.As(err, &ce) && err != nil && isLoginOfAnother(err.Error()) {
		return codeAuthFailed
	}
	return ce.Code
}

// isLoginOfAnother reports whether a command failed because the login of another one,
// at the same moment, was refused: the driver then keeps only that one's message.
func isLoginOfAnother(text string) bool {
	return strings.Contains(text, "(AuthenticationFailed)") && clearedPool.MatchString(text)
}

// maxMessage is how much of a server's message is repeated.
const maxMessage = 300

// messageOf is what an error says, without documents: the server quotes whole
// events and resume tokens, in braces, in some of its messages.
func messageOf(err error) string {
	if err == nil {
		return "none"
	}
	var ce mongo.CommandError
	if !errors.As(err, &ce) || ce.Code == 0 {
		if a, ok := absenceOf(err); ok {
			return a.String()
		}
		return err.Error()
	}
	text, _, cut := strings.Cut(ce.Message, "{")
	if len(text) > maxMessage {
		text, cut = strings.ToValidUTF8(text[:maxMessage], ""), true
	}
	if cut {
		text += "…"
	}
	return fmt.Sprintf("%s (%s, code %d)", quote.Text(strings.TrimSpace(text)), quote.Name(ce.Name), ce.Code)
}

// causeOf is messageOf without the server's address.
func causeOf(err error) string {
	if late := (*lateError)(nil); errors.As(err, &late) {
		return late.Error()
	}
	if a, ok := absenceOf(err); ok && code(err) == 0 {
		return a.cause
	}
	return messageOf(err)
}

// failsOnEvent reports whether the server failed in applying stages to an event,
// and not in parsing them. The codes are those of the expression that failed.
func failsOnEvent(err error) bool {
	var ce mongo.CommandError
	return errors.As(err, &ce) && strings.Contains(ce.Message, "xecutor error during ")
}

// codeOf is the server's name and code of an error, without its message.
func codeOf(err error) string {
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return "no code"
	}
	return fmt.Sprintf("%s, code %d", ce.Name, ce.Code)
}
