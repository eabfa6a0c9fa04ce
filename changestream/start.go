package changestream

import (
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A place is where to open a stream: at a position, else at a time, else now.
type place struct {
	position rigatoni.Position // if its Token is not zero
	time     bson.Timestamp    // if it is not zero
}

// futureSlack is how far ahead of the server a place may seem to be. Its clock is
// the cluster's, which never lags behind its own tokens; this is for a member
// that does.
const futureSlack = time.Minute

// resolve makes a place of a Start, and refuses one that is of another stream or
// lies in the server's future.
func resolve(at rigatoni.Start, ours fingerprint, now bson.Timestamp) (place, error) {
	cp := at.Checkpoint
	if cp == nil {
		return place{time: at.Time}, checkFuture("the time to start at", at.Time, now)
	}
	if cp.Token.IsZero() {
		return place{}, errors.New("changestream: the checkpoint has no resume token")
	}
	pos := positionOf(*cp)
	changed := compare(cp.Fingerprint, ours.String())
	if changed != nil && at.AcceptChanged != accept(cp.Fingerprint, ours.String()) {
		return place{}, changed
	}
	if err := checkFuture("the checkpoint", pos.ClusterTime, now); err != nil {
		return place{}, err
	}
	if changed == nil {
		return place{position: pos}, nil
	}
	// A token of another stream may be refused, and may be refused only at the
	// first event, hours later. Its time is good for any stream.
	if pos.ClusterTime.IsZero() {
		return place{}, fmt.Errorf("changestream: %w, and has no cluster time to go on from", changed)
	}
	return place{time: pos.ClusterTime}, nil
}

// positionOf fills in what the token itself says.
func positionOf(cp state.Checkpoint) rigatoni.Position {
	pos := rigatoni.Position{Token: cp.Token, StartAfter: cp.StartAfter, ClusterTime: cp.ClusterTime}
	if d, err := cp.Token.Decode(); err == nil {
		pos.StartAfter = pos.StartAfter || d.FromInvalidate
		pos.ClusterTime = d.ClusterTime
	}
	return pos
}

func checkFuture(what string, t, now bson.Timestamp) error {
	if now.IsZero() || time.Duration(int64(t.T)-int64(now.T))*time.Second <= futureSlack {
		return nil
	}
	return fmt.Errorf("changestream: %s is at %s, in the future of the server, whose time is %s; everything until then would be passed over (is it the right server, and has it been restored from a backup?)",
		what, clock(t), clock(now))
}

// clock shows a cluster time to people.
func clock(t bson.Timestamp) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return time.Unix(int64(t.T), 0).UTC().Format(time.RFC3339)
}
