package state_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

func TestAsUnwraps(t *testing.T) {
	fake := newFake()
	if l, ok := state.As[state.Leaser](decorated{decorated{fake}}); !ok || l != state.Leaser(fake) {
		t.Errorf("got %v, %v", l, ok)
	}
	if _, ok := state.As[state.Leaser](onlyStore{fake}); ok {
		t.Error("a decorator without Unwrap was seen through")
	}
	if _, ok := state.As[state.Leaser](decorated{nil}); ok {
		t.Error("found in nothing")
	}
	if _, ok := state.As[state.Leaser](nil); ok {
		t.Error("found in nil")
	}
}

func TestUnsupported(t *testing.T) {
	ctx, s := t.Context(), onlyStore{newFake()}
	for _, err := range state.List(ctx, s, "") {
		wantErr(t, err, errors.ErrUnsupported)
	}
	wantErr(t, state.Forget(ctx, s, "k"), errors.ErrUnsupported)
	wantErr(t, state.Ping(ctx, s), errors.ErrUnsupported)
	if err := state.Close(s); err != nil {
		t.Errorf("nothing to close: %v", err)
	}
}

// onlyLeaser can lease and has no batches.
type onlyLeaser struct{ state.Leaser }

func TestSaveBatchOneByOne(t *testing.T) {
	ctx, fake := t.Context(), newFake()
	cp := state.Checkpoint{Token: token(t)}
	g, err := fake.Acquire(ctx, "leased", state.LeaseRequest{Nonce: "n", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	items := []state.Item{{"a", state.Fence{}, cp}, {"twice", state.Fence{}, cp}, {"leased", g.Fence, cp}, {"twice", state.Fence{}, cp}, {"b", state.Fence{Epoch: 1, Nonce: "x"}, cp},
		{"twice", state.Fence{}, cp}, {"c", state.Fence{}, state.Checkpoint{}}}
	check := func(s state.Store, want ...error) {
		t.Helper()
		for i, err := range state.SaveBatch(ctx, s, items) {
			if !errors.Is(err, want[i]) {
				t.Errorf("item %d: %v, want %v", i, err, want[i])
			}
		}
	}
	check(onlyLeaser{fake}, nil, state.ErrInvalid, nil, state.ErrInvalid, state.ErrFenced, state.ErrInvalid, state.ErrInvalid)
	if calls := fake.history(); !slices.Equal(calls, []string{"acquire", "save", "save", "save"}) {
		t.Errorf("the store was asked for %q", calls)
	}
	check(onlyStore{fake}, nil, state.ErrInvalid, errors.ErrUnsupported, state.ErrInvalid, errors.ErrUnsupported, state.ErrInvalid, state.ErrInvalid)
	check(fake, nil, state.ErrInvalid, nil, state.ErrInvalid, state.ErrFenced, state.ErrInvalid, state.ErrInvalid)
	if errs := state.SaveBatch(context.Background(), fake, nil); len(errs) != 0 {
		t.Errorf("an empty batch: %v", errs)
	}
}
