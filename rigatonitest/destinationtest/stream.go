package destinationtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

const namespace = "destinationtest.items"

// A stream is a run of events, and what the pipeline knows of their delivery.
type stream struct {
	t       *trial
	key     string
	start   rigatoni.Event // the stream begins after this one
	events  []rigatoni.Event
	records []Record      // of the events
	sent    []bson.Raw    // copies of the events
	plain   int           // before as many events there is no copy
	copied  int           // up to there the events are of a copy, whose state is in the checkpoint
	sweeps  map[int]sweep // in the place of events

	mu      sync.Mutex
	last    checkpoint // where the destination keeps none
	keeps   bool       // the destination keeps the checkpoint
	epoch   uint64
	current *owner
}

// A checkpoint is what a session of a stream begins with.
type checkpoint struct {
	exists  bool
	saved   json.RawMessage // what Sync returned
	covered int             // events
}

// stream returns a new stream with n events.
func (t *trial) stream(n int) *stream {
	t.streams++
	s := &stream{t: t, key: fmt.Sprint(t.keys, t.streams), start: rigatonitest.Insert("destinationtest.start", bson.D{})}
	s.grow(t.rand, n)
	return s
}

// grow adds n events of a few documents, in an order that a server could send.
func (s *stream) grow(rng *rand.Rand, n int) {
	for range n {
		s.change(rng, []int32{1, 2, 3, 4})
	}
}

// change adds an event of one of some documents.
func (s *stream) change(rng *rand.Rand, ids []int32) {
	r := Record{ID: ids[rng.IntN(len(ids))], N: int32(len(s.records) + 1)}
	exists, deleted := false, false
	for _, before := range s.wanted(len(s.records)) {
		if before.ID == r.ID {
			exists = before.N != 0
			deleted = deleted || before.N == 0 // at most once, so that a delete is one event
		}
	}
	switch {
	case !exists:
		s.add(r, rigatonitest.Insert(namespace, document(r)))
	case rng.IntN(4) == 0 && !deleted:
		r.N = 0
		s.add(r, rigatonitest.Delete(namespace, r.ID))
	default:
		s.add(r, rigatonitest.Replace(namespace, document(r)))
	}
}

func (s *stream) add(r Record, ev rigatoni.Event) {
	s.records, s.events, s.sent = append(s.records, r), append(s.events, ev), append(s.sent, slices.Clone(ev.Raw))
}

// An owner is a process that has, or had, the lease on a stream.
type owner struct {
	s         *stream
	d         rigatoni.Destination
	store     state.Leaser // of a Checkpointer
	fence     state.Fence
	sequence  uint64
	sink      rigatoni.Sink // of the session; nil between two
	from      checkpoint    // of the session
	delivered int
	once      bool // it does not acquire the lease again
}

