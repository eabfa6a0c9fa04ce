package mongotest

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A commandError is how a command fails: the server's own code, and the labels
// that drivers go by.
type commandError struct {
	code   int
	msg    string
	labels []string
	// cause: a writeError has more fields than code and message.
	extra bson.Raw
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.code, codeName(e.code), e.msg)
}

func failf(code int, format string, args ...any) *commandError {
	return &commandError{code: code, msg: fmt.Sprintf(format, args...)}
}

func missingField(where, field string) *commandError {
	return failf(codeMissingField, "BSON field '%s.%s' is missing but a required field", where, field)
}

// notImitated is the answer to what a real server does and this one does not.
func notImitated(what string) *commandError {
	return failf(codeNotImplemented, "mongotest does not imitate %s", what)
}

func (e *commandError) label(l ...string) *commandError {
	e.labels = append(e.labels, l...)
	return e
}

// prefixed is the error with words before it.
func (e *commandError) prefixed(words string) *commandError {
	c := *e
	c.msg = words + c.msg
	return &c
}

// asCommandError takes errors of other kinds, which BSON's own functions give,
// for values that can't be.
func asCommandError(err error) *commandError {
	if e, ok := err.(*commandError); ok {
		return e
	}
	return failf(codeBadValue, "%v", err)
}

// reply is the document that tells a client.
func (e *commandError) reply() *builder {
	d := newBuilder()
	if len(e.labels) > 0 {
		d.strings("errorLabels", e.labels)
	}
	d.float("ok", 0).str("errmsg", e.msg).int32("code", e.code).str("codeName", codeName(e.code))
	if e.extra != nil {
		d.append(e.extra)
	}
	return d
}

func (e *commandError) writeError(i int) bson.Raw {
	d := newBuilder().int32("index", i).int32("code", e.code).str("errmsg", e.msg)
	if e.extra != nil {
		d.append(e.extra)
	}
	return d.done()
}

// The server's codes (src/mongo/base/error_codes.yml).
const (
	codeBadValue                = 2
	codeFailedToParse           = 9
	codeUnauthorized            = 13
	codeTypeMismatch            = 14
	codeOverflow                = 15
	codeIllegalOperation        = 20
	codeNamespaceNotFound       = 26
	codeIndexNotFound           = 27
	codePathNotViable           = 28
	codeConflictingOperators    = 40
	codeCursorNotFound          = 43
	codeNoMatchingDocument      = 47
	codeNamespaceExists         = 48
	codeMaxTimeMSExpired        = 50
	codeDollarPrefixedFieldName = 52
	codeCommandNotFound         = 59
	codeImmutableField          = 66
	codeInvalidOptions          = 72
	codeInvalidNamespace        = 73
	codeIndexOptionsConflict    = 85
	codeIndexKeySpecsConflict   = 86
	codeWriteConflict           = 112
	codeConflictingOperation    = 117
	codeCappedPositionLost      = 136
	codeCursorInUse             = 143
	codeCommandFailed           = 125
	codeNotSupportedOnView      = 166
	codeInvalidOperator         = 168
	codeTransactionTooOld       = 225
	codeCursorKilled            = 237
	codeNotImplemented          = 238
	codeNoSuchTransaction       = 251
	codeTransactionCommitted    = 256
	codeInvalidResumeToken      = 260
	codeNotPermittedInTxn       = 263
	codeChangeStreamFatalError  = 280
	codeChangeStreamHistoryLost = 286
	codeUnsupportedOpQuery      = 352
	codeNotWritablePrimary      = 10107
	codeBSONObjectTooLarge      = 10334
	codeDuplicateKey            = 11000
	codeNotPrimaryNoSecondaryOk = 13435
	codeUnrecognizedStage       = 40324
	codeUnknownField            = 40415
	codeMissingField            = 40414
	codeOnlyFirstStage          = 40602
	codeOneResumeOption         = 40674
	codeMissingResumeData       = 40647
	codeResumeTypeBits          = 40648
	codeEmptyResumeToken        = 40649
	codeBothResumeOptions       = 50865
	codeNotRetryableWrite       = 50768
	codeNegative                = 51024
	codeChangeStreamNotAnObject = 6188500
)

var codeNames = map[int]string{
	2: "BadValue", 9: "FailedToParse", 13: "Unauthorized", 14: "TypeMismatch", 15: "Overflow", 20: "IllegalOperation", 24: "LockTimeout",
	26: "NamespaceNotFound", 27: "IndexNotFound", 28: "PathNotViable", 40: "ConflictingUpdateOperators", 43: "CursorNotFound",
	47: "NoMatchingDocument", 48: "NamespaceExists", 50: "MaxTimeMSExpired", 52: "DollarPrefixedFieldName", 59: "CommandNotFound",
	6: "HostUnreachable", 7: "HostNotFound", 63: "OBSOLETE_StaleShardVersion", 64: "WriteConcernFailed", 66: "ImmutableField",
	16: "InvalidLength", 56: "EmptyFieldName", 67: "CannotCreateIndex", 168: "InvalidPipelineOperator", 197: "InvalidIndexSpecificationOption", 53: "InvalidIdField",
	72: "InvalidOptions", 73: "InvalidNamespace", 79: "UnknownReplWriteConcern", 85: "IndexOptionsConflict",
	86: "IndexKeySpecsConflict", 89: "NetworkTimeout", 91: "ShutdownInProgress", 100: "UnsatisfiableWriteConcern",
	112: "WriteConflict", 117: "ConflictingOperationInProgress", 133: "FailedToSatisfyReadPreference", 134: "ReadConcernMajorityNotAvailableYet",
	125: "CommandFailed", 50768: "NotARetryableWriteCommand", 136: "CappedPositionLost", 143: "CursorInUse", 150: "StaleEpoch", 189: "PrimarySteppedDown", 216: "ElectionInProgress",
	222: "CloseChangeStream", 225: "TransactionTooOld", 234: "RetryChangeStream", 237: "CursorKilled", 238: "NotImplemented", 239: "SnapshotTooOld", 267: "PreparedTransactionInProgress",
	246: "SnapshotUnavailable", 251: "NoSuchTransaction", 256: "TransactionCommitted", 260: "InvalidResumeToken",
	262: "ExceededTimeLimit", 263: "OperationNotSupportedInTransaction", 280: "ChangeStreamFatalError",
	286: "ChangeStreamHistoryLost", 314: "ObjectIsBusy", 317: "ConnectionPoolExpired", 352: "UnsupportedOpQueryCommand", 358: "InternalTransactionNotSupported",
	8000: "AtlasError", 9001: "SocketException", 10003: "CannotGrowDocumentInCappedNamespace", 10107: "NotWritablePrimary",
	10334: "BSONObjectTooLarge", 11000: "DuplicateKey", 11600: "InterruptedAtShutdown", 11601: "Interrupted",
	11602: "InterruptedDueToReplStateChange", 13388: "StaleConfig", 13435: "NotPrimaryNoSecondaryOk", 13436: "NotPrimaryOrSecondary",
	40415: "IDLUnknownField", 40414: "IDLFailedToParse", 8: "UnknownError", 11: "UserNotFound", 18: "AuthenticationFailed",
	10: "CannotGrowDocument", 1: "InternalError", 166: "CommandNotSupportedOnView", 167: "OptionNotSupportedOnView",
}

// codeName is the name of a code; a real server, too, calls what has none by
// its number.
func codeName(code int) string {
	if n, ok := codeNames[code]; ok {
		return n
	}
	return fmt.Sprintf("Location%d", code)
}
