package resumetoken

import (
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrOpaque: the token is of a format that only its server reads.
var ErrOpaque = errors.New("resume token of an unknown format")

// ErrMalformed: the token is in MongoDB's own format, and broken.
var ErrMalformed = errors.New("malformed resume token")

// Decoded is what a token says.
type Decoded struct {
	ClusterTime    bson.Timestamp
	FromInvalidate bool
}

// Time is the wall-clock second of ClusterTime.
func (d Decoded) Time() time.Time { return time.Unix(int64(d.ClusterTime.T), 0) }

// Decode reads the token.
func (t Token) Decode() (Decoded, error) { return Decoded{}, ErrOpaque }
