package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Start is where a first start begins.
type Start struct {
	None bool           // nowhere: it is refused
	Time bson.Timestamp // zero for now
}

var errNoTime = errors.New("no time")

// UnmarshalText reads now, none, a time, or a cluster time.
func (s *Start) UnmarshalText(b []byte) (err error) {
	*s = Start{}
	switch text := string(b); text {
	case "now":
	case "none":
		s.None = true
	default:
		s.Time, err = clusterTime(text)
	}
	return err
}

func clusterTime(text string) (bson.Timestamp, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		if sec := t.Unix(); sec > 0 && sec <= math.MaxUint32 {
			return bson.Timestamp{T: uint32(sec)}, nil
		}
		return bson.Timestamp{}, errNoTime
	}
	seconds, increment, _ := strings.Cut(text, ".")
	t, err1 := strconv.ParseUint(seconds, 10, 32)
	i, err2 := strconv.ParseUint(increment, 10, 32)
	if err1 != nil || err2 != nil || t == 0 {
		return bson.Timestamp{}, errNoTime
	}
	return bson.Timestamp{T: uint32(t), I: uint32(i)}, nil
}
