// Package resumetoken holds MongoDB resume tokens, and reads what they say.
//
// A resume token is what a change stream gives with every event: the server
// opens a stream again just after it. To the server's drivers it is opaque,
// and [Token] treats it so: the whole document is kept, byte for byte, and
// given back as it came. [Token.Decode] reads a token for display, for lag
// and for hints on order; nothing that keeps a place correct depends on it.
package resumetoken

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrInvalid is returned by [New] and [Parse] for what is no resume token: an
// empty or broken document, or one without the _data field that the tokens of
// every known server have (a whole change event, say, given by mistake).
var ErrInvalid = errors.New("not a resume token")

// A Token is one resume token: immutable, comparable with ==, and safe to copy
// and to share between goroutines. The zero Token is no token.
//
// A token holds the _id of a document, so printing one (with any verb, or with
// log/slog) shows when it is from and how long it is, never what it holds. Use
// [Token.Raw] or [Token.ExtJSON] for the contents.
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

// bsonField is the one field of the form that ExtJSON falls back to.
const bsonField = "$tokenBSON"

// ExtJSON writes the token as canonical Extended JSON v2, from which [Parse]
// makes the same token again, byte for byte. A document that Extended JSON
// would change on the way is written as {"$tokenBSON": base64} instead. It is
// an error for the zero Token.
func (t Token) ExtJSON() ([]byte, error) {
	if t.doc == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	if text, ok := t.plainJSON(); ok {
		return text, nil
	}
	return t.slowExtJSON(), nil
}

// plainJSON writes the token of nearly every event without going through a
// parser: one string of hexadecimal digits, for which there is one way to
// write it.
func (t Token) plainJSON() ([]byte, bool) {
	const before, after = "\x02_data\x00", "\x00\x00"
	text, ok := strings.CutPrefix(t.doc[4:], before)
	if !ok || len(text) < 4+len(after) {
		return nil, false
	}
	// The document is valid, so these are the string's length and, if nothing
	// follows it, its end and the document's.
	length := uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16 | uint32(text[3])<<24
	text = text[4:]
	if uint64(length)+1 != uint64(len(text)) {
		return nil, false
	}
	text = strings.TrimSuffix(text, after)
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'A' || c > 'F') && (c < 'a' || c > 'f') {
			return nil, false
		}
	}
	out := make([]byte, 0, len(text)+len(`{"_data":""}`))
	out = append(out, `{"_data":"`...)
	out = append(out, text...)
	return append(out, `"}`...), true
}

// slowExtJSON reads back what it writes before it trusts it: Extended JSON has
// no form for some documents, and changes others without a word (text that is
// not UTF-8, for one).
func (t Token) slowExtJSON() []byte {
	raw := bson.Raw(t.doc)
	if text, err := bson.MarshalExtJSON(raw, true, false); err == nil && utf8.Valid(text) {
		if back, err := parseExtJSON(text); err == nil && string(back) == t.doc {
			return text
		}
	}
	return []byte(`{"` + bsonField + `":"` + base64.StdEncoding.EncodeToString(raw) + `"}`)
}

// Parse reads what [Token.ExtJSON] wrote, or any Extended JSON form of a token.
func Parse(text []byte) (Token, error) {
	raw, err := parseExtJSON(text)
	if err != nil {
		// The decoder's own message quotes the text, which holds a document's _id.
		return Token{}, fmt.Errorf("%w: it is not Extended JSON", ErrInvalid)
	}
	if v, err := raw.LookupErr(bsonField); err == nil {
		s, ok := v.StringValueOK()
		if !ok {
			return Token{}, fmt.Errorf("%w: %s is not a string", ErrInvalid, bsonField)
		}
		if raw, err = base64.StdEncoding.DecodeString(s); err != nil {
			return Token{}, fmt.Errorf("%w: %s is not base64", ErrInvalid, bsonField)
		}
	}
	return New(raw)
}

func parseExtJSON(text []byte) (bson.Raw, error) {
	var raw bson.Raw
	if err := bson.UnmarshalExtJSON(text, true, &raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// String tells when the token is from, as far as it can be read, and never
// what it holds.
func (t Token) String() string {
	switch d, err := t.Decode(); {
	case t.doc == "":
		return "no resume token"
	case err != nil:
		return fmt.Sprintf("resume token (opaque, %d bytes)", len(t.doc))
	default:
		return fmt.Sprintf("resume token (%s, %d bytes)", d.Time().UTC().Format("2006-01-02T15:04:05Z"), len(t.doc))
	}
}

// GoString is String: %#v must not show the contents either.
func (t Token) GoString() string { return t.String() }

// Format prints String for every verb, so that no format shows the contents.
func (t Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// LogValue is String, for log/slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }
