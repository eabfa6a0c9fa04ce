// Package resumetoken holds MongoDB resume tokens, and reads what they say.
//
// A resume token is what a change stream gives with every event: the server
// opens a stream again just after it. To the server's drivers it is opaque,
// and [Token] treats it so: the whole document is kept, byte for byte, and
// given back as it came. [Token.Decode] reads a token for display, for lag
// and for hints on order; nothing that keeps a place correct depends on it.
// [Encode] writes tokens as a server does, for tests that play the server.
//
// # Limits
//
// The tokens of MongoDB 3.6 to 8 are read, all that is known of them; tokens of
// other databases that speak MongoDB's language are kept and never judged. A
// token does not say which deployment it is from, with which filter its stream
// was opened, or whether the server still has the history that it needs: only
// opening the stream tells, and sometimes only the events that follow.
package resumetoken

import (
	"errors"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrInvalid is returned by [New] and [Parse] for what is no resume token: an
// empty or broken document, or one without the _data field that the tokens of
// every known server have (a whole change event, say, given by mistake).
var ErrInvalid = errors.New("not a resume token")

// A Token is one resume token: immutable, comparable with ==, and safe to copy
// and to share between goroutines. The zero Token is no token.
//
// A token holds the _id of a document, so printing one (with any verb, with
// log/slog or as JSON) shows when it is from and how long it is, never what it
// holds. Use [Token.Raw] or [Token.ExtJSON] for the contents. Package fmt has
// two ways around this: it prints an unexported field of a struct without
// asking the field's type (give such a struct a String method, or keep its
// token in an exported field), and so does it an argument whose verb is wrong
// for every type of its kind, %p or %w, which go vet reports.
type Token struct {
	// The document's bytes, as a string: that makes the type comparable and
	// immutable, and copying one allocates nothing.
	doc string
}

// New makes a token of the document that the server sent as an event's _id or
// as a batch's postBatchResumeToken. It copies doc: the driver's own bytes lie
// in a whole reply of up to 16 MB, which the token would keep in memory.
//
// The contents are not judged further, because a server newer than this
// package is right about its own tokens; see [Token.Decode].
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

// Raw returns the token's document, as the server sent it, in fresh memory
// that is the caller's own. It is nil for the zero Token.
func (t Token) Raw() bson.Raw {
	if t.doc == "" {
		return nil
	}
	return bson.Raw(t.doc)
}

// IsZero tells whether t is no token.
func (t Token) IsZero() bool { return t.doc == "" }

// Len is the size of the token's document in bytes.
func (t Token) Len() int { return len(t.doc) }

// String tells when the token is from, as far as it can be read, and never
// what it holds.
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

// GoString is String: %#v must not show the contents either.
func (t Token) GoString() string { return t.String() }

// Format prints String for every verb, so that no format shows the contents.
func (t Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// LogValue is String, for log/slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is String: a struct that is logged as JSON must not show the
// contents of a token in it. To keep a token, use [Token.ExtJSON].
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText always fails. Were it missing, a token in a struct that is
// saved and loaded as JSON would be lost without a word.
func (t *Token) UnmarshalText([]byte) error {
	return fmt.Errorf("%w: tokens are not saved in this form; use ExtJSON and Parse", ErrInvalid)
}