// take makes a process with a destination of its own the owner. The one before is fenced
// off.
func (s *stream) take(d rigatoni.Destination) (*owner, error) {
	o := &owner{s: s, d: d}
	if c, ok := rigatoni.As[rigatoni.Checkpointer](d); ok {
		store, ok := state.As[state.Leaser](c.Checkpoints())
		if !ok {
			s.t.fatalf("Checkpoints returns %T, which has no leases (state.Leaser)", c.Checkpoints())
		}
		o.store = store
		if err := o.acquire(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	if o.store == nil {
		o.fence = state.Fence{Epoch: s.epoch + 1, Nonce: state.NewNonce()}
	}
	if o.fence.Epoch > s.epoch { // another one may have taken it since
		s.epoch, s.current = o.fence.Epoch, o
	}
	s.mu.Unlock()
	s.t.own(o)
	return o, nil
}

func (s *stream) isCurrent(o *owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == o
}

// own is take of a destination without faults.
func (s *stream) own() *owner {
	o, err := s.take(s.t.destination())
	if err != nil {
		s.t.fatalf("acquiring the lease in the destination's store: %v", err)
	}
	return o
}

func (o *owner) acquire() error {
	var g state.Grant
	err := o.s.t.call("Acquire", func(ctx context.Context) (err error) {
		g, err = o.store.Acquire(ctx, o.s.key, state.LeaseRequest{Owner: "destinationtest", Nonce: state.NewNonce(), TTL: leaseTime, Steal: true})
		return err
	})
	if err != nil {
		return err
	}
	o.fence, o.sequence = g.Fence, g.LastSequence
	o.from = checkpoint{exists: g.LoadErr == nil, covered: o.s.coveredBy(g.Checkpoint, g.LoadErr)}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if !o.s.keeps {
		o.s.keeps = true
	}
	return nil
}

// coveredBy is how many events a checkpoint covers.
func (s *stream) coveredBy(cp state.Checkpoint, err error) int {
	switch {
	case errors.Is(err, state.ErrNotFound):
		return 0
	case err != nil:
		s.t.fatalf("loading the checkpoint from the destination's store: %v", err)
	}
	if n, ok := s.copiedTo(cp); ok {
		return n
	}
	if cp.Token == position(s.start).Token {
		return 0
	}
	i := slices.IndexFunc(s.events, func(ev rigatoni.Event) bool { return position(ev).Token == cp.Token })
	if i < 0 {
		s.t.fatalf("the checkpoint in the destination's store has a token that was never saved")
	}
	return i + 1
}

func position(ev rigatoni.Event) rigatoni.Position {
	token, err := ev.Token()
	if err != nil { // one of Harness.Refused may have none
		return rigatoni.Position{}
	}
	return rigatoni.Position{Token: token, ClusterTime: ev.ClusterTime()}
}

// begin is the checkpoint that the next session begins with.
func (o *owner) begin() checkpoint {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if o.store == nil {
		o.from = o.s.last
	}
	return o.from
}

// opening is what the destination receives of it.
func (o *owner) opening() rigatoni.Opening {
	s := o.s
	o.begin()
	at := rigatoni.Opening{Key: s.key, Fence: o.fence, FirstStart: !o.from.exists, Saved: o.from.saved}
	if o.from.exists {
		at.ClusterTime = s.lastOf(o.from.covered).ClusterTime()
	}
	return at
}

// open begins a session, and saves where the stream begins if that is not known.
func (o *owner) open() error { return o.openAt(o.opening()) }

func (o *owner) openAt(at rigatoni.Opening) error {
	s := o.s
	o.delivered = o.from.covered
	err := s.t.call("Open", func(ctx context.Context) (err error) {
		o.sink, err = o.d.Open(ctx, at)
		return err
	})
	if err != nil {
		o.sink = nil
		return fmt.Errorf("in Open: %w", err)
	}
	if o.sink == nil {
		s.t.fatalf("Open returned neither a sink nor an error")
	}
	if o.from.exists {
		return nil
	}
	if o.store != nil {
		cp := o.checkpointAt(0)
		if err := s.t.call("SaveFenced", func(ctx context.Context) error { return o.store.SaveFenced(ctx, s.key, o.fence, cp) }); err != nil {
			return fmt.Errorf("saving where the stream begins: %w", err)
		}
		o.sequence = cp.Sequence
	}
	o.from.exists = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last.exists = s.last.exists || s.current == o
	return nil
}

func (o *owner) checkpoint(last rigatoni.Event) state.Checkpoint {
	return o.checkpointAt(1 + slices.IndexFunc(o.s.events, func(ev rigatoni.Event) bool { return bytes.Equal(ev.Raw, last.Raw) }))
}

// checkpointAt is the checkpoint after the first n events.
func (o *owner) checkpointAt(n int) state.Checkpoint {
	at := position(o.s.lastOf(n))
	cp := state.Checkpoint{Token: at.Token, ClusterTime: at.ClusterTime, Sequence: o.sequence + 1, Fingerprint: "destinationtest"}
	if n >= o.s.plain && n < o.s.copied {
		cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(fmt.Sprintf(`{"events":%d}`, n))}
	}
	return cp
}

// lastOf is the last of the first n events.
func (s *stream) lastOf(n int) rigatoni.Event {
	for ; n > 0; n-- {
		if _, ok := s.sweeps[n-1]; !ok {
			return s.events[n-1]
		}
	}
	return s.start
}

func (o *owner) tx() rigatoni.Transactional {
	tx, _ := rigatoni.As[rigatoni.Transactional](o.sink)
	return tx
}

func (o *owner) batch(n int) *rigatoni.Batch {
	events := slices.Clone(o.s.events[o.delivered : o.delivered+n])
	b := &rigatoni.Batch{Events: events, End: position(events[n-1])}
	for _, ev := range events {
		b.Bytes += len(ev.Raw)
	}
	return b
}

// deliver makes one attempt to deliver the next n events, or those before a sweep, or to
// sweep.
func (o *owner) deliver(n int) error {
	for i := range n {
		if end, ok := o.s.sweeps[o.delivered+i]; ok && i == 0 {
			return o.sweep(end)
		} else if ok {
			n = i
			break
		}
	}
	b := o.batch(n)
	if tx := o.tx(); tx != nil {
		return o.deliverAt(tx, b, o.checkpoint(b.Events[n-1]))
	}
	err := o.s.t.call("Deliver", func(ctx context.Context) error { return o.sink.Deliver(ctx, b) })
	o.checkBatch(b)
	var p *rigatoni.PartialError
	switch {
	case err == nil:
		o.delivered += n
	case errors.As(err, &p) && (p.Delivered < 0 || p.Delivered >= n):
		o.s.t.errorf("Deliver of %d events failed after %d of them: the next one is not in the batch (%v)", n, p.Delivered, err)
	case p != nil:
		o.delivered += p.Delivered
	}
	return err
}

func (o *owner) deliverAt(tx rigatoni.Transactional, b *rigatoni.Batch, cp state.Checkpoint) error {
	err := o.s.t.call("DeliverAt", func(ctx context.Context) error { return tx.DeliverAt(ctx, b, o.fence, cp) })
	o.checkBatch(b)
	if err == nil {
		o.sequence = cp.Sequence
		o.delivered += len(b.Events)
		o.from.covered = o.delivered
		return nil
	}
	if p := (*rigatoni.PartialError)(nil); errors.As(err, &p) && p.Delivered > 0 {
		o.s.t.errorf("DeliverAt says that %d events of a transaction are delivered: there are no parts of a transaction", p.Delivered)
	}
	return err
}

// checkBatch finds a sink that has changed its batch.
func (o *owner) checkBatch(b *rigatoni.Batch) {
	for i, ev := range b.Events {
		if !bytes.Equal(ev.Raw, o.s.sent[o.delivered+i]) {
			o.s.t.errorf("event %d of the batch was changed by the sink", i)
		}
	}
}

var errFenced = errors.New("fenced off, and nothing was saved")

// save does what the pipeline does to save a checkpoint. Where the destination keeps it,
// that is done already.
func (o *owner) save() error {
	var doc json.RawMessage
	if y, ok := rigatoni.As[rigatoni.Syncer](o.sink); ok {
		err := o.s.t.call("Sync", func(ctx context.Context) (err error) {
			doc, err = y.Sync(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("in Sync: %w", err)
		}
		if doc != nil && !json.Valid(doc) {
			o.s.t.errorf("Sync returned %q, which is not JSON and can't be saved", doc)
		}
	}
	return o.commit(slices.Clone(doc))
}

// commit saves the checkpoint, and tells the sink.
func (o *owner) commit(doc json.RawMessage) error {
	if o.tx() != nil {
		return nil
	}
	if !o.s.put(o, doc) {
		return errFenced
	}
	c, ok := rigatoni.As[rigatoni.Committer](o.sink)
	if !ok {
		return nil
	}
	if err := o.s.t.call("Committed", func(ctx context.Context) error { return c.Committed(ctx, doc) }); err != nil {
		return fmt.Errorf("in Committed: %w", err)
	}
	return nil
}

// put saves a checkpoint, unless the owner is fenced off.
func (s *stream) put(o *owner, doc json.RawMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != o {
		return false
	}
	s.last = checkpoint{true, doc, o.delivered}
	return true
}

// closeSink ends the session.
func (o *owner) closeSink() error {
	if o.sink == nil {
		return nil
	}
	c, ok := rigatoni.As[interface{ Close() error }](o.sink)
	o.sink = nil
	if !ok {
		return nil
	}
	return o.s.t.call("Close", func(context.Context) error { return c.Close() })
}

// abandon ends the session as a process that is killed does.
func (o *owner) abandon() { o.sink = nil }
