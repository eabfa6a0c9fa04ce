// Package cmderr has the errors with which commands of mongotest fail: those of a
// MongoDB 6.0.27 server, with its codes and labels.
package cmderr

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// An Error is the failure of a command, or of one statement of a write command.
type Error struct {
	Code   int
	Msg    string
	labels []string
	// Extra holds further fields of the reply, such as keyPattern and keyValue.
	Extra bson.Raw
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, Name(e.Code), e.Msg)
}

// Errorf returns an error with that code and message.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Missing returns the error for a required field that a command does not have.
func Missing(where, field string) *Error {
	return Errorf(MissingField, "BSON field '%s.%s' is missing but a required field", where, field)
}

// Unsupported returns the error for what a real server supports and mongotest does
// not.
func Unsupported(what string) *Error {
	return Errorf(NotImplemented, "mongotest does not support %s", what)
}

// Label adds error labels, which drivers act on.
func (e *Error) Label(l ...string) *Error {
	e.labels = append(e.labels, l...)
	return e
}

// Prefixed returns the error with words in front of its message.
func (e *Error) Prefixed(words string) *Error {
	c := *e
	c.Msg = words + c.Msg
	return &c
}

// From returns err as an *Error. Errors of other types are those of package bson
// for invalid values.
func From(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return Errorf(BadValue, "%v", err)
}

// Reply returns the command's reply.
func (e *Error) Reply() *bsondoc.Builder {
	d := bsondoc.New()
	if len(e.labels) > 0 {
		d.Strings("errorLabels", e.labels)
	}
	d.Float("ok", 0).Str("errmsg", e.Msg).Int32("code", e.Code).Str("codeName", Name(e.Code))
	if e.Extra != nil {
		d.Append(e.Extra)
	}
	return d
}

// WriteError returns the error as the element of writeErrors for statement i.
func (e *Error) WriteError(i int) bson.Raw {
	d := bsondoc.New().Int32("index", i).Int32("code", e.Code).Str("errmsg", e.Msg)
	if e.Extra != nil {
		d.Append(e.Extra)
	}
	return d.Done()
}

// The server's error codes (src/mongo/base/error_codes.yml).
const (
	BadValue                = 2
	FailedToParse           = 9
	Unauthorized            = 13
	TypeMismatch            = 14
	Overflow                = 15
	IllegalOperation        = 20
	NamespaceNotFound       = 26
	IndexNotFound           = 27
	PathNotViable           = 28
	ConflictingOperators    = 40
	CursorNotFound          = 43
	NoMatchingDocument      = 47
	NamespaceExists         = 48
	MaxTimeMSExpired        = 50
	DollarPrefixedFieldName = 52
	CommandNotFound         = 59
	ImmutableField          = 66
	InvalidOptions          = 72
	InvalidNamespace        = 73
	IndexOptionsConflict    = 85
	IndexKeySpecsConflict   = 86
	WriteConflict           = 112
	ConflictingOperation    = 117
	CappedPositionLost      = 136
	CursorInUse             = 143
	CommandFailed           = 125
	NotSupportedOnView      = 166
	InvalidOperator         = 168
	QueryPlanKilled         = 175
	TransactionTooOld       = 225
	CursorKilled            = 237
	NotImplemented          = 238
	SnapshotTooOld          = 239
	SnapshotUnavailable     = 246
	NoSuchTransaction       = 251
	TransactionCommitted    = 256
	InvalidResumeToken      = 260
	NotPermittedInTxn       = 263
	ChangeStreamFatalError  = 280
	ChangeStreamHistoryLost = 286
	UnsupportedOpQuery      = 352
	NotWritablePrimary      = 10107
	BSONObjectTooLarge      = 10334
	DuplicateKey            = 11000
	NotPrimaryNoSecondaryOk = 13435
	UnrecognizedStage       = 40324
	UnknownField            = 40415
	MissingField            = 40414
	OnlyFirstStage          = 40602
	OneResumeOption         = 40674
	MissingResumeData       = 40647
	ResumeTypeBits          = 40648
	EmptyResumeToken        = 40649
	BothResumeOptions       = 50865
	NotRetryableWrite       = 50768
	Negative                = 51024
	ChangeStreamNotAnObject = 6188500
)

var codeNames = map[int]string{
	2: "BadValue", 9: "FailedToParse", 13: "Unauthorized", 14: "TypeMismatch", 15: "Overflow", 20: "IllegalOperation", 24: "LockTimeout",
	26: "NamespaceNotFound", 27: "IndexNotFound", 28: "PathNotViable", 40: "ConflictingUpdateOperators", 43: "CursorNotFound",
	47: "NoMatchingDocument", 48: "NamespaceExists", 50: "MaxTimeMSExpired", 52: "DollarPrefixedFieldName", 59: "CommandNotFound",
	6: "HostUnreachable", 7: "HostNotFound", 63: "OBSOLETE_StaleShardVersion", 64: "WriteConcernFailed", 66: "ImmutableField",
	16: "InvalidLength", 56: "EmptyFieldName", 67: "CannotCreateIndex", 168: "InvalidPipelineOperator", 175: "QueryPlanKilled", 291: "NoQueryExecutionPlans", 197: "InvalidIndexSpecificationOption", 53: "InvalidIdField",
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

// Name returns the name of a code; Location and the number for one that has none,
// like the server.
func Name(code int) string {
	if n, ok := codeNames[code]; ok {
		return n
	}
	return fmt.Sprintf("Location%d", code)
}
