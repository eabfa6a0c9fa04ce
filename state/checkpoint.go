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

// MaxSequence is the greatest sequence that a store takes: the greatest integer
// that the scripts of every store (Lua's numbers) can hold exactly.
const MaxSequence = 1<<53 - 1

// MaxKeyLen is the greatest length of a key in bytes.
const MaxKeyLen = 1024

// A Checkpoint is the durable statement "everything up to and including Token
// has been delivered". How far a stream has merely been read is another thing,
// and another type (rigatoni.Position).
//
// All fields but Token may be zero.
type Checkpoint struct {
	// Token is the resume token of the last event delivered.
	Token resumetoken.Token

	// StartAfter says that the stream can be opened only with startAfter, not
	// with resumeAfter: Token is that of an invalidate event.
	StartAfter bool

	// ClusterTime is when the event happened, by the cluster's clock.
	ClusterTime bson.Timestamp

	// SavedAt is when the checkpoint was saved, in milliseconds. A store fills
	// it in if it is zero.
	SavedAt time.Time

	// Sequence numbers the saves of one key. A store refuses a save with a
	// sequence below the last one that it accepted, or equal to it with another
	// token, with [ErrStale]: a save that was held up on its way must not step
	// back over a later one. The last one again with the same token is success.
	// The last sequence outlives Clear and expiry. 0 means unordered: always
	// taken, and the last sequence stays.
	Sequence uint64

	// Fingerprint says what stream Token belongs to: of which deployment, which
	// namespaces, which filter. Its form is its source's; it is UTF-8.
	Fingerprint string

	// Epoch is the epoch of the lease that the checkpoint was saved under, for
	// information. A store fills it in and pays no heed to what it is given.
	Epoch uint64

	// Extra holds small named JSON documents that are saved in the same write:
	// what must never be newer or older than the token. White space outside
	// their strings is not kept by every store.
	Extra map[string]json.RawMessage
}

// At is the checkpoint of a token alone, for programs that do nothing but keep
// their place. The document is the driver's ChangeStream.ResumeToken() or an
// event's _id; it is copied. The error is [resumetoken.ErrInvalid] for what is
// no resume token.
//
// What the token itself tells (its cluster time, and whether it came from an
// invalidate event) is filled in.
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

// Equal tells whether c and d say the same in every field. White space outside
// the strings of a document in Extra says nothing.
func (c Checkpoint) Equal(d Checkpoint) bool {
	return c.Token == d.Token && c.StartAfter == d.StartAfter && c.ClusterTime == d.ClusterTime &&
		c.SavedAt.Equal(d.SavedAt) && c.Sequence == d.Sequence && c.Fingerprint == d.Fingerprint &&
		c.Epoch == d.Epoch &&
		maps.EqualFunc(c.Extra, d.Extra, sameDoc)
}

// sameDoc compares two documents but for the white space outside their strings.
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

// CheckKey returns nil if key can be the key of a checkpoint: 1 to [MaxKeyLen]
// bytes of UTF-8. Otherwise the error is an [ErrInvalid].
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", ErrInvalid)
	case len(key) > MaxKeyLen:
		return fmt.Errorf("%w: the key has %d bytes, more than %d", ErrInvalid, len(key), MaxKeyLen)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: the key is not UTF-8", ErrInvalid)
	}
	return nil
}
