package statetest

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A disk is what all handles on one reference store share: the records, and what
// is wrong with the store.
type disk struct {
	bug bug
	// owners makes leases end with their owner's handle, as those of a store that
	// locks files do.
	owners bool

	mu   sync.Mutex
	recs map[string]*kept
	down bool
}

// kept is one key's record. It is replaced whole, never changed in part.
type kept struct {
	rec            record.Record
	holder         *ref
	damaged, newer bool
}

// A ref is a handle on the reference store. What it does by the book, a bug can do
// otherwise.
type ref struct {
	d      *disk
	closed bool // guarded by d.mu
}

// newDisk makes a store that does everything right, but for what spoil changes.
func newDisk(spoil func(b *bug)) *disk {
	b := bug{
		key:          func(key string) string { return key },
		checkKey:     state.CheckKey,
		checkSave:    record.CheckSave,
		checkBatch:   record.CheckBatch,
		heeds:        func(string) bool { return true },
		admit:        record.Admit,
		admitClear:   record.AdmitClear,
		admitAcquire: record.AdmitAcquire,
		admitRenew:   record.AdmitRenew,
		admitRelease: func(old record.Record, f state.Fence) (record.Record, error) { return record.AdmitRelease(old, f), nil },
		admitForget:  admitForget,
		keep:         state.Checkpoint.Clone,
		give:         state.Checkpoint.Clone,
		load:         func(rec *record.Record) (state.Checkpoint, error) { return rec.Load() },
		read:         read,
		loads:        func(*disk, *kept) error { return nil },
		fail: func(op, key string, err error) error {
			return &state.Error{Op: op, Store: "ref", Key: key, Err: err}
		},
		match:  strings.HasPrefix,
		entry:  entry,
		list:   list,
		batch:  batch,
		opened: func(*disk) {},
		closed: func(h *ref) { h.closed = true },
		down:   func(context.Context, *disk) error { return state.ErrUnavailable },
		expire: func(rec *record.Record) { rec.Checkpoint = state.Checkpoint{} },
	}
	if spoil != nil {
		spoil(&b)
	}
	return &disk{bug: b, recs: make(map[string]*kept)}
}

func admitForget(old record.Record, now time.Time) (record.Record, error) {
	if old.Live(now) {
		return old, &state.HeldError{Owner: old.Owner, Until: old.LeaseUntil}
	}
	return record.Record{}, nil
}

// read reports whether what is kept can be read.
func read(e *kept) error {
	switch {
	case e.damaged:
		return state.ErrCorrupt
	case e.newer:
		return state.ErrNewer
	}
	return nil
}

func (d *disk) open() *ref {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bug.opened(d)
	return &ref{d: d}
}

// harness reaches the disk with every hook.
func (d *disk) harness() Harness {
	at := func(do func(e *kept)) func(context.Context, string) error {
		return func(_ context.Context, key string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			key = d.bug.key(key)
			e, ok := d.recs[key]
			if !ok {
				return errors.New("nothing is stored for the key")
			}
			changed := *e
			do(&changed)
			d.recs[key] = &changed
			return nil
		}
	}
	down := func(is bool) func(context.Context) error {
		return func(context.Context) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.down = is
			return nil
		}
	}
	return Harness{
		Open:        func(context.Context) (state.Store, error) { return d.open(), nil },
		Damage:      at(func(e *kept) { e.damaged = true }),
		Newer:       at(func(e *kept) { e.newer = true }),
		Expire:      at(func(e *kept) { d.bug.expire(&e.rec) }),
		ExpireLease: at(func(e *kept) { e.rec.LeaseUntil = time.Now().Add(-time.Second) }),
		Break:       down(true),
		Restore:     down(false),
		Stored: func(context.Context) (int, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.recs), nil
		},
		Timeout: 5 * time.Second,
		Short:   true,
	}
}

