package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// The pipeline's own tests need a source that does exactly what a test says, call
// by call; package rigatonitest's, for users, behaves like a server.

const testFingerprint = "test stream"

// event is the n-th event of the fake stream.
func event(n int) Event {
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: fmt.Sprintf("opaque-%08d", n)}}},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: 1000, I: uint32(n)}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: n}}},
	})
	if err != nil {
		panic(err)
	}
	return Event{Raw: raw}
}

func events(from, to int) []Event {
	var evs []Event
	for n := from; n <= to; n++ {
		evs = append(evs, event(n))
	}
	return evs
}

func number(ev Event) int { return int(ev.ClusterTime().I) }

// at is the position after the n-th event.
func at(n int) Position {
	pos, err := PositionAfter(event(n))
	if err != nil {
		panic(err)
	}
	return pos
}

// between is a position after the n-th event and before the next, as a server
// gives it with an empty batch.
func between(n int) Position {
	doc, _ := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("opaque-%08d-idle", n)}})
	tok, err := resumetoken.New(doc)
	if err != nil {
		panic(err)
	}
	return Position{Token: tok}
}

// fakeSource returns all chunks after the position that it is opened at. Chunks are
// added with add, before or while it runs.
type fakeSource struct {
	mu     sync.Mutex
	chunks []chunk
	more   chan struct{} // closed and replaced when something is added
	names  []string

	openErrs []error // of the next Opens
	opens    []Start
	read     int // chunks handed out, by all streams together
	print    string
	origin   Position
}

func newFakeSource(chunks ...chunk) *fakeSource {
	return &fakeSource{chunks: chunks, more: make(chan struct{}), names: []string{""}, print: testFingerprint, origin: between(0)}
}

// batch is a chunk of the events from and to.
func batch(from, to int) chunk { return chunk{events: events(from, to), end: at(to)} }

func idle(n int) chunk { return chunk{end: between(n)} }

func (s *fakeSource) add(chunks ...chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks = append(s.chunks, chunks...)
	close(s.more)
	s.more = make(chan struct{})
}

func (s *fakeSource) Streams() []string { return s.names }

func (s *fakeSource) Open(ctx context.Context, _ string, start Start) (Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens = append(s.opens, start)
	if len(s.openErrs) > 0 {
		err := s.openErrs[0]
		s.openErrs = s.openErrs[1:]
		if err != nil {
			return nil, err
		}
	}
	st := &fakeStream{s: s, pos: s.origin}
	if start.Checkpoint == nil {
		return st, nil
	}
	st.pos = Position{Token: start.Checkpoint.Token, ClusterTime: start.Checkpoint.ClusterTime}
	if st.pos.Token == s.origin.Token {
		return st, nil
	}
	// Resume after the chunk, or in the middle of the chunk, that has the position.
	for i, c := range s.chunks {
		if c.end.Token == st.pos.Token {
			st.next = i + 1
			return st, nil
		}
		for j, ev := range c.events {
			if tok, _ := ev.Token(); tok == st.pos.Token {
				st.next, st.skip = i, j+1
				return st, nil
			}
		}
	}
	return nil, ErrHistoryLost
}

func (s *fakeSource) handedOut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

type fakeStream struct {
	s    *fakeSource
	pos  Position
	next int // of s.chunks
	skip int // events of it
}

func (st *fakeStream) Position() Position  { return st.pos }
func (st *fakeStream) Fingerprint() string { return st.s.print }

func (st *fakeStream) Next(ctx context.Context) ([]Event, Position, error) {
	for {
		st.s.mu.Lock()
		more := st.s.more
		if st.next < len(st.s.chunks) {
			c := st.s.chunks[st.next]
			evs := c.events[st.skip:]
			st.next, st.skip = st.next+1, 0
			st.s.read++
			st.s.mu.Unlock()
			return evs, c.end, c.err
		}
		st.s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return nil, st.pos, ctx.Err()
		}
	}
}

func (st *fakeStream) Skip(*UnreadableError) error { return nil }

func (st *fakeStream) Close(context.Context) error { return nil }

// sink records what is delivered, and fails on demand.
type sink struct {
	mu      sync.Mutex
	got     []int
	batches [][]int
	deliver func(ctx context.Context, b *Batch) error // before it is recorded
	syncErr func() error
	synced  int // events synced
	opened  []Opening
	changed chan struct{}
}

func newSink() *sink { return &sink{changed: make(chan struct{})} }

func (s *sink) Open(_ context.Context, o Opening) (Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, o)
	return s, nil
}

func (s *sink) Deliver(ctx context.Context, b *Batch) error {
	if s.deliver != nil {
		err := s.deliver(ctx, b)
		var p *PartialError
		if errors.As(err, &p) {
			s.record(b.Events[:p.Delivered])
		}
		if err != nil {
			return err
		}
	}
	s.record(b.Events)
	return nil
}

func (s *sink) record(evs []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ns []int
	for _, ev := range evs {
		ns = append(ns, number(ev))
	}
	s.got = append(s.got, ns...)
	s.batches = append(s.batches, ns)
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until n events have been delivered in all.
func (s *sink) wait(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(time.Hour) // of a bubble's time
	for {
		s.mu.Lock()
		have, changed := len(s.got), s.changed
		s.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d events delivered, want %d", have, n)
		}
	}
}

func (s *sink) delivered() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// syncSink is a sink whose deliveries are durable only after Sync.
type syncSink struct{ *sink }

func (s syncSink) Open(ctx context.Context, o Opening) (Sink, error) {
	_, err := s.sink.Open(ctx, o)
	return s, err
}

func (s syncSink) Sync(context.Context) (json.RawMessage, error) {
	if s.syncErr != nil {
		if err := s.syncErr(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = len(s.got)
	return json.RawMessage(strconv.Itoa(s.synced)), nil
}

// rig is a pipeline in a test.
type rig struct {
	t     *testing.T
	cfg   Config
	src   *fakeSource
	sink  *sink
	store *memstore.Store
	p     *Pipeline
	stop  context.CancelFunc
	ended chan error
}

func newRig(t *testing.T, src *fakeSource) *rig {
	r := &rig{t: t, src: src, sink: newSink(), store: memstore.New()}
	r.cfg = Config{
		Name: "shop", Source: src, Destination: r.sink, Store: r.store,
		Logger: slog.New(slog.DiscardHandler),
	}
	return r
}

func (r *rig) start() {
	r.t.Helper()
	p, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(r.t.Context())
	r.p, r.stop, r.ended = p, stop, make(chan error, 1)
	go func() { r.ended <- p.Run(ctx) }()
}

// end stops the pipeline cleanly and returns what Run returned.
func (r *rig) end() error {
	r.stop()
	return <-r.ended
}

// saved is the checkpoint as another reader sees it.
func (r *rig) saved() state.Checkpoint {
	r.t.Helper()
	cp, err := r.store.Load(r.t.Context(), "shop")
	if err != nil {
		r.t.Fatal(err)
	}
	return cp
}

func (r *rig) wantSaved(pos Position) {
	r.t.Helper()
	if cp := r.saved(); cp.Token != pos.Token {
		r.t.Fatalf("the checkpoint is at %s, want %s", tokenName(cp.Token), tokenName(pos.Token))
	}
}

func tokenName(t resumetoken.Token) string { return t.Raw().Lookup("_data").StringValue() }

func wantNumbers(t *testing.T, got []int, from, to int) {
	t.Helper()
	var want []int
	for n := from; n <= to; n++ {
		want = append(want, n)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("delivered %v, want %d to %d in order", got, from, to)
	}
}
