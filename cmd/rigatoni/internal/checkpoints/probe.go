package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Verdict is the server's answer to a start at a checkpoint.
type Verdict struct {
	Opens  bool   `json:"opens"`
	Answer string `json:"answer"`

	err error
}

// verdict makes one of what Try returned.
func verdict(err error) *Verdict {
	switch {
	case errors.Is(err, errUnconfirmed):
		return &Verdict{Opens: true, Answer: "the stream opens there; " + config.Words(err.Error())}
	case err != nil:
		return &Verdict{Answer: config.Words(err.Error()), err: err}
	}
	return &Verdict{Opens: true, Answer: "the stream opens there"}
}

// errUnconfirmed: the server opens the stream, and more could not be found out.
var errUnconfirmed = errors.New("whether the event of its token is in the stream could not be found out in time")

// probeTime bounds the search for the event of a token. It is at the very beginning
// of what is read.
const probeTime = 20 * time.Second

// Try opens the stream after a checkpoint, as a pipeline would, and delivers
// nothing. A server finds out that it does not have the event of a token only when
// it sees a later one, so that on a quiet stream any token seems good: Try looks
// for the event itself.
func (s Stream) Try(ctx context.Context, cp state.Checkpoint) error {
	cp = withoutSnapshot(cp)
	st, err := s.source.Open(ctx, s.name, rigatoni.Start{Checkpoint: &cp})
	if err != nil {
		return err
	}
	defer closeStream(ctx, st)
	if _, _, err := st.Next(ctx); err != nil {
		return err
	}
	d, err := cp.Token.Decode()
	if err != nil || d.HighWaterMark || d.Format < resumetoken.FormatV1 {
		return nil // the older formats don't say whether they are of an event
	}
	return s.find(ctx, cp.Token, d)
}

// find looks for the event of a token.
func (s Stream) find(ctx context.Context, token resumetoken.Token, d resumetoken.Decoded) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	found, passed := false, false
	err := s.read(ctx, rigatoni.Start{Time: d.ClusterTime}, func(evs []rigatoni.Event, at rigatoni.Position) bool {
		for _, ev := range evs {
			t, err := ev.Token()
			found = found || err == nil && same(token, d, t)
		}
		passed = at.ClusterTime.After(d.ClusterTime)
		return !found && !passed
	})
	switch {
	case found:
		return nil
	case passed:
		return fmt.Errorf("%w: the stream has no event with this token at %s; it is of another stream or another deployment", rigatoni.ErrHistoryLost, clock(d.ClusterTime))
	case errors.Is(err, rigatoni.ErrHistoryLost):
		return err
	}
	return errUnconfirmed
}

// same reports whether t is the token with the contents d. A server writes another
// format after an upgrade.
func same(token resumetoken.Token, d resumetoken.Decoded, t resumetoken.Token) bool {
	if t == token {
		return true
	}
	e, err := t.Decode()
	if err != nil {
		return false
	}
	if e.Format == d.Format {
		order, ok := resumetoken.Compare(token, t)
		return ok && order == 0
	}
	return e.ClusterTime == d.ClusterTime && e.TxnOpIndex == d.TxnOpIndex && e.UUID == d.UUID && e.FromInvalidate == d.FromInvalidate
}

// read reads the stream from a start until do returns false or ctx ends. do gets
// what each reply has, and the position after it.
func (s Stream) read(ctx context.Context, from rigatoni.Start, do func([]rigatoni.Event, rigatoni.Position) bool) error {
	st, err := s.source.Open(ctx, s.name, from)
	if err != nil {
		return err
	}
	defer closeStream(ctx, st)
	for {
		evs, at, err := st.Next(ctx)
		if err != nil {
			return err
		}
		if !do(evs, at) {
			return nil
		}
	}
}

// At is the position at which the stream begins with the events of a time, or with
// what is written from now on if t is zero. The server has them all.
func (s Stream) At(ctx context.Context, t bson.Timestamp) (rigatoni.Position, error) {
	st, err := s.source.Open(ctx, s.name, rigatoni.Start{Time: t})
	if err != nil {
		return rigatoni.Position{}, err
	}
	defer closeStream(ctx, st)
	return st.Position(), nil
}

func closeStream(ctx context.Context, st rigatoni.Stream) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = st.Close(ctx) // the server frees it by itself
}

// How long Count counts.
const (
	countTime = 10 * time.Second
	countMost = 1_000_000
)

// A Count is how many events are between two positions.
type Count struct {
	Events  int64
	AtLeast bool // there are more
}

// Count counts the events after one checkpoint and up to another position.
func (s Stream) Count(ctx context.Context, after state.Checkpoint, to rigatoni.Position) (Count, error) {
	within, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	after = withoutSnapshot(after)
	var c Count
	complete, quiet := false, 0
	err := s.read(within, rigatoni.Start{Checkpoint: &after}, func(evs []rigatoni.Event, at rigatoni.Position) bool {
		for _, ev := range evs {
			pos, err := rigatoni.PositionAfter(ev)
			if err != nil || compare(pos, to) > 0 {
				complete = err == nil
				return false
			}
			c.Events++
		}
		if quiet++; len(evs) > 0 {
			quiet = 0
		}
		complete = compare(at, to) >= 0 || quiet > 1 && reaches(at, to)
		return !complete && c.Events < countMost
	})
	c.AtLeast = !complete
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = nil // as far as it got
	}
	return c, err
}

// reaches reports whether a stream that has nothing more at a position has seen all
// before another: "now" is the tick after the last write, and a stream passes it only
// with the next one.
func reaches(at, to rigatoni.Position) bool {
	next := at.ClusterTime
	next.I++
	d, err := to.Token.Decode()
	return err == nil && d.HighWaterMark && !next.Before(to.ClusterTime)
}

// compare is the order of two positions of a stream: by their tokens or, where
// those can't be compared, by their times.
func compare(a, b rigatoni.Position) int {
	if order, ok := resumetoken.Compare(a.Token, b.Token); ok {
		return order
	}
	return a.ClusterTime.Compare(b.ClusterTime)
}

// clock is a cluster time for people.
func clock(t bson.Timestamp) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return time.Unix(int64(t.T), 0).UTC().Format(time.RFC3339)
}
