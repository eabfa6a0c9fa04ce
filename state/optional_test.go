package state

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestAsUnwraps(t *testing.T) {
	fake := newFake()
	if l, ok := As[Leaser](decorated{decorated{fake}}); !ok || l != Leaser(fake) {
		t.Errorf("got %v, %v", l, ok)
	}
	if _, ok := As[Leaser](onlyStore{fake}); ok {
		t.Error("a decorator without Unwrap was seen through")
	}
	if _, ok := As[Leaser](decorated{nil}); ok {
		t.Error("found in nothing")
	}
	if _, ok := As[Leaser](nil); ok {
		t.Error("found in nil")
	}
}

func TestUnsupported(t *testing.T) {
	ctx, s := t.Context(), onlyStore{newFake()}
	for _, err := range List(ctx, s, "") {
		wantErr(t, err, errors.ErrUnsupported)
	}
	wantErr(t, Forget(ctx, s, "k"), errors.ErrUnsupported)
	wantErr(t, Ping(ctx, s), errors.ErrUnsupported)
	if err := Close(s); err != nil {
		t.Errorf("nothing to close: %v", err)
	}
}

// onlyLeaser can lease and has no batches.
type onlyLeaser struct{ Leaser }

func TestSaveBatchOneByOne(t *testing.T) {
	ctx, fake := t.Context(), newFake()
	cp := Checkpoint{Token: token(t)}
	g, err := fake.Acquire(ctx, "leased", LeaseRequest{Nonce: "n", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	items := []Item{{"a", Fence{}, cp}, {"twice", Fence{}, cp}, {"leased", g.Fence, cp}, {"twice", Fence{}, cp}, {"b", Fence{1, "x"}, cp},
		{"twice", Fence{}, cp}, {"c", Fence{}, Checkpoint{}}}
	check := func(s Store, want ...error) {
		t.Helper()
		for i, err := range SaveBatch(ctx, s, items) {
			if !errors.Is(err, want[i]) {
				t.Errorf("item %d: %v, want %v", i, err, want[i])
			}
		}
	}
	check(onlyLeaser{fake}, nil, ErrInvalid, nil, ErrInvalid, ErrFenced, ErrInvalid, ErrInvalid)
	if calls := fake.history(); !slices.Equal(calls, []string{"acquire", "save", "save", "save"}) {
		t.Errorf("the store was asked for %q", calls)
	}
	check(onlyStore{fake}, nil, ErrInvalid, errors.ErrUnsupported, ErrInvalid, errors.ErrUnsupported, ErrInvalid, ErrInvalid)
	check(fake, nil, ErrInvalid, nil, ErrInvalid, ErrFenced, ErrInvalid, ErrInvalid)
	if errs := SaveBatch(context.Background(), fake, nil); len(errs) != 0 {
		t.Errorf("an empty batch: %v", errs)
	}
}
