package rigatonitest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A Database is a destination in memory with transactions: it keeps the events
// that are delivered to it and, in the same transaction, the checkpoint. It is a
// [rigatoni.Checkpointer], and its sink is [rigatoni.Transactional], so a
// pipeline into it applies each event exactly once. It is a [rigatoni.Sweeper] too: see
// [Database.Documents]. What it holds outlasts the pipelines that use it.
//
// A Database used as it is never fails. [Database.Client] gives access to it that
// does.
type Database struct {
	// transaction is held from the first read of a transaction to its end. It is
	// a channel because a synctest bubble's time stands still while somebody
	// waits for a mutex, and a transaction may take long.
	transaction chan struct{}

	mu      sync.Mutex // of what is committed
	records map[string]record.Record
	rows    []row
	grown   chan struct{} // closed and replaced when there are more rows
}

// A row is an event and the key of the checkpoint that it came with, or a sweep.
type row struct {
	key   string
	event rigatoni.Event
	sweep *rigatoni.SnapshotEnd
}

// NewDatabase returns an empty database.
func NewDatabase() *Database {
	return &Database{
		transaction: make(chan struct{}, 1), records: make(map[string]record.Record), grown: make(chan struct{}),
	}
}

// Open opens the database for a session, as [Client.Open] does.
func (d *Database) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return d.Client(nil).Open(ctx, o)
}

// Checkpoints is the store of the checkpoints. It has leases.
func (d *Database) Checkpoints() state.Store { return d.Client(nil).Checkpoints() }

// Events are the events of all committed transactions, in the order in which they
// were applied.
func (d *Database) Events() []rigatoni.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.eventsOf(func(row) bool { return true })
}

// eventsOf are the events of some rows. mu is held.
func (d *Database) eventsOf(which func(row) bool) (events []rigatoni.Event) {
	for _, r := range d.rows {
		if r.sweep == nil && which(r) {
			events = append(events, r.event)
		}
	}
	return events
}

// EventsOf are those of them that came with the checkpoint of one key.
func (d *Database) EventsOf(key string) []rigatoni.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.eventsOf(func(r row) bool { return r.key == key })
}

// Wait waits until n events are committed, and returns all that are, or the error
// of ctx.
func (d *Database) Wait(ctx context.Context, n int) ([]rigatoni.Event, error) {
	for {
		d.mu.Lock()
		events, grown := d.eventsOf(func(row) bool { return true }), d.grown
		d.mu.Unlock()
		if len(events) >= n {
			return events, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin waits until no other transaction runs. The transaction that has begun
// reads with read, ends with a commit or without one, and calls end.
func (d *Database) begin() (end func()) {
	d.transaction <- struct{}{}
	return func() { <-d.transaction }
}

func (d *Database) read(key string) record.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.records[key]
}

// commit makes the record and the rows visible, both at once.
func (d *Database) commit(key string, rec record.Record, rows []row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rec.Checkpoint = rec.Checkpoint.Clone()
	if d.records[key] = rec; rec.IsEmpty() {
		delete(d.records, key)
	}
	if len(rows) > 0 {
		d.rows = append(d.rows, rows...)
		close(d.grown)
		d.grown = make(chan struct{})
	}
}

// has reports whether there are events of key.
func (d *Database) has(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.rows, func(r row) bool { return r.key == key && r.sweep == nil })
}

// Open opens the database for a session. At a first start it refuses if there are
// events of the key.
func (c *Client) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.FirstStart && !o.AcceptAnyOutput && c.db.has(o.Key) {
		return nil, &rigatoni.OutputError{Err: rigatoni.ErrOutputExists, Facts: fmt.Sprintf("the database has events of %q", o.Key)}
	}
	return &databaseSink{c, o.Key, o.Fence}, nil
}

// A databaseSink is the sink of one session. It also is what the author of a
// transactional destination can copy from.
type databaseSink struct {
	client *Client
	key    string
	fence  state.Fence
}

var _ rigatoni.Transactional = (*databaseSink)(nil)

// Deliver fails: the pipeline calls DeliverAt.
func (s *databaseSink) Deliver(context.Context, *rigatoni.Batch) error {
	return rigatoni.Permanent(fmt.Errorf("rigatonitest: a Database takes events with their checkpoint only (DeliverAt)"))
}

// DeliverAt applies the batch and saves cp in one transaction.
func (s *databaseSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(s.key, cp); err != nil {
		return err
	}
	if f.IsZero() {
		return fmt.Errorf("%w: there is no fence", state.ErrFenced)
	}
	return s.client.do(ctx, func(step func(Step) error) error {
		if err := step(Step{Point: Began}); err != nil {
			return err
		}
		defer s.client.db.begin()()
		return s.transact(b, f, cp, step)
	})
}

func (s *databaseSink) transact(b *rigatoni.Batch, f state.Fence, cp state.Checkpoint, step func(Step) error) error {
	db := s.client.db
	old := db.read(s.key)
	rec, err := record.Admit(old, f, cp, time.Now())
	if err != nil {
		return err
	}
	if err := step(Step{Point: Admitted}); err != nil {
		return err
	}
	if record.IsRepetition(old, cp) {
		// An earlier attempt was committed and its answer was lost.
		return step(Step{Point: Committed})
	}
	var rows []row
	for _, ev := range b.Events {
		rows = append(rows, row{key: s.key, event: ev})
		if err := step(Step{Point: Applied, Event: ev}); err != nil {
			return err
		}
	}
	if err := step(Step{Point: Committing}); err != nil {
		return err
	}
	db.commit(s.key, rec, rows)
	return step(Step{Point: Committed})
}