// ready is the first thing that every call asks, under the lock.
func (s *ref) ready(ctx context.Context, op string) error {
	switch {
	case s.closed && !s.d.bug.undead:
		return state.ErrClosed
	case ctx.Err() != nil && s.d.bug.heeds(op):
		return ctx.Err()
	case s.d.down:
		return s.d.bug.down(ctx, s.d)
	}
	return nil
}

// get is what is kept for key; the lease as the kind of store has it.
func (s *ref) get(key string) *kept {
	e, ok := s.d.recs[s.d.bug.key(key)]
	if !ok {
		return &kept{}
	}
	if s.d.owners && e.rec.Nonce != "" {
		c := *e
		c.rec.LeaseUntil = time.Now().Add(-time.Hour)
		if !e.holder.closed {
			c.rec.LeaseUntil = time.Now().Add(time.Hour)
		}
		e = &c
	}
	return e
}

// change replaces what is kept for key by what do makes of it.
func (s *ref) change(ctx context.Context, op, key string, invalid error, do func(old record.Record) (record.Record, error)) error {
	d := s.d
	if invalid != nil {
		return d.bug.fail(op, key, invalid)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := s.ready(ctx, op); err != nil {
		return d.bug.fail(op, key, err)
	}
	old := s.get(key)
	if op == "acquire" {
		if err := d.bug.granted(old); err != nil {
			return d.bug.fail(op, key, err)
		}
	}
	rec, err := do(old.rec)
	if d.bug.between != nil && d.bug.between(op) {
		d.mu.Unlock()
		time.Sleep(50 * time.Microsecond) // another may come between reading and writing
		d.mu.Lock()
	}
	if err != nil {
		if held, ok := errors.AsType[*state.HeldError](err); ok && d.owners {
			held.Until = time.Time{}
		}
		return d.bug.fail(op, key, err)
	}
	anew := op == "save" || op == "forget"
	next := &kept{rec: rec, holder: old.holder, damaged: old.damaged && !anew, newer: old.newer && !anew}
	if op == "acquire" {
		next.holder = s
	}
	if rec.IsEmpty() && !next.damaged && !next.newer && !d.bug.litters {
		delete(d.recs, d.bug.key(key))
	} else {
		d.recs[d.bug.key(key)] = next
	}
	return nil
}

func (s *ref) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, state.Fence{}, cp)
}

func (s *ref) save(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	b := &s.d.bug
	return s.change(ctx, "save", key, b.checkSave(key, cp), func(old record.Record) (record.Record, error) {
		if !f.IsZero() && s.stranger(key) {
			return old, state.ErrFenced
		}
		return b.admit(old, f, b.keep(cp), time.Now())
	})
}

// stranger reports whether key's lease is another handle's, where that matters.
func (s *ref) stranger(key string) bool { return s.d.owners && s.get(key).holder != s }

func (s *ref) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	b := &s.d.bug
	if err := b.checkKey(key); err != nil {
		return state.Checkpoint{}, b.fail("load", key, err)
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if err := s.ready(ctx, "load"); err != nil {
		return state.Checkpoint{}, b.fail("load", key, err)
	}
	e := s.get(key)
	err := b.loads(s.d, e)
	if err == nil {
		err = b.read(e)
	}
	var cp state.Checkpoint
	if err == nil {
		cp, err = b.load(&e.rec)
	}
	if err != nil {
		return state.Checkpoint{}, b.fail("load", key, err)
	}
	return b.give(cp), nil
}

func (s *ref) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, state.Fence{})
}

func (s *ref) clear(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, "clear", key, s.d.bug.checkKey(key), func(old record.Record) (record.Record, error) {
		if !f.IsZero() && s.stranger(key) {
			return old, state.ErrFenced
		}
		return s.d.bug.admitClear(old, f, time.Now())
	})
}

