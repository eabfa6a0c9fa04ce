package changestream

import (
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A startPoint is where to open a stream: at a position, else at a time, else now.
type startPoint struct {
	position rigatoni.Position // if its Token is not zero
	time     bson.Timestamp    // if it is not zero
}

// futureSlack is how far ahead of the cluster's time a start time may be: somebody
// has read it off another clock.
const futureSlack = time.Minute

// isAfter reports whether a position's time is after the cluster's. The server gives a
// stream that begins now the tick after its time.
func isAfter(t, now bson.Timestamp) bool {
	now.I++
	return !now.IsZero() && now.T > 0 && t.After(now)
}

// resolve returns the start point that a Start asks for, and refuses one that is
// of another stream or in the server's future.
func resolve(at rigatoni.Start, ours fingerprint, now bson.Timestamp) (startPoint, error) {
	cp := at.Checkpoint
	if cp == nil {
		late := at.Time.T > now.T && time.Duration(at.Time.T-now.T)*time.Second > futureSlack
		return startPoint{time: at.Time}, checkFuture("the start time", late, at.Time, now, ErrFuture, state.ErrInvalid)
	}
	if cp.Token.IsZero() {
		return startPoint{}, errors.New("changestream: the checkpoint has no resume token")
	}
	pos := positionOf(*cp)
	changed := ours.compare(cp.Fingerprint)
	if changed != nil && at.AcceptChanged != accept(cp.Fingerprint, ours.String()) {
		return startPoint{}, changed
	}
	if err := checkFuture("the checkpoint", isAfter(pos.ClusterTime, now), pos.ClusterTime, now, ErrFuture); err != nil {
		return startPoint{}, err
	}
	if changed == nil {
		return startPoint{position: pos}, nil
	}
	// The server may refuse a token of another stream, and may do so only at the
	// first event, hours later. Its time is good for any stream.
	if pos.ClusterTime.IsZero() {
		return startPoint{}, fmt.Errorf("changestream: %w, and has no cluster time to resume from", changed)
	}
	return startPoint{time: pos.ClusterTime}, nil
}

// positionOf is a checkpoint's position, with what the token itself says.
func positionOf(cp state.Checkpoint) rigatoni.Position {
	pos := rigatoni.Position{Token: cp.Token, StartAfter: cp.StartAfter, ClusterTime: cp.ClusterTime}
	if d, err := cp.Token.Decode(); err == nil {
		pos.StartAfter = pos.StartAfter || d.FromInvalidate
		pos.ClusterTime = d.ClusterTime
	}
	return pos
}

func checkFuture(what string, late bool, t, now bson.Timestamp, causes ...error) error {
	if now.IsZero() || !late {
		return nil
	}
	return &streamError{
		text: fmt.Sprintf("%s is %s, %v, whose time is %s; all events until then would be skipped (is it the right server, and was it restored from a backup?)",
			what, clock(t), ErrFuture, clock(now)),
		causes: causes,
	}
}

// clock formats a cluster time for people.
func clock(t bson.Timestamp) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return time.Unix(int64(t.T), 0).UTC().Format(time.RFC3339)
}
