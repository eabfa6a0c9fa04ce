package memstore

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
)

func checkpoint(t testing.TB) state.Checkpoint {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: "8260EC7417000000012B022C0100296E5A10044B4A1B0E3FA2439BA6F0D61DDD6805FB46645F6964006460EC741724019F022F0786530004"}})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := state.At(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func TestContract(t *testing.T) {
	statetest.Run(t, func(*testing.T) statetest.Harness {
		s := New()
		return statetest.Harness{
			Open:     func(context.Context) (state.Store, error) { return s, nil },
			Volatile: true,
			Stored: func(context.Context) (int, error) {
				s.mu.RLock()
				defer s.mu.RUnlock()
				return len(s.records), nil
			},
			ExpireLease: func(_ context.Context, key string) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.records[key].LeaseUntil = time.Now()
				return nil
			},
		}
	})
}

// Every error is a *state.Error that names this store, and a context that has
// ended means that nothing happens.
func TestErrors(t *testing.T) {
	cp := checkpoint(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	fence := state.Fence{Epoch: 1, Nonce: "n"}
	calls := map[string]func(context.Context, *Store) error{
		"save":         func(ctx context.Context, s *Store) error { return s.Save(ctx, "k", cp) },
		"load":         func(ctx context.Context, s *Store) error { _, err := s.Load(ctx, "k"); return err },
		"clear":        func(ctx context.Context, s *Store) error { return s.Clear(ctx, "k") },
		"forget":       func(ctx context.Context, s *Store) error { return s.Forget(ctx, "k") },
		"ping":         func(ctx context.Context, s *Store) error { return s.Ping(ctx) },
		"renew":        func(ctx context.Context, s *Store) error { return s.Renew(ctx, "k", fence, time.Minute) },
		"release":      func(ctx context.Context, s *Store) error { return s.Release(ctx, "k", fence) },
		"save fenced":  func(ctx context.Context, s *Store) error { return s.SaveFenced(ctx, "k", fence, cp) },
		"save zero":    func(ctx context.Context, s *Store) error { return s.SaveFenced(ctx, "k", state.Fence{}, cp) },
		"clear fenced": func(ctx context.Context, s *Store) error { return s.ClearFenced(ctx, "k", fence) },
		"clear zero":   func(ctx context.Context, s *Store) error { return s.ClearFenced(ctx, "k", state.Fence{}) },
		"batch": func(ctx context.Context, s *Store) error {
			return s.SaveBatch(ctx, []state.Item{{Key: "k", Checkpoint: cp}})[0]
		},
		"acquire": func(ctx context.Context, s *Store) error {
			_, err := s.Acquire(ctx, "k", state.LeaseRequest{Nonce: "n", TTL: time.Minute})
			return err
		},
		"list": func(ctx context.Context, s *Store) error {
			for _, err := range s.List(ctx, "") {
				return err
			}
			return nil
		},
	}
	check := func(name string, err, want error) {
		t.Helper()
		var e *state.Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Store != "memstore" || e.Op == "" {
			t.Errorf("%s: %v, want a *state.Error of memstore with %q", name, err, want)
		}
	}
	for name, call := range calls {
		s := New()
		check(name, call(ended, s), context.Canceled)
		if len(s.records) != 0 {
			t.Errorf("%s under a context that had ended did something", name)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		check(name+" after Close", call(t.Context(), s), state.ErrClosed)
	}
	s := New()
	check("save", s.Save(ended, "", cp), state.ErrInvalid) // judged before all else
	check("save fenced", s.SaveFenced(t.Context(), "", state.Fence{}, cp), state.ErrInvalid)
	check("save fenced", s.SaveFenced(t.Context(), "k", state.Fence{}, cp), state.ErrFenced)
	check("clear fenced", s.ClearFenced(t.Context(), "k", state.Fence{}), state.ErrFenced)
	check("load", calls["load"](t.Context(), s), state.ErrNotFound)
}

// What a caller does to its own Extra afterwards is no business of the store.
func TestExtraIsCopied(t *testing.T) {
	ctx, s := t.Context(), New()
	give := checkpoint(t)
	give.Extra = map[string]json.RawMessage{"gap": json.RawMessage(`{"a":1}`)}
	spoil := func(cp state.Checkpoint) {
		cp.Extra["gap"][1] = 'x'
		cp.Extra["more"] = nil
	}
	intact := func(cp state.Checkpoint) {
		t.Helper()
		if len(cp.Extra) != 1 || string(cp.Extra["gap"]) != `{"a":1}` {
			t.Errorf("the store's own Extra was changed: %s", cp.Extra)
		}
	}
	if err := s.Save(ctx, "k", give); err != nil {
		t.Fatal(err)
	}
	spoil(give)
	got, err := s.Load(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	intact(got)
	spoil(got)
	for e, err := range s.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		intact(e.Checkpoint)
		spoil(e.Checkpoint)
	}
	g, err := s.Acquire(ctx, "k", state.LeaseRequest{Nonce: "n", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	intact(g.Checkpoint)
	spoil(g.Checkpoint)
	got, err = s.Load(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	intact(got)
}

// While a list is being read, the store can be used; a context that ends
// meanwhile ends it.
func TestListHoldsNoLock(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, cp := New(), checkpoint(t)
	for _, key := range []string{"b", "a", "c"} {
		if err := s.Save(ctx, key, cp); err != nil {
			t.Fatal(err)
		}
	}
	var keys string
	var last error
	for e, err := range s.List(ctx, "") {
		keys += e.Key
		last = err
		if err := s.Save(t.Context(), "d", cp); err != nil {
			t.Fatal(err)
		}
		if e.Key == "b" {
			cancel()
		}
	}
	if keys != "ab" || !errors.Is(last, context.Canceled) {
		t.Errorf("listed %q, and then %v; want ab and the context's error", keys, last)
	}
}

func TestHold(t *testing.T) {
	s := New()
	if err := s.Save(t.Context(), "k", checkpoint(t)); err != nil {
		t.Fatal(err)
	}
	l, err := state.Hold(t.Context(), s, "k", &state.HoldOptions{Owner: "one"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = state.Hold(t.Context(), s, "k", &state.HoldOptions{Owner: "two", Wait: -1})
	if !errors.Is(err, state.ErrLeaseHeld) {
		t.Errorf("a second holder: %v", err)
	}
	if err := s.Save(t.Context(), "k", checkpoint(t)); !errors.Is(err, state.ErrLeaseHeld) {
		t.Errorf("an unfenced save: %v", err)
	}
	if err := l.Save(t.Context(), checkpoint(t)); err != nil {
		t.Error(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenURL(t *testing.T) {
	for text, ok := range map[string]bool{
		"memory:": true, "memory://": true, "memory:x": false, "memory:///x": false, "memory://host": false, "memory:?ttl=1s": false,
		"memory://u:secret@": false, "memory:#x": false, "file:": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := OpenURL(t.Context(), u); (err == nil) != ok || (s != nil) != ok || err != nil && !errors.Is(err, state.ErrInvalid) {
			t.Errorf("OpenURL(%q): %v", text, err)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	ctx, s, cp := t.Context(), New(), checkpoint(t)
	save := func() {
		cp.Sequence++
		if err := s.Save(ctx, "shop", cp); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, save); n != 0 {
		t.Errorf("a save allocates %v times", n)
	}
	load := func() {
		if _, err := s.Load(ctx, "shop"); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, load); n != 0 {
		t.Errorf("a load allocates %v times", n)
	}
	runtime.KeepAlive(cp)
}

// The floor of a store in memory: a lock, a look into a map, and a copy.
type floor struct {
	mu sync.RWMutex
	m  map[string]*state.Checkpoint
}

func (f *floor) save(key string, cp state.Checkpoint) {
	f.mu.Lock()
	*f.m[key] = cp
	f.mu.Unlock()
}

func (f *floor) load(key string) state.Checkpoint {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return *f.m[key]
}

func Benchmark(b *testing.B) {
	ctx, cp := b.Context(), checkpoint(b)
	s, f := New(), &floor{m: map[string]*state.Checkpoint{"shop": {}}}
	if err := s.Save(ctx, "shop", cp); err != nil {
		b.Fatal(err)
	}
	var got state.Checkpoint
	for _, c := range []struct {
		name string
		f    func() error
	}{
		{"floor/save", func() error { f.save("shop", cp); return nil }},
		{"save", func() error { return s.Save(ctx, "shop", cp) }},
		{"floor/load", func() error { got = f.load("shop"); return nil }},
		{"load", func() (err error) { got, err = s.Load(ctx, "shop"); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	runtime.KeepAlive(got)
	parallel := func(name string, call func(key string) error) {
		b.Run("parallel/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := call("shop"); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	parallel("floor/save", func(key string) error { f.save(key, cp); return nil })
	parallel("save", func(key string) error { return s.Save(ctx, key, cp) })
	parallel("floor/load", func(key string) error { f.load(key); return nil })
	parallel("load", func(key string) error { _, err := s.Load(ctx, key); return err })
}
