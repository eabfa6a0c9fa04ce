package destinationtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A refDB is what the reference destinations write to. It outlasts their processes.
type refDB struct {
	transaction sync.Mutex // held by transactions

	mu      sync.Mutex
	rows    map[string][]Record            // by key: what a reader finds
	parts   map[string]map[string][]Record // by key and owner: of a buffered sink, not yet visible
	records map[string]record.Record
	tokens  map[string]map[int32]resumetoken.Token // by key and _id: of the last event

	swept bool // once

	sessions atomic.Int64
}

// A refDest is a destination of a kind, with a bug.
type refDest struct {
	db    *refDB
	kind  string // plain, concurrent, buffered, tx, mirror, sweeper
	bug   string
	step  func() error // what happens outside of the process
	opens atomic.Int32
}

func newRef(kind, bug string) Harness {
	db := &refDB{rows: map[string][]Record{}, parts: map[string]map[string][]Record{}, records: map[string]record.Record{}, tokens: map[string]map[int32]resumetoken.Token{}}
	open := func(step func() error) rigatoni.Destination {
		d := &refDest{db: db, kind: kind, bug: bug, step: step}
		if (kind == "tx" || kind == "mirror" || kind == "sweeper") && bug != "no checkpointer" {
			return refCheckpointer{d}
		}
		return d
	}
	h := Harness{
		Open: func(context.Context) (rigatoni.Destination, error) { return open(func() error { return nil }), nil },
		OpenFaulty: func(_ context.Context, f Fault) (rigatoni.Destination, func() bool, error) {
			step, reached := refFault(f)
			return open(step), reached, nil
		},
		Read: func(_ context.Context, key string) ([]Record, error) { return db.read(kind, fold(bug, key)), nil },
		Refused: func(id int32) rigatoni.Event {
			return rigatonitest.Insert(namespace, bson.D{{Key: "_id", Value: id}, {Key: "n", Value: int32(-1)}})
		},
		ExactlyOnce: kind == "buffered",
		Mirror:      kind == "mirror" || kind == "sweeper",
		Timeout:     time.Second,
		Short:       true,
	}
	return h
}

func fold(bug, key string) string {
	if bug == "keys are folded" {
		return strings.ToLower(key)
	}
	return key
}

var errRef = errors.New("a fault of the test")

func refFault(f Fault) (step func() error, reached func() bool) {
	var steps atomic.Int64
	return func() error {
		switch n := int(steps.Add(1)) - 1; {
		case n < f.Step, n > f.Step && f.Kind != Crash:
			return nil
		case f.Kind == Freeze:
			<-f.Thaw
			return nil
		}
		return errRef
	}, func() bool { return int(steps.Load()) > f.Step }
}

func (db *refDB) read(kind, key string) []Record {
	db.mu.Lock()
	defer db.mu.Unlock()
	if kind != "mirror" && kind != "sweeper" {
		return append([]Record(nil), db.rows[key]...)
	}
	docs := map[int32]int32{}
	for _, r := range db.rows[key] {
		if docs[r.ID] = r.N; r.N == 0 {
			delete(docs, r.ID)
		}
	}
	var all []Record
	for id, n := range docs {
		all = append(all, Record{id, n})
	}
	return all
}

func (db *refDB) append(key string, records ...Record) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.rows[key] = append(db.rows[key], records...)
}

func refRecord(ev rigatoni.Event) (r Record) {
	r.ID = ev.DocumentKey().Lookup("_id").Int32()
	if n, err := ev.FullDocument().LookupErr("n"); err == nil {
		r.N = n.Int32()
	}
	return r
}

