package rigatoni

import (
	"context"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A place is where a worker saves its checkpoint: under a lease where the store
// can lease, and plainly where it can't.
type place interface {
	save(ctx context.Context, cp state.Checkpoint) error
	valid() error // nil while the worker may deliver and save
	context(ctx context.Context) context.Context
	epoch() uint64
	release(ctx context.Context) error
}

type leased struct{ lease *state.Lease }

func (l leased) save(ctx context.Context, cp state.Checkpoint) error { return l.lease.Save(ctx, cp) }
func (l leased) valid() error                                        { return l.lease.Valid() }
func (l leased) context(context.Context) context.Context             { return l.lease.Context() }
func (l leased) epoch() uint64                                       { return l.lease.Grant().Fence.Epoch }
func (l leased) release(ctx context.Context) error                   { return l.lease.Release(ctx) }

type unleased struct {
	store state.Store
	key   string
}

func (u unleased) save(ctx context.Context, cp state.Checkpoint) error {
	return u.store.Save(ctx, u.key, cp)
}
func (u unleased) valid() error                                { return nil }
func (u unleased) context(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
func (u unleased) epoch() uint64                               { return 0 }
func (u unleased) release(context.Context) error               { return nil }
