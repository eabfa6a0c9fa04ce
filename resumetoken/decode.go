package resumetoken

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrOpaque is returned by [Token.Decode] for a token whose format is not
// MongoDB's: Amazon DocumentDB, Azure Cosmos DB and Huawei GaussDB have their own.
// Such a token can be used to resume like any other.
//
// A token is in MongoDB's format if its _data is a string or binary data of
// subtype 0 that begins with the byte 0x82 (as hexadecimal digits in a string),
// like every token of a MongoDB server, or that is too short to have that byte.
// Every other token is opaque.
var ErrOpaque = errors.New("resume token of an unknown format")

// ErrMalformed is returned by [Token.Decode] for a token in MongoDB's format (see
// [ErrOpaque]) that no server has written: it is truncated, has trailing bytes or
// an unknown version, or a field is missing or of the wrong type. The error says
// which, and never contains the token's contents.
var ErrMalformed = errors.New("malformed resume token")

// A Format is one of the layouts of MongoDB's tokens. It does not identify the
// server's version: new servers still write old formats, depending on the stream's
// options and on the token that it was resumed from.
type Format int

// The formats, in the order of their introduction. Tokens of FormatV0 to FormatV2
// contain the number as their version.
const (
	Format36 Format = iota + 1 // MongoDB 3.6: binary data, without a version
	FormatV0                   // since 4.0
	FormatV1                   // since 4.2
	FormatV2                   // since 6.0, and the default since 7.0
)

// String returns "3.6", "v0", "v1" or "v2".
func (f Format) String() string {
	switch f {
	case Format36:
		return "3.6"
	case FormatV0, FormatV1, FormatV2:
		return fmt.Sprintf("v%d", f.Version())
	}
	return "unknown"
}

// Version returns the number in the token: 0, 1 or 2; -1 for Format36, which
// has none.
func (f Format) Version() int { return int(f - FormatV0) }

// Decoded holds the contents of a token. Fields that its format does not have
// are zero.
type Decoded struct {
	Format Format

	// ClusterTime is the time of the event. For a high-water mark, all events of
	// earlier times come before it.
	ClusterTime bson.Timestamp

	// HighWaterMark means that the token belongs to no event. A high-water mark
	// of a time is before the events of that time. It is false for Format36 and
	// FormatV0, which don't have the distinction.
	HighWaterMark bool

	// TxnOpIndex is the index of the event in its transaction, from 0. It is 0
	// for an event outside of transactions.
	TxnOpIndex int

	// FromInvalidate means that the token is that of an invalidate event, which
	// a stream can only be opened with as startAfter. It is false for FormatV0
	// and Format36, which don't have it.
	FromInvalidate bool

	// UUID is that of the collection. It is zero for events without a
	// collection (dropDatabase) and for high-water marks.
	UUID UUID

	// OperationType is that of the event, or of the event that caused an
	// invalidate. Only tokens of FormatV2 and those of the expanded events
	// (create, modify, ...) of FormatV1 have it.
	OperationType string

	// DocumentKey is that of the event, nil for events without one.
	DocumentKey bson.Raw

	// OperationDescription is that of the event, nil for events without one.
	OperationDescription bson.Raw

	// IsFragment means that the token is that of one part of an event that
	// $changeStreamSplitLargeEvent has split. Fragment is the part's number,
	// from 0.
	IsFragment bool
	Fragment   int
}

// Time returns ClusterTime as wall-clock time, in whole seconds.
func (d Decoded) Time() time.Time { return time.Unix(int64(d.ClusterTime.T), 0) }

// A UUID identifies a collection. The zero UUID means none.
type UUID [16]byte

// IsZero reports whether u is the zero UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// String returns the usual form, such as 4b4a1b0e-3fa2-439b-a6f0-d61ddd6805fb.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Decode returns the contents of the token. It is as strict as the server, and
// also refuses bytes after the token's end. The error is [ErrOpaque],
// [ErrMalformed], or [ErrInvalid] for the zero Token.
//
// Use the contents for display, for lag, for hints on order, and for starting from
// a time when the token is unusable; they never replace the token.
func (t Token) Decode() (Decoded, error) {
	key, format36, err := t.key()
	if err != nil {
		return Decoded{}, err
	}
	bits, err := t.typeBits()
	if err != nil {
		return Decoded{}, err
	}
	r := keyReader{key: key, bits: bits}
	d := r.token(format36)
	if r.err != nil {
		return Decoded{}, r.err
	}
	return d, nil
}

// key returns the token's KeyString, by which the server sorts and compares.
func (t Token) key() (key []byte, format36 bool, err error) {
	if t.doc == "" {
		return nil, false, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	data := bson.Raw(t.doc).Lookup("_data")
	switch data.Type {
	case bson.TypeString:
		text := data.StringValue()
		if !strings.HasPrefix(text, "82") && text != "8" && text != "" {
			return nil, false, ErrOpaque
		}
		if key, err = hex.DecodeString(text); err != nil {
			return nil, false, malformed("its _data is not hexadecimal")
		}
	case bson.TypeBinary:
		var subtype byte
		subtype, key = data.Binary()
		if subtype != bson.TypeBinaryGeneric || len(key) > 0 && key[0] != ksTimestamp {
			return nil, false, ErrOpaque
		}
		format36 = true
	default:
		return nil, false, ErrOpaque
	}
	if len(key) == 0 {
		return nil, false, malformed("its _data is empty")
	}
	return key, format36, nil
}

func (t Token) typeBits() (typeBits, error) {
	v, err := bson.Raw(t.doc).LookupErr("_typeBits")
	if err != nil {
		return typeBits{absent: true}, nil
	}
	subtype, data, ok := v.BinaryOK()
	if !ok || subtype != bson.TypeBinaryGeneric {
		return typeBits{}, malformed("its _typeBits are not binary data of subtype 0")
	}
	return newTypeBits(data)
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