func (s *ref) Acquire(ctx context.Context, key string, r state.LeaseRequest) (g state.Grant, err error) {
	err = s.change(ctx, "acquire", key, s.d.bug.checkKey(key), func(old record.Record) (rec record.Record, err error) {
		if s.d.owners {
			r.Steal = false
			if old.Live(time.Now()) && s.stranger(key) {
				return old, &state.HeldError{Owner: old.Owner}
			}
		}
		rec, g, err = s.d.bug.admitAcquire(old, r, time.Now())
		return rec, err
	})
	if err != nil {
		return state.Grant{}, err
	}
	g.Checkpoint = s.d.bug.give(g.Checkpoint)
	return g, nil
}

func (s *ref) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.change(ctx, "renew", key, s.d.bug.checkKey(key), func(old record.Record) (record.Record, error) {
		return s.d.bug.admitRenew(old, f, ttl, time.Now())
	})
}

func (s *ref) Release(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, "release", key, s.d.bug.checkKey(key), func(old record.Record) (record.Record, error) {
		return s.d.bug.admitRelease(old, f)
	})
}

func (s *ref) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if f.IsZero() && !s.d.bug.zeroUnfenced {
		return s.change(ctx, "save", key, nil, func(old record.Record) (record.Record, error) { return old, state.ErrFenced })
	}
	return s.save(ctx, key, f, cp)
}

func (s *ref) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	if f.IsZero() && !s.d.bug.zeroUnfenced {
		return s.change(ctx, "clear", key, nil, func(old record.Record) (record.Record, error) { return old, state.ErrFenced })
	}
	return s.clear(ctx, key, f)
}

func (s *ref) Forget(ctx context.Context, key string) error {
	return s.change(ctx, "forget", key, s.d.bug.checkKey(key), func(old record.Record) (record.Record, error) {
		return s.d.bug.admitForget(old, time.Now())
	})
}

func (s *ref) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return s.d.bug.list(ctx, s, prefix)
}

func list(ctx context.Context, s *ref, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		entries, err := s.entries(ctx, prefix)
		if err != nil {
			yield(state.Entry{}, s.d.bug.fail("list", "", err))
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *ref) entries(ctx context.Context, prefix string) (entries []state.Entry, err error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if err := s.ready(ctx, "list"); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(s.d.recs)) {
		if !s.d.bug.match(key, prefix) {
			continue
		}
		if e, ok := s.d.bug.entry(s, key, s.get(key)); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// entry is what List says of one key, if anything.
func entry(s *ref, key string, e *kept) (state.Entry, bool) {
	live := e.rec.Live(time.Now())
	if e.rec.Status != record.Saved && !live {
		return state.Entry{}, false
	}
	out := state.Entry{Key: key, LoadErr: read(e)}
	if live {
		out.Owner = e.rec.Owner
	}
	if out.LoadErr == nil {
		out.Checkpoint, out.LoadErr = e.rec.Load()
		out.Checkpoint = s.d.bug.give(out.Checkpoint)
	}
	return out, true
}

func (s *ref) SaveBatch(ctx context.Context, items []state.Item) []error {
	return s.d.bug.batch(ctx, s, items)
}

func batch(ctx context.Context, s *ref, items []state.Item) []error {
	errs := s.d.bug.checkBatch(items)
	for i, it := range items {
		switch {
		case errs[i] != nil:
			errs[i] = s.d.bug.fail("save", it.Key, errs[i])
		default:
			errs[i] = s.save(ctx, it.Key, it.Fence, it.Checkpoint)
		}
	}
	return errs
}

func (s *ref) Ping(ctx context.Context) error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if err := s.ready(ctx, "ping"); err != nil {
		return s.d.bug.fail("ping", "", err)
	}
	return nil
}

func (s *ref) Close() error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.bug.closed(s)
	return nil
}

var (
	_ state.Leaser     = (*ref)(nil)
	_ state.Lister     = (*ref)(nil)
	_ state.BatchSaver = (*ref)(nil)
	_ state.Forgetter  = (*ref)(nil)
	_ state.Pinger     = (*ref)(nil)
	_ io.Closer        = (*ref)(nil)
)