func (d *refDest) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	if d.opens.Add(1) > 1 && d.bug == "a second session fails" {
		return nil, errors.New("it is open already")
	}
	if err := d.step(); err != nil {
		return nil, err
	}
	key := fold(d.bug, o.Key)
	accepted := o.AcceptAnyOutput && d.bug != "output is never accepted"
	if o.FirstStart && !accepted && len(d.db.read("", key)) > 0 && d.bug != "output is not noticed" {
		refused := &rigatoni.OutputError{Err: rigatoni.ErrOutputExists, Facts: "there are rows"}
		if d.bug == "a refusal without facts" {
			refused.Facts = ""
		}
		if d.bug == "a refusal that is no OutputError" {
			return nil, errors.New("there are rows")
		}
		return nil, refused
	}
	p := refPlain{d, key}
	switch d.kind {
	case "concurrent":
		return refConcurrent{p}, nil
	case "buffered":
		return openBuffered(d, key, o)
	case "tx", "mirror":
		return refTx{p}, nil
	case "sweeper":
		return &refSweeper{refTx{p}, o.Fence}, nil
	}
	return p, nil
}

// A refPlain writes each event at once: at least once.
type refPlain struct {
	d   *refDest
	key string
}

func (s refPlain) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	if ctx.Err() != nil && s.d.bug == "an ended context hangs" {
		select {}
	}
	events := b.Events
	switch {
	case s.d.bug == "the last of many events is dropped" && len(events) >= 100:
		events = events[:len(events)-1]
	case s.d.bug == "a batch is written backwards":
		for i := range events {
			s.d.db.append(s.key, refRecord(events[len(events)-1-i]))
		}
		return nil
	case s.d.bug == "the batch is changed":
		b.Events[0].Raw[4]++
	}
	for i, ev := range events {
		if ev.IsSnapshot() && s.d.bug == "what is copied is passed over" {
			continue
		}
		if err := s.write(ev); err != nil {
			if s.d.bug == "Partial counts the event that failed" {
				i++
			}
			if i == 0 || s.d.bug == "no Partial" {
				return err
			}
			return rigatoni.Partial(i, err)
		}
	}
	return nil
}

func (s refPlain) write(ev rigatoni.Event) error {
	r := refRecord(ev)
	if r.N < 0 {
		if s.d.bug == "a refusal that is not Permanent" {
			return errors.New("n is negative")
		}
		return rigatoni.Permanent(errors.New("n is negative"))
	}
	if err := s.d.step(); err != nil {
		return err
	}
	s.d.db.append(s.key, r)
	return nil
}

// A refConcurrent takes several calls at once.
type refConcurrent struct{ refPlain }

func (s refConcurrent) Concurrent() bool { return true }

func (s refConcurrent) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	if s.d.bug != "concurrent writes are lost" {
		return s.refPlain.Deliver(ctx, b)
	}
	before := s.d.db.read("", s.key)
	runtime.Gosched()
	time.Sleep(10 * time.Microsecond)
	for _, ev := range b.Events {
		before = append(before, refRecord(ev))
	}
	s.d.db.mu.Lock()
	defer s.d.db.mu.Unlock()
	s.d.db.rows[s.key] = before
	return nil
}

// A refBuffered collects events, writes them at Sync, and makes visible what a checkpoint
// covers: each once. Each owner writes to a part of its own.
type refBuffered struct {
	d      *refDest
	key    string
	owner  string
	buffer []Record
	before []Record // covered when the session began
	shown  int      // of the session's part
}

type refSaved struct {
	Owner  string // the part that the rows are in, behind Before
	Before []Record
	N      int
}

func openBuffered(d *refDest, key string, o rigatoni.Opening) (rigatoni.Sink, error) {
	s := &refBuffered{d: d, key: key, owner: fmt.Sprint(o.Fence, d.db.sessions.Add(1))}
	switch d.bug {
	case "owners share a part":
		s.owner = "all"
	case "output is not cut back":
		s.owner = fmt.Sprint(o.Fence)
	case "parts are named by the epoch":
		s.owner = fmt.Sprint(o.Fence.Epoch)
	}
	var saved refSaved
	if o.Saved != nil {
		if err := json.Unmarshal(o.Saved, &saved); err != nil {
			return nil, err
		}
		covered, err := s.covered(saved)
		if err != nil {
			return nil, err
		}
		s.before = covered
	}
	if err := d.step(); err != nil {
		return nil, err
	}
	d.db.mu.Lock()
	if d.bug == "parts are named by the epoch" {
		delete(d.db.parts[key], s.owner)
	}
	if d.bug == "recovery is done once" {
		delete(d.db.parts[key], saved.Owner)
	}
	d.db.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	if d.bug != "Open does not do what is left" {
		d.db.show(key, s.before)
	}
	return s, nil
}

