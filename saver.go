package rigatoni

import (
	"context"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A saver saves the checkpoint of one key: under a lease, or plainly where there
// is none.
type saver interface {
	save(ctx context.Context, cp state.Checkpoint) error
	valid() error                                // nil while it may deliver and save
	context(ctx context.Context) context.Context // ends with the lease, not with ctx
	fence() state.Fence
	release(ctx context.Context) error
}

type leasedSaver struct{ lease *state.Lease }

func (s leasedSaver) save(ctx context.Context, cp state.Checkpoint) error {
	return s.lease.Save(ctx, cp)
}
func (s leasedSaver) valid() error                            { return s.lease.Valid() }
func (s leasedSaver) context(context.Context) context.Context { return s.lease.Context() }
func (s leasedSaver) fence() state.Fence                      { return s.lease.Grant().Fence }
func (s leasedSaver) release(ctx context.Context) error       { return s.lease.Release(ctx) }

type plainSaver struct {
	store state.Store
	key   string
}

func (s plainSaver) save(ctx context.Context, cp state.Checkpoint) error {
	return s.store.Save(ctx, s.key, cp)
}
func (s plainSaver) valid() error                                { return nil }
func (s plainSaver) context(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
func (s plainSaver) fence() state.Fence                          { return state.Fence{} }
func (s plainSaver) release(context.Context) error               { return nil }
