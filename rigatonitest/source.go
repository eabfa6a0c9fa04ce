package rigatonitest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// ErrEnd is the error of a stream whose events have all been read, after [Log.End].
var ErrEnd = errors.New("rigatonitest: the source has no more events")

// A Source returns the events that a test appends to it. It has one stream, or
// several named ones, each with a [Log]. The methods that Source has in common with
// Log are those of the first stream's. It is safe for concurrent use.
//
// It behaves like the real one: streams open after the checkpoint's token and refuse a
// token that is not, or no longer, in the log ([rigatoni.ErrHistoryLost]); Next waits
// for events for up to a second; and the position advances while the stream is idle.
//
// It differs in what "now" is: a stream that is opened there begins with the first
// event that no stream has read yet, not with the next one to be appended. A pipeline's
// first start therefore delivers the events that a test appended beforehand.
type Source struct {
	// Fingerprint is that of the streams; a checkpoint with another is refused
	// ([rigatoni.ErrChangedStream]). It must not be changed while a stream is open.
	Fingerprint string

	// SnapshotChunk is how many documents a stream returns at once while it copies; 0 is
	// 100. See [Log.Populate].
	SnapshotChunk int

	names []string        // the first one is the stream of Source's own methods
	logs  map[string]*Log // by name
}

var _ rigatoni.Source = (*Source)(nil)

// NewSource returns a source of one stream, "", with these events.
func NewSource(events ...rigatoni.Event) *Source {
	s := NewStreams("")
	s.Append(events...)
	return s
}

// NewStreams returns a source of streams with these names. It panics if there are none.
func NewStreams(names ...string) *Source {
	if len(names) == 0 {
		panic("rigatonitest: NewStreams needs a name")
	}
	s := &Source{Fingerprint: "rigatonitest", names: names, logs: make(map[string]*Log, len(names))}
	for _, name := range names {
		s.logs[name] = &Log{changed: make(chan struct{}), clock: bson.Timestamp{T: firstSecond}}
	}
	return s
}

// Stream returns the log of the stream with that name, or nil if there is none.
func (s *Source) Stream(name string) *Log { return s.logs[name] }

func (s *Source) first() *Log { return s.logs[s.names[0]] }

// Append is [Log.Append] of the first stream.
func (s *Source) Append(events ...rigatoni.Event) { s.first().Append(events...) }

// End is [Log.End] of the first stream.
func (s *Source) End() { s.first().End() }

// Fail is [Log.Fail] of the first stream.
func (s *Source) Fail(err error) { s.first().Fail(err) }

// FailOpen is [Log.FailOpen] of the first stream.
func (s *Source) FailOpen(err error) { s.first().FailOpen(err) }

// Forget is [Log.Forget] of the first stream.
func (s *Source) Forget(n int) { s.first().Forget(n) }

// Starts is [Log.Starts] of the first stream.
func (s *Source) Starts() []rigatoni.Start { return s.first().Starts() }

// Streams returns the names of the streams.
func (s *Source) Streams() []string { return s.names }

// Open opens a stream; see [rigatoni.Source].
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
	if err := st.beginCopy(at, cmp.Or(max(0, s.SnapshotChunk), 100)); err != nil {
		return nil, err
	}
	return st, nil
}

// A Log holds the events of one stream, as the server's oplog does.
type Log struct {
	mu        sync.Mutex
	entries   []entry
	populated []rigatoni.Event // inserts of what exists without an event
	forgotten int              // the number of entries, from the first on, that were forgotten
	read      int              // the number of entries that a stream has read
	// clock is the latest time of an entry or a position. Entries are appended at this
	// time or later, so that no position is after an event yet to come.
	clock    bson.Timestamp
	ended    bool
	nextErrs []error
	openErrs []error
	starts   []rigatoni.Start
	changed  chan struct{} // closed and replaced when something changes
}

// An entry is an event and its time in the log.
type entry struct {
	event rigatoni.Event
	at    bson.Timestamp
}

// Append appends events, which streams that are waiting in Next return. It panics if
// an event has no resume token, since no pipeline could resume after it.
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

// End makes streams fail with [ErrEnd] once all events have been read: the pipeline
// delivers what it has read, saves a checkpoint, and its Run returns the error. The
// first stream to fail stops the pipeline's others, wherever they are.
func (l *Log) End() { l.change(func() { l.ended = true }) }

// Fail makes the next call of Next that has no more events to return fail with err, so
// that the pipeline has to reopen the stream.
func (l *Log) Fail(err error) { l.change(func() { l.nextErrs = append(l.nextErrs, err) }) }

// FailOpen makes the next Open of the stream fail with err.
func (l *Log) FailOpen(err error) { l.change(func() { l.openErrs = append(l.openErrs, err) }) }

// Forget drops the first n events, as the server's oplog drops its oldest entries. A
// stream that has yet to read one of them fails with [rigatoni.ErrHistoryLost], and so
// does the Open of one that would resume after one of them.
func (l *Log) Forget(n int) {
	l.change(func() { l.forgotten = min(l.forgotten+n, len(l.entries)) })
}

// Starts returns the starts that Open was called with so far, also where it failed.
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
