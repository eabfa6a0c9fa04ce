package changestream

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// safePoints finds the times S at which a stream stands between two moments: every
// event up to S is processed, and none after it. What is read at S then belongs exactly
// there, between the events.
//
// The events of a transaction share their time, so that no such time is among them.
type safePoints struct {
	last bson.Timestamp // the time of the last event that was processed
}

// resume continues at a position.
func (p *safePoints) resume(pos rigatoni.Position) {
	if d, err := pos.Token.Decode(); err == nil && !d.HighWaterMark {
		p.processed(d.ClusterTime)
	}
}

// processed notes an event.
func (p *safePoints) processed(t bson.Timestamp) {
	if t.After(p.last) {
		p.last = t
	}
}

// before is the safe point before an event that has not been processed yet: all before
// its time are, if it is the first one of its time.
func (p *safePoints) before(t bson.Timestamp) (s bson.Timestamp, ok bool) {
	return tick(t, -1), t.After(p.last)
}

// quiet is the safe point where the server had no more events: token is what it gave
// with the empty batch.
//
// A high-water mark T says that nothing before T is missing. The next write may get
// exactly T. An event's token comes where the server has read nothing after that event:
// nothing up to its time is missing, since the events of a transaction are read at once.
func (p *safePoints) quiet(token resumetoken.Token) (s bson.Timestamp, ok bool) {
	d, err := token.Decode()
	if err != nil || d.ClusterTime.IsZero() {
		return s, false
	}
	s = d.ClusterTime
	if d.HighWaterMark {
		s = tick(s, -1)
	}
	return s, !s.Before(p.last)
}

// tick is the n-th timestamp after t, or before it.
func tick(t bson.Timestamp, n int64) bson.Timestamp {
	u := uint64(t.T)<<32 | uint64(t.I)
	u += uint64(n)
	return bson.Timestamp{T: uint32(u >> 32), I: uint32(u)}
}
