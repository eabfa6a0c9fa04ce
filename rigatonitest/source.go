package rigatonitest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// ErrEnd is what a stream ends with once all its events have been read, if
// [Log.End] was called.
var ErrEnd = errors.New("rigatonitest: the source has no more events")

// A Source gives the events that a test appends to it. It has one stream, or
// several with a name each; its own methods are those of the first one's [Log].
// It is safe for concurrent use.
//
// It is a source as the real one is: streams open after the checkpoint's token and refuse one that is
// not, or no longer, in the log ([rigatoni.ErrHistoryLost]); Next waits for
// events for a second at most; and the position moves on while nothing happens.
//
// It differs in what "now" is: a stream that is opened there begins with the
// first event that no stream has read yet, not with the next one to be appended. So the events
// that a test gives beforehand are there for the pipeline's first start.
type Source struct {
	*Log
	// Fingerprint is that of the streams; a checkpoint with another is refused
	// (rigatoni.ErrChangedStream). It must not be changed while a stream is open.
	Fingerprint string

	names []string
	logs  map[string]*Log
}

var _ rigatoni.Source = (*Source)(nil)

// NewSource returns a source of one stream, "", with these events.
func NewSource(events ...rigatoni.Event) *Source {
	s := NewStreams("")
	s.Append(events...)
	return s
}

// NewStreams returns a source of streams with these names. It panics without one.
func NewStreams(names ...string) *Source {
	if len(names) == 0 {
		panic("rigatonitest: NewStreams needs a name")
	}
	s := &Source{Fingerprint: "rigatonitest", names: names, logs: make(map[string]*Log, len(names))}
	for _, name := range names {
		s.logs[name] = &Log{changed: make(chan struct{}), clock: bson.Timestamp{T: firstSecond}}
	}
	s.Log = s.logs[names[0]]
	return s
}

// Stream is the log of the stream of that name, nil if there is none.
func (s *Source) Stream(name string) *Log { return s.logs[name] }

// Streams are the names of the streams.
func (s *Source) Streams() []string { return s.names }

// Open opens a stream, as rigatoni.Source says.
func (s *Source) Open(ctx context.Context, name string, at rigatoni.Start) (rigatoni.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := s.logs[name]
	if l == nil {
		return nil, fmt.Errorf("rigatonitest: the source has no stream %q", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starts = append(l.starts, at)
	if len(l.openErrs) > 0 {
		err := l.openErrs[0]
		l.openErrs = l.openErrs[1:]
		return nil, err
	}
	st := &stream{log: l, fingerprint: s.Fingerprint}
	if err := st.seek(at); err != nil {
		return nil, err
	}
	return st, nil
}

// A Log holds the events of one stream, as the server's oplog does.
type Log struct {
	mu        sync.Mutex
	entries   []entry
	forgotten int // of the entries, from the first on
	read      int // so many have been read by some stream
	// clock is the latest time given to an entry or a position. What is
	// appended is not before it, so that no position moves past an event to come.
	clock    bson.Timestamp
	ended    bool
	nextErrs []error
	openErrs []error
	starts   []rigatoni.Start
	changed  chan struct{} // closed and replaced when something changes
}

// An entry is an event and where it stands in the log's time.
type entry struct {
	event rigatoni.Event
	at    bson.Timestamp
}

// Append appends events. Streams that wait for some get them. It panics if one
// has no resume token: then no pipeline could go on after it.
func (l *Log) Append(events ...rigatoni.Event) {
	for _, ev := range events {
		if _, err := ev.Token(); err != nil {
			panic(fmt.Sprintf("rigatonitest: the %s event has no usable _id: %v", ev.OperationType(), err))
		}
	}
	l.change(func() {
		for _, ev := range events {
			if at := ev.ClusterTime(); at.Compare(l.clock) > 0 {
				l.clock = at
			}
			l.entries = append(l.entries, entry{ev, l.clock})
		}
	})
}

// End makes streams end with [ErrEnd] once they have no more events to give: the
// pipeline delivers and saves what it has read, and its Run returns the error.
func (l *Log) End() { l.change(func() { l.ended = true }) }

// Fail makes the next call of Next that has no more events to give fail with err, so
// that the stream has to be opened anew.
func (l *Log) Fail(err error) { l.change(func() { l.nextErrs = append(l.nextErrs, err) }) }

// FailOpen makes the next Open of the stream fail with err.
func (l *Log) FailOpen(err error) { l.change(func() { l.openErrs = append(l.openErrs, err) }) }

// Forget drops the first n events, as an oplog that moves on does. A stream that
// has yet to read one of them ends with rigatoni.ErrHistoryLost, and so
// does the Open of one that has to go on after one of them.
func (l *Log) Forget(n int) {
	l.change(func() { l.forgotten = min(l.forgotten+n, len(l.entries)) })
}

// Starts are the places at which the stream was opened so far, or should have
// been if it failed.
func (l *Log) Starts() []rigatoni.Start {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]rigatoni.Start(nil), l.starts...)
}

func (l *Log) change(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
	close(l.changed)
	l.changed = make(chan struct{})
}