func (s *refBuffered) covered(saved refSaved) ([]Record, error) {
	s.d.db.mu.Lock()
	defer s.d.db.mu.Unlock()
	part := s.d.db.parts[s.key][saved.Owner]
	if len(part) < saved.N {
		return nil, &rigatoni.OutputError{Err: errors.New("rows are missing"), Facts: fmt.Sprint(len(part), " of ", saved.N)}
	}
	return append(append([]Record(nil), saved.Before...), part[:saved.N]...), nil
}

// show makes rows visible, if they are more than those that are.
func (db *refDB) show(key string, rows []Record) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(rows) > len(db.rows[key]) {
		db.rows[key] = rows
	}
}

func (s *refBuffered) Deliver(_ context.Context, b *rigatoni.Batch) error {
	for i, ev := range b.Events {
		r := refRecord(ev)
		if r.N < 0 {
			return rigatoni.Partial(i, rigatoni.Permanent(errors.New("n is negative")))
		}
		s.buffer = append(s.buffer, r)
	}
	return nil
}

func (s *refBuffered) Sync(context.Context) (json.RawMessage, error) {
	if err := s.d.step(); err != nil {
		return nil, err
	}
	switch s.d.bug {
	case "Sync returns text":
		return json.RawMessage("file 7"), nil
	case "an idle Sync returns nothing":
		if len(s.buffer) == 0 {
			return nil, nil
		}
	}
	s.d.db.mu.Lock()
	defer s.d.db.mu.Unlock()
	parts := s.d.db.parts[s.key]
	if parts == nil {
		parts = map[string][]Record{}
		s.d.db.parts[s.key] = parts
	}
	written := append(parts[s.owner], s.buffer...)
	if s.d.bug != "Sync flushes nothing" {
		parts[s.owner] = written
		if s.d.bug != "Sync writes its buffer twice" {
			s.buffer = nil
		}
	}
	return json.Marshal(refSaved{s.owner, s.before, len(written)})
}

func (s *refBuffered) Committed(_ context.Context, doc json.RawMessage) error {
	if err := s.d.step(); err != nil {
		return err
	}
	var saved refSaved
	if doc == nil || json.Unmarshal(doc, &saved) != nil {
		return nil
	}
	rows, err := s.covered(saved)
	if err != nil {
		return err
	}
	switch s.d.bug {
	case "Committed forgets what was delivered since":
		s.buffer = nil
	case "Open does not do what is left":
		s.d.db.append(s.key, rows[len(s.before)+s.shown:]...)
		s.shown = saved.N
		return nil
	}
	s.d.db.show(s.key, rows)
	return nil
}

func (s *refBuffered) Concurrent() bool { return s.d.bug == "a Syncer is Concurrent" }

func (s *refBuffered) Close() error { return nil }

// A refTx writes events and checkpoint together.
type refTx struct{ refPlain }

func (s refTx) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(s.key, cp); err != nil {
		return err
	}
	db, bug := s.d.db, s.d.bug
	early, _ := db.record(s.key)
	if err := s.d.step(); err != nil {
		return err
	}
	db.transaction.Lock()
	defer db.transaction.Unlock()
	old, _ := db.record(s.key)
	switch bug {
	case "the record is read before the lock":
		old = early
	case "the fence is not checked":
		f = state.Fence{Epoch: old.Epoch, Nonce: old.Nonce}
	case "the sequence is not checked":
		old.LastSequence = 0
		old.Checkpoint.Sequence = 0
	}
	rec, err := record.Admit(old, f, cp, time.Now())
	if err != nil {
		return err
	}
	if record.IsRepetition(old, cp) && bug != "a repetition is applied" {
		return nil
	}
	if bug == "the token decides what a repetition is" && old.Checkpoint.Token == cp.Token {
		return nil
	}
	if bug == "Extra is not saved" {
		rec.Checkpoint.Extra = nil
	}
	return s.apply(b, rec)
}

