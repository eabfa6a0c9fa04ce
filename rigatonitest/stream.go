package rigatonitest

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// waitTime is how long Next waits for events.
const waitTime = time.Second

type stream struct {
	log         *Log
	fingerprint string
	next        int // the entry to read next
	position    rigatoni.Position
	closed      bool
	copier      copier
}

// seek sets the position to start at. The log is locked.
func (s *stream) seek(at rigatoni.Start) error {
	switch cp := at.Checkpoint; {
	case cp == nil && at.Time != (bson.Timestamp{}):
		return s.seekTime(at.Time)
	case cp == nil:
		s.next = max(s.log.read, s.log.forgotten)
		s.position = s.between()
		return nil
	case cp.Fingerprint == "" || cp.Fingerprint == s.fingerprint:
		return s.seekToken(cp)
	case at.AcceptChanged == s.fingerprint:
		return s.seekTime(cp.ClusterTime)
	default:
		return &rigatoni.ChangedStreamError{
			Changes: []string{fmt.Sprintf("fingerprint: %s → %s", cp.Fingerprint, s.fingerprint)},
			Accept:  s.fingerprint,
		}
	}
}

// seekTime sets the position before the first event that is at or after a time.
func (s *stream) seekTime(at bson.Timestamp) error {
	l := s.log
	s.next = sort.Search(len(l.entries), func(i int) bool { return l.entries[i].at.Compare(at) >= 0 })
	if s.next < l.forgotten {
		return fmt.Errorf("%w: the events of that time are forgotten", rigatoni.ErrHistoryLost)
	}
	if s.next == len(l.entries) && at.Compare(l.clock) > 0 {
		l.clock = at
	}
	s.position = positionAt(at)
	return nil
}

// seekToken sets the position after the checkpoint's token.
func (s *stream) seekToken(cp *state.Checkpoint) error {
	l := s.log
	s.position = rigatoni.Position{Token: cp.Token, StartAfter: cp.StartAfter, ClusterTime: cp.ClusterTime}
	d, err := cp.Token.Decode()
	if err == nil && d.HighWaterMark {
		err := s.seekTime(d.ClusterTime)
		s.position = rigatoni.Position{Token: cp.Token, ClusterTime: cp.ClusterTime}
		return err
	}
	for i := l.forgotten; i < len(l.entries); i++ {
		pos, err := rigatoni.PositionAfter(l.entries[i].event)
		if err != nil {
			return err
		}
		if pos.Token != cp.Token {
			continue
		}
		if pos.StartAfter && !cp.StartAfter {
			return errors.New("rigatonitest: the checkpoint is that of an invalidate event, and its StartAfter is not set")
		}
		s.next = i + 1
		return nil
	}
	return fmt.Errorf("%w: the checkpoint's token is not in the log", rigatoni.ErrHistoryLost)
}

// between is a position after the last entry, at a time without events. In the middle
// of the log it is the high-water mark of the next entry's time, which is before that
// entry.
func (s *stream) between() rigatoni.Position {
	l := s.log
	if s.next < len(l.entries) {
		return positionAt(l.entries[s.next].at)
	}
	l.clock.I++
	return positionAt(l.clock)
}

func positionAt(at bson.Timestamp) rigatoni.Position {
	t, err := resumetoken.New(highWaterMark(at))
	if err != nil {
		panic(fmt.Sprintf("rigatonitest: a high-water mark that is none: %v", err))
	}
	return rigatoni.Position{Token: t, ClusterTime: at}
}

func (s *stream) Position() rigatoni.Position { return s.position }

func (s *stream) Fingerprint() string { return s.fingerprint }

// Next returns the events that have not been read, or waits for some for a second.
func (s *stream) Next(ctx context.Context) ([]rigatoni.Event, rigatoni.Position, error) {
	timeout := time.NewTimer(waitTime)
	defer timeout.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, s.position, err
		}
		before := s.position
		events, changed, err := s.take()
		if err != nil || len(events) > 0 || s.position != before {
			return events, s.position, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-timeout.C:
			s.log.mu.Lock()
			defer s.log.mu.Unlock()
			if s.next == len(s.log.entries) && !s.position.StartAfter {
				// After an invalidate event a server repeats its token.
				s.position = s.between()
			}
			return nil, s.position, nil
		}
	}
}

// take returns the events that have not been read. If there are none, changed is closed
// when there may be some.
func (s *stream) take() (events []rigatoni.Event, changed <-chan struct{}, err error) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, errors.New("rigatonitest: the stream is closed")
	case s.next < l.forgotten:
		return nil, nil, fmt.Errorf("%w: the events were forgotten before they were read", rigatoni.ErrHistoryLost)
	case s.copier.state != nil:
		events, err = s.copy()
		return events, nil, err
	case s.next < len(l.entries):
		for _, e := range l.entries[s.next:] {
			events = append(events, e.event)
		}
		s.position, err = rigatoni.PositionAfter(events[len(events)-1])
		s.next = len(l.entries)
		l.read = max(l.read, s.next)
		return events, nil, err
	case len(l.nextErrs) > 0:
		err, l.nextErrs = l.nextErrs[0], l.nextErrs[1:]
		return nil, nil, err
	case l.ended:
		return nil, nil, ErrEnd
	}
	return nil, l.changed, nil
}

// Close closes the stream.
func (s *stream) Close(context.Context) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.closed = true
	return nil
}
