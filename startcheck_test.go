package rigatoni

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// checker is a destination that can be asked.
type checker struct {
	Func
	check func(Opening) error
}

func (d checker) CheckOpening(_ context.Context, o Opening) error { return d.check(o) }

func checkOf(t *testing.T, src *fakeSource, store state.Store, check func(Opening) error, change func(*Config)) (StartCheck, *Pipeline) {
	t.Helper()
	cfg := Config{Name: "shop", Source: src, Store: store, Logger: slog.New(slog.DiscardHandler), Destination: checker{func(context.Context, Event) error {
		t.Error("something was delivered")
		return nil
	}, check}}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := p.CheckStart(t.Context())
	if len(all) != 1 || all[0].Key != "shop" {
		t.Fatalf("got %+v", all)
	}
	return all[0], p
}

func keys(t *testing.T, store state.Store) (all []string) {
	t.Helper()
	for e, err := range state.List(t.Context(), store, "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Key)
	}
	return all
}

func TestCheckStart(t *testing.T) {
	fine := func(Opening) error { return nil }
	saved := func(t *testing.T, store state.Store) {
		t.Helper()
		cp := state.Checkpoint{Token: at(3).Token, ClusterTime: at(3).ClusterTime, Sequence: 7, Fingerprint: testFingerprint}
		if err := store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a first start leaves nothing", func(t *testing.T) {
		store, src := memstore.New(), newFakeSource(batch(1, 3))
		c, p := checkOf(t, src, store, func(o Opening) error {
			if !o.FirstStart || o.Key != "shop" || !o.Fence.IsZero() {
				t.Errorf("asked with %+v", o)
			}
			return nil
		}, nil)
		if c.Err != nil || c.Checkpoint != nil || c.Position != src.origin {
			t.Errorf("got %+v", c)
		}
		if left := keys(t, store); left != nil {
			t.Errorf("the store has %q", left)
		}
		if got := p.CheckStart(t.Context())[0]; got.Err != nil || got.Position != src.origin {
			t.Errorf("a second time: %+v", got)
		}
	})
	t.Run("a resume", func(t *testing.T) {
		store := memstore.New()
		saved(t, store)
		c, _ := checkOf(t, newFakeSource(batch(1, 3), batch(4, 5)), store, fine, nil)
		if c.Err != nil || c.Checkpoint == nil || c.Checkpoint.Sequence != 7 || c.Position.Token != at(3).Token {
			t.Errorf("got %+v", c)
		}
		if cp, err := store.Load(t.Context(), "shop"); err != nil || cp.Sequence != 7 {
			t.Errorf("afterwards: %+v, %v", cp, err)
		}
	})
	t.Run("a first start at a time", func(t *testing.T) {
		c, _ := checkOf(t, newFakeSource(), memstore.New(), fine, func(c *Config) { c.FirstStart.Time.T = 9 })
		if c.Err != nil || c.From.T != 9 {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("a stream that doesn't open", func(t *testing.T) {
		store, src := memstore.New(), newFakeSource()
		saved(t, store)
		src.openErrs = []error{ErrHistoryLost}
		c, _ := checkOf(t, src, store, fine, nil)
		if !errors.Is(c.Err, ErrHistoryLost) || c.Checkpoint == nil || !c.Position.Token.IsZero() {
			t.Errorf("got %+v", c)
		}
		if want := "rigatoni: shop: opening the stream: " + ErrHistoryLost.Error(); c.Err.Error() != want {
			t.Errorf("\n got %v\nwant %s", c.Err, want)
		}
	})
	t.Run("another owner keeps its lease", func(t *testing.T) {
		store := memstore.New()
		saved(t, store)
		lease, err := state.Hold(t.Context(), store, "shop", &state.HoldOptions{Owner: "somebody"})
		if err != nil {
			t.Fatal(err)
		}
		c, _ := checkOf(t, newFakeSource(batch(1, 3)), store, fine, nil)
		var held *state.HeldError
		if !errors.As(c.Err, &held) || held.Owner != "somebody" || c.Position.Token != at(3).Token {
			t.Errorf("got %+v", c)
		}
		if err := lease.Save(t.Context(), state.Checkpoint{Token: at(4).Token, Sequence: 8}); err != nil {
			t.Errorf("the owner can't save any more: %v", err)
		}
	})
	t.Run("a first start that is refused", func(t *testing.T) {
		c, _ := checkOf(t, newFakeSource(), memstore.New(), fine, func(c *Config) { c.FirstStart.None = true })
		if !errors.Is(c.Err, ErrNoFirstStart) {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("output that is there, and its code", func(t *testing.T) {
		exists := func(Opening) error { return &OutputError{Err: ErrOutputExists, Facts: "files", Accept: "abc"} }
		c, _ := checkOf(t, newFakeSource(), memstore.New(), exists, nil)
		var first *FirstStartError
		if !errors.As(c.Err, &first) || first.Accept == "" {
			t.Fatalf("got %+v", c)
		}
		if c, _ = checkOf(t, newFakeSource(), memstore.New(), exists, func(c *Config) { c.FirstStart.Accept = first.Accept }); c.Err != nil {
			t.Errorf("with the code: %v", c.Err)
		}
	})
	t.Run("a destination that refuses", func(t *testing.T) {
		full := errors.New("no room")
		c, _ := checkOf(t, newFakeSource(), memstore.New(), func(Opening) error { return full }, nil)
		if want := "rigatoni: shop: opening the destination: no room"; !errors.Is(c.Err, full) || c.Err.Error() != want {
			t.Errorf("got %v, want %s", c.Err, want)
		}
	})
}
