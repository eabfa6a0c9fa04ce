// Package resumetoken stores and decodes MongoDB resume tokens.
//
// A change stream returns a resume token with every event, and the server can
// reopen the stream just after that event. Drivers treat the token as opaque, and
// so does [Token]: it keeps the whole document, byte for byte. [Token.Decode]
// decodes a token for display, for lag and for hints on order; the correctness of
// a checkpoint never depends on it. [Encode] writes tokens like a server, for test
// servers.
//
// # Limits
//
// The tokens of MongoDB 3.6 to 8 can be decoded; those of other databases with
// MongoDB's protocol are kept and never interpreted. A token does not identify its
// deployment or the filter of its stream, and does not say whether the server
// still has the history to resume from it: only opening the stream shows that, and
// sometimes only the events that follow.
package resumetoken

import (
	"errors"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrInvalid is returned by [New] and [Parse] for anything but a resume token: an
// empty or invalid document, or one without the _data field that the tokens of
// every known server have (for example a whole change event).
var ErrInvalid = errors.New("not a resume token")

// A Token is one resume token: immutable, comparable with ==, and safe to copy
// and to share between goroutines. The zero Token means none.
//
// A token contains the _id of a document. Therefore printing one (with any verb,
// with log/slog or as JSON) shows only its time and size. Use [Token.Raw] or
// [Token.ExtJSON] for the contents. Package fmt has two exceptions: it prints an
// unexported field of a struct without calling the methods of the field's type
// (give such a struct a String method, or export the field), and an argument of a
// verb that is wrong for all such types, %p or %w, which go vet reports.
type Token struct {
	// The document's bytes, as a string, which makes the type comparable and
	// immutable, and copying it allocates nothing.
	doc string
}

// New returns the token that the server sent as an event's _id or as a batch's
// postBatchResumeToken. It copies doc, because the driver's bytes are part of a
// reply of up to 16 MB, which the token would keep in memory.
//
// New does not check the contents further, because servers newer than this package
// may have other formats; see [Token.Decode].
func New(doc bson.Raw) (Token, error) {
	if len(doc) == 0 {
		return Token{}, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	if err := doc.Validate(); err != nil {
		return Token{}, fmt.Errorf("%w: it is not a BSON document", ErrInvalid)
	}
	if n := int(int32(uint32(doc[0]) | uint32(doc[1])<<8 | uint32(doc[2])<<16 | uint32(doc[3])<<24)); n != len(doc) {
		return Token{}, fmt.Errorf("%w: %d bytes follow the document", ErrInvalid, len(doc)-n)
	}
	if _, err := doc.LookupErr("_data"); err != nil {
		return Token{}, fmt.Errorf("%w: it has no _data field", ErrInvalid)
	}
	return Token{doc: string(doc)}, nil
}

// Raw returns a copy of the token's document, as the server sent it. It is nil for
// the zero Token.
func (t Token) Raw() bson.Raw {
	if t.doc == "" {
		return nil
	}
	return bson.Raw(t.doc)
}

// IsZero reports whether t is the zero Token.
func (t Token) IsZero() bool { return t.doc == "" }

// Len returns the size of the token's document in bytes.
func (t Token) Len() int { return len(t.doc) }

// String describes the token: its time, if that can be decoded, and its size.
// It never contains the contents.
func (t Token) String() string {
	d, err := t.Decode()
	switch {
	case t.doc == "":
		return "no resume token"
	case errors.Is(err, ErrMalformed):
		return fmt.Sprintf("resume token (malformed, %d bytes)", len(t.doc))
	case err != nil:
		return fmt.Sprintf("resume token (opaque, %d bytes)", len(t.doc))
	}
	return fmt.Sprintf("resume token (%s, %d bytes)", d.Time().UTC().Format("2006-01-02T15:04:05Z"), len(t.doc))
}

// GoString returns [Token.String], so that %#v does not show the contents
// either.
func (t Token) GoString() string { return t.String() }

// Format prints [Token.String] for every verb, so that none shows the contents.
func (t Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// LogValue returns [Token.String] for log/slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText returns [Token.String], so that a struct logged as JSON does not
// show the contents of a token in it. To store a token, use [Token.ExtJSON].
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText always fails. Without it, a token in a struct that is stored
// and loaded as JSON would be lost silently.
func (t *Token) UnmarshalText([]byte) error {
	return fmt.Errorf("%w: tokens are not saved in this form; use ExtJSON and Parse", ErrInvalid)
}
