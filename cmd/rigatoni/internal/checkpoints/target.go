package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Target is where a checkpoint is to be set: exactly one field is set.
type Target struct {
	Time   bson.Timestamp
	Now    bool
	Oldest bool
	By     time.Duration
	Token  *state.Checkpoint // with what is known beside its token
}

// TokenTarget is the target of a token alone.
func TokenTarget(t resumetoken.Token) Target {
	return Target{Token: &state.Checkpoint{Token: t}}
}

// ErrRefused: the position can't be set, for a reason that is no failure.
var ErrRefused = errors.New("refused")

// checkpoint finds the position on the server, which has all events after it.
func (t Target) checkpoint(ctx context.Context, s Stream, server *Server, b before) (state.Checkpoint, error) {
	if t.Token != nil {
		return t.token(ctx, s, server)
	}
	at := t.Time
	switch {
	case t.Oldest:
		return t.oldest(ctx, s, server)
	case t.By != 0:
		var err error
		if at, err = moved(b, t.By); err != nil {
			return state.Checkpoint{}, err
		}
	}
	if now := server.Now(); at.After(now) && !now.IsZero() {
		return state.Checkpoint{}, fmt.Errorf("%w: %s is in the future of the server, whose time is %s; all events until then would be skipped", ErrRefused, clock(at), clock(now))
	}
	return atTime(ctx, s, server, at)
}

// atTime is the checkpoint of a time, or of now.
func atTime(ctx context.Context, s Stream, server *Server, t bson.Timestamp) (state.Checkpoint, error) {
	pos, err := s.At(ctx, t)
	if errors.Is(err, rigatoni.ErrHistoryLost) {
		reach := ""
		if oldest := server.history.Oldest; !oldest.IsZero() {
			reach = fmt.Sprintf("; its oldest event is of %s (%s), which is --to-oldest", clock(oldest), text(oldest))
		}
		return state.Checkpoint{}, fmt.Errorf("the server no longer has the events of %s%s: %w", clock(t), reach, err)
	}
	return state.Checkpoint{Token: pos.Token, StartAfter: pos.StartAfter, ClusterTime: pos.ClusterTime}, err
}

// oldest is the checkpoint of the server's oldest event. While the server discards
// events, the oldest may be gone when it is asked for.
func (t Target) oldest(ctx context.Context, s Stream, server *Server) (state.Checkpoint, error) {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		h, err := s.source.History(ctx)
		if err != nil {
			return state.Checkpoint{}, fmt.Errorf("the time of the server's oldest event is unknown: %w", err)
		}
		server.history = h
		cp, err := atTime(ctx, s, server, h.Oldest)
		if err == nil || attempt == attempts || !errors.Is(err, rigatoni.ErrHistoryLost) {
			return cp, err
		}
	}
}

// moved is the old position's time and a duration.
func moved(b before, by time.Duration) (bson.Timestamp, error) {
	old := PositionOf(b.cp).ClusterTime
	if old.IsZero() {
		return bson.Timestamp{}, fmt.Errorf("%w: --by is relative to the checkpoint's time, and there is none; use --to-time", ErrRefused)
	}
	sec := int64(old.T) + int64(by/time.Second)
	if sec <= 0 || sec > 1<<32-1 {
		return bson.Timestamp{}, fmt.Errorf("%w: %v from %s is no time", ErrRefused, by, clock(old))
	}
	return bson.Timestamp{T: uint32(sec)}, nil
}

// token is the checkpoint of a token, if the server can resume from it.
func (t Target) token(ctx context.Context, s Stream, server *Server) (state.Checkpoint, error) {
	cp := t.Token.Clone()
	pos := PositionOf(cp)
	cp.StartAfter, cp.ClusterTime = pos.StartAfter, pos.ClusterTime
	if now := server.Now(); pos.ClusterTime.After(now) && !now.IsZero() {
		return cp, fmt.Errorf("%w: the token is of %s, in the future of the server, whose time is %s: it is of another deployment, or of this one before a backup was restored", ErrRefused, clock(pos.ClusterTime), clock(now))
	}
	try := cp
	try.Fingerprint = "" // what differs is said beside
	err := s.Try(ctx, try)
	if errors.Is(err, rigatoni.ErrHistoryLost) && !pos.ClusterTime.IsZero() {
		err = fmt.Errorf("%w. Its time may be good all the same: --to-time %s redelivers the events of that moment", err, text(pos.ClusterTime))
	}
	return cp, err
}
