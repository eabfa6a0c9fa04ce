package rigatoni_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A snapRig is a pipeline that copies the collections of a source.
type snapRig struct {
	t      *testing.T
	source *rigatonitest.Source
	dest   *snapSink
	store  *memstore.Store
	cfg    rigatoni.Config
	log    lockedBuffer

	p     *rigatoni.Pipeline
	stop  context.CancelFunc
	ended chan error
}

// newSnapRig makes a rig whose source has n documents in shop.orders, with the _ids 1 to n.
func newSnapRig(t *testing.T, n int) *snapRig {
	r := &snapRig{t: t, source: rigatonitest.NewSource(), dest: &snapSink{}, store: memstore.New()}
	for i := range n {
		r.source.Populate("shop.orders", doc(i+1, 0))
	}
	r.source.SnapshotChunk = 2
	r.cfg = rigatoni.Config{
		Name: "shop", Source: r.source, Destination: r.dest, Store: lasting{r.store}, Snapshot: "initial",
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	return r
}

// lasting is a store that says that it keeps what it has.
type lasting struct{ *memstore.Store }

func (lasting) Volatile() bool { return false }

func doc(id, n int) bson.D { return bson.D{{Key: "_id", Value: id}, {Key: "n", Value: n}} }

func (r *snapRig) start() {
	r.t.Helper()
	p, err := rigatoni.New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(r.t.Context())
	r.p, r.stop, r.ended = p, stop, make(chan error, 1)
	go func() { r.ended <- p.Run(ctx) }()
}

// run runs the pipeline for a minute and returns what Run returned.
func (r *snapRig) run() error { return r.runFor(time.Minute) }

func (r *snapRig) runFor(d time.Duration) error {
	r.t.Helper()
	r.start()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(d):
	}
	r.stop()
	return <-r.ended
}

func (r *snapRig) mustRun() {
	r.t.Helper()
	if err := r.run(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *snapRig) saved() state.Checkpoint {
	r.t.Helper()
	cp, err := r.cfg.Store.Load(r.t.Context(), "shop")
	if err != nil {
		r.t.Fatal(err)
	}
	return cp
}

// wantNoCopy fails the test if the checkpoint has a copy.
func (r *snapRig) wantNoCopy() {
	r.t.Helper()
	if doc, ok := r.saved().Extra[rigatoni.ExtraSnapshot]; ok {
		r.t.Errorf("the checkpoint still has a snapshot: %s", doc)
	}
}

func (r *snapRig) wantDelivered(want ...string) {
	r.t.Helper()
	if got := r.dest.delivered(); !slices.Equal(got, want) {
		r.t.Errorf("delivered:\n%q, want\n%q", got, want)
	}
}

func (r *snapRig) wantLog(n int, parts ...string) {
	r.t.Helper()
	if got := r.log.count(parts...); got != n {
		r.t.Errorf("%d log lines have %q, want %d:\n%s", got, parts, n, r.log.String())
	}
}

func (r *snapRig) gaps() []rigatoni.Gap {
	r.t.Helper()
	gaps, err := rigatoni.Gaps(r.saved())
	if err != nil {
		r.t.Fatal(err)
	}
	return gaps
}

// lose saves a checkpoint that the source can't resume from, with this state of a copy.
func (r *snapRig) lose(snapshot string) {
	r.t.Helper()
	pos, err := rigatoni.PositionAfter(rigatonitest.Insert("shop.gone", doc(1, 1)))
	if err != nil {
		r.t.Fatal(err)
	}
	cp := state.Checkpoint{Token: pos.Token, ClusterTime: pos.ClusterTime, Fingerprint: r.source.Fingerprint}
	if snapshot != "" {
		cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(snapshot)}
	}
	if err := r.store.Save(r.t.Context(), "shop", cp); err != nil {
		r.t.Fatal(err)
	}
}

// A snapSink notes each event as "read 1:0", its operation, _id and n.
type snapSink struct {
	deliver func(ctx context.Context, b *rigatoni.Batch) error // before they are noted

	mu     sync.Mutex
	got    []string
	events []rigatoni.Event
	opened []rigatoni.Opening
}

func (s *snapSink) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, o)
	return s, nil
}

func (s *snapSink) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	if s.deliver != nil {
		if err := s.deliver(ctx, b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range b.Events {
		s.got, s.events = append(s.got, eventText(ev)), append(s.events, ev)
	}
	return nil
}

func (s *snapSink) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, text)
}

func (s *snapSink) delivered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// clear forgets what was delivered.
func (s *snapSink) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got, s.events = nil, nil
}

func eventText(ev rigatoni.Event) string {
	id := ev.DocumentKey().Lookup("_id")
	n, _ := ev.FullDocument().Lookup("n").AsInt64OK()
	i, _ := id.AsInt64OK()
	switch {
	case ev.DocumentKey() == nil:
		return ev.OperationType()
	case ev.FullDocument() == nil:
		return fmt.Sprintf("%s %d", ev.OperationType(), i)
	}
	return fmt.Sprintf("%s %d:%d", ev.OperationType(), i, n)
}

// A sweepingSink is a snapSink that is a Sweeper.
type sweepingSink struct {
	*snapSink
	sweep func(ctx context.Context, end rigatoni.SnapshotEnd) error
}

func (s sweepingSink) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	_, err := s.snapSink.Open(ctx, o)
	return s, err
}

func (s sweepingSink) Sweep(ctx context.Context, end rigatoni.SnapshotEnd) error {
	if s.sweep != nil {
		if err := s.sweep(ctx, end); err != nil {
			return err
		}
	}
	s.note("sweep " + end.Namespace.String())
	return nil
}

// A lockedBuffer keeps log lines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// count is how many lines have all of the parts.
func (b *lockedBuffer) count(parts ...string) (n int) {
	for line := range strings.Lines(b.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}