func (s refTx) apply(b *rigatoni.Batch, rec record.Record) error {
	var rows []Record
	for i, ev := range b.Events {
		r := refRecord(ev)
		if r.N < 0 {
			if s.d.bug == "what comes before a refused event is applied" {
				s.d.db.append(s.key, rows...)
			}
			if s.d.bug == "parts of a transaction" {
				return rigatoni.Partial(i, rigatoni.Permanent(errors.New("n is negative")))
			}
			return rigatoni.Permanent(errors.New("n is negative"))
		}
		rows = append(rows, r)
	}
	if err := s.d.step(); err != nil {
		return err
	}
	switch s.d.bug {
	case "the checkpoint comes later":
		s.d.db.append(s.key, rows...)
		if err := s.d.step(); err != nil {
			return err
		}
		s.d.db.setRecord(s.key, rec)
	case "the checkpoint comes first":
		s.d.db.setRecord(s.key, rec)
		if err := s.d.step(); err != nil {
			return err
		}
		s.d.db.append(s.key, rows...)
	case "the checkpoint is not saved":
		s.d.db.append(s.key, rows...)
	default:
		s.d.db.setRecord(s.key, rec)
		s.d.db.append(s.key, rows...)
	}
	s.d.db.setTokens(s.key, b.Events)
	return s.d.step() // the answer
}

func (db *refDB) record(key string) (record.Record, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	rec, ok := db.records[key]
	return rec, ok
}

func (db *refDB) setRecord(key string, rec record.Record) {
	db.mu.Lock()
	defer db.mu.Unlock()
	rec.Checkpoint = rec.Checkpoint.Clone()
	db.records[key] = rec
}

// A refCheckpointer keeps the checkpoints of a refTx.
type refCheckpointer struct{ *refDest }

func (d refCheckpointer) Checkpoints() state.Store { return refStore{d.refDest} }

type refStore struct{ d *refDest }

func (s refStore) change(key string, do func(record.Record) (record.Record, error)) error {
	if err := s.d.step(); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	s.d.db.transaction.Lock()
	defer s.d.db.transaction.Unlock()
	old, _ := s.d.db.record(key)
	rec, err := do(old)
	if err == nil {
		s.d.db.setRecord(key, rec)
	}
	return err
}

func (s refStore) Load(_ context.Context, key string) (state.Checkpoint, error) {
	rec, _ := s.d.db.record(key)
	return rec.Load()
}

func (s refStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.SaveFenced(ctx, key, state.Fence{}, cp)
}

func (s refStore) SaveFenced(_ context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.change(key, func(old record.Record) (record.Record, error) { return record.Admit(old, f, cp, time.Now()) })
}

func (s refStore) Clear(context.Context, string) error { return errors.ErrUnsupported }

func (s refStore) ClearFenced(context.Context, string, state.Fence) error {
	return errors.ErrUnsupported
}

func (s refStore) Acquire(_ context.Context, key string, r state.LeaseRequest) (g state.Grant, err error) {
	err = s.change(key, func(old record.Record) (rec record.Record, err error) {
		rec, g, err = record.AdmitAcquire(old, r, time.Now())
		return rec, err
	})
	return g, err
}

func (s refStore) Renew(_ context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.change(key, func(old record.Record) (record.Record, error) { return record.AdmitRenew(old, f, ttl, time.Now()) })
}

func (s refStore) Release(_ context.Context, key string, f state.Fence) error {
	return s.change(key, func(old record.Record) (record.Record, error) { return record.AdmitRelease(old, f), nil })
}

// TestReferences: each kind of destination passes without a bug, and all cases are run by
// some of them.
func TestReferences(t *testing.T) {
	ran := map[string]bool{}
	for _, kind := range []string{"plain", "concurrent", "buffered", "tx", "mirror", "sweeper"} {
		report, err := Check(t.Context(), newRef(kind, ""))
		if err != nil {
			t.Errorf("%s: %v\n%s", kind, err, report)
		}
		for _, r := range report.Results {
			ran[r.Name] = ran[r.Name] || r.Status == Passed
		}
	}
	for name, passed := range ran {
		if !passed {
			t.Errorf("%s was skipped by every kind", name)
		}
	}
}
