package resumetoken

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrOpaque is returned by [Token.Decode] for a token whose format only its
// own server reads: Amazon DocumentDB, Azure Cosmos DB and Huawei GaussDB have
// theirs. Such a token is as good as any to resume with.
//
// The rule: a token is in MongoDB's own format if its _data is a string or
// binary data of subtype 0 that begins with the byte 0x82 (in hexadecimal
// digits where it is a string), as every token of a MongoDB server does, or if
// it ends before that can be told. Everything else is opaque.
var ErrOpaque = errors.New("resume token of an unknown format")

// ErrMalformed is returned by [Token.Decode] for a token in MongoDB's own
// format (see [ErrOpaque] for the rule) that a server would not have written:
// cut, longer than it should be, of a version that does not exist yet, with a
// field missing or of the wrong type. The error says which, never what the
// token holds.
var ErrMalformed = errors.New("malformed resume token")

// A Format is one of the layouts that MongoDB has given its tokens. It does not
// tell the server's version: a new server still writes old formats, depending
// on the stream's options and on the token that it was resumed from.
type Format int

// The formats, in the order in which they came. FormatV0 to FormatV2 carry
// their number inside, as the token's version.
const (
	Format36 Format = iota + 1 // MongoDB 3.6: binary data, without a version
	FormatV0                   // since 4.0
	FormatV1                   // since 4.2
	FormatV2                   // since 6.0, and the default since 7.0
)

// String is "3.6", "v0", "v1" or "v2".
func (f Format) String() string {
	switch f {
	case Format36:
		return "3.6"
	case FormatV0, FormatV1, FormatV2:
		return fmt.Sprintf("v%d", f.Version())
	}
	return "unknown"
}

// Version is the number in the token: 0, 1 or 2. It is -1 for Format36, which
// has none.
func (f Format) Version() int { return int(f - FormatV0) }

// Decoded is what a token says. Fields that its format does not have are zero.
type Decoded struct {
	Format Format

	// ClusterTime is the time of the event, or the time up to which a
	// high-water mark says that there are no more events.
	ClusterTime bson.Timestamp

	// HighWaterMark: the token belongs to no event. A high-water mark of a
	// time lies before the events of that time. Format36 and FormatV0 do not
	// tell the two apart; it is false there.
	HighWaterMark bool

	// TxnOpIndex is the place of the event among those of its transaction,
	// from 0, and 0 for an event outside of one.
	TxnOpIndex int

	// FromInvalidate: the token is that of an invalidate event, with which a
	// stream can only be opened as startAfter. FormatV0 and Format36 do not
	// say so.
	FromInvalidate bool

	// UUID is the collection's. It is zero for events that have no collection
	// (dropDatabase) and for high-water marks.
	UUID UUID

	// OperationType is the event's, known in FormatV2 and for the expanded
	// events (create, modify, ...) of FormatV1, else empty. An invalidate has
	// that of the event that caused it.
	OperationType string

	// DocumentKey is the event's documentKey, nil for events without one.
	DocumentKey bson.Raw

	// OperationDescription is the event's, nil for events without one.
	OperationDescription bson.Raw

	// IsFragment: the token is that of a part of an event that
	// $changeStreamSplitLargeEvent split, and Fragment that part's number from 0.
	IsFragment bool
	Fragment   int
}

// Time is the wall-clock second of ClusterTime.
func (d Decoded) Time() time.Time { return time.Unix(int64(d.ClusterTime.T), 0) }

// A UUID identifies a collection. The zero UUID is none.
type UUID [16]byte

// IsZero tells whether u is no UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// String is the usual form, as 4b4a1b0e-3fa2-439b-a6f0-d61ddd6805fb.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Decode reads what the token says. It is as strict as the server, and a bit
// stricter: nothing may follow the token's end. The error is [ErrOpaque],
// [ErrMalformed], or [ErrInvalid] for the zero Token.
//
// What it gives is good for display, for lag, for hints on order and for
// falling back to a time when a token is lost; it never replaces the token.
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

// key is the token's KeyString, by which the server sorts and compares.
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
