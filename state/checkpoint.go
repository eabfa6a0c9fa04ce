package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// MaxSequence is the greatest sequence that a store accepts: the greatest integer
// that Lua, in which some stores have their scripts, represents exactly.
const MaxSequence = 1<<53 - 1

// MaxKeyLen is the maximum length of a key in bytes.
const MaxKeyLen = 1024

// A Checkpoint states that everything up to and including Token has been
// delivered. What has only been read is a rigatoni.Position.
//
// All fields except Token may be zero.
type Checkpoint struct {
	// Token is the resume token of the last event delivered.
	Token resumetoken.Token

	// StartAfter means that the stream can be opened only with startAfter, not
	// with resumeAfter, because Token is that of an invalidate event.
	StartAfter bool

	// ClusterTime is the time of the event, by the cluster's clock.
	ClusterTime bson.Timestamp

	// SavedAt is the time of the save, with a precision of milliseconds. A store
	// fills it in if it is zero.
	SavedAt time.Time

	// Sequence numbers the saves of one key. A store refuses a save whose sequence
	// is below the last one that it accepted, or equal to it with another token,
	// with [ErrStale], because a delayed save must not overwrite a later one. A
	// repeated save, with the last sequence and the same token, succeeds. The last
	// sequence survives Clear and expiry. 0 means unordered: such a save is always
	// accepted, and leaves the last sequence as it is.
	Sequence uint64

	// Fingerprint identifies the stream that Token belongs to: deployment,
	// namespaces, filter. Its format is the source's; it is UTF-8.
	Fingerprint string

	// Epoch is the epoch of the lease that the checkpoint was saved under, for
	// information. A store fills it in and ignores the value that it is given.
	Epoch uint64

	// Extra holds small named JSON documents that are saved in the same write,
	// because they must never be newer or older than the token. Not every store
	// keeps white space outside their strings.
	Extra map[string]json.RawMessage
}

// At returns the checkpoint of a token, for programs that save nothing else. The
// document is the driver's ChangeStream.ResumeToken() or an event's _id; At copies
// it. The error is [resumetoken.ErrInvalid] for anything but a resume token.
//
// At fills in what the token contains: its cluster time, and whether it is that of
// an invalidate event.
func At(token bson.Raw) (Checkpoint, error) {
	t, err := resumetoken.New(token)
	if err != nil {
		return Checkpoint{}, err
	}
	cp := Checkpoint{Token: t}
	if d, err := t.Decode(); err == nil {
		cp.ClusterTime, cp.StartAfter = d.ClusterTime, d.FromInvalidate
	}
	return cp, nil
}

// Equal reports whether all fields of c and d are equal, except for white space
// outside the strings of the documents in Extra.
func (c Checkpoint) Equal(d Checkpoint) bool {
	return c.Token == d.Token && c.StartAfter == d.StartAfter && c.ClusterTime == d.ClusterTime &&
		c.SavedAt.Equal(d.SavedAt) && c.Sequence == d.Sequence && c.Fingerprint == d.Fingerprint &&
		c.Epoch == d.Epoch &&
		maps.EqualFunc(c.Extra, d.Extra, sameDoc)
}

// sameDoc compares two documents except for white space outside their strings.
func sameDoc(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// Clone returns a checkpoint that shares no memory with c.
func (c Checkpoint) Clone() Checkpoint {
	if c.Extra == nil {
		return c // all else is immutable
	}
	extra := make(map[string]json.RawMessage, len(c.Extra))
	for name, doc := range c.Extra {
		extra[name] = bytes.Clone(doc)
	}
	c.Extra = extra
	return c
}

// CheckKey returns an [ErrInvalid] unless key is a valid key of a checkpoint: 1 to
// [MaxKeyLen] bytes of UTF-8.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", ErrInvalid)
	case len(key) > MaxKeyLen:
		return fmt.Errorf("%w: the key has %d bytes; the maximum is %d", ErrInvalid, len(key), MaxKeyLen)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: the key is not UTF-8", ErrInvalid)
	}
	return nil
}
