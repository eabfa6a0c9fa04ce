package rigatoni_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// TestExactlyOnceFindsMutants: the campaign finds destinations that do it wrong.
func TestExactlyOnceFindsMutants(t *testing.T) {
	for name, mutant := range map[string]func(*rigatonitest.Client) rigatoni.Destination{
		"checkpoint in a transaction of its own": func(c *rigatonitest.Client) rigatoni.Destination { return twoTransactions{c} },
		"repetition applied again":               func(c *rigatonitest.Client) rigatoni.Destination { return repeating{c} },
		"no transaction":                         func(c *rigatonitest.Client) rigatoni.Destination { return oneByOne{c} },
	} {
		t.Run(name, func(t *testing.T) {
			seed := campaign.Seed(t)
			synctest.Test(t, func(t *testing.T) {
				c := newTxCampaign(seed, mutant)
				err := c.run(t.Context(), 1000)
				if err == nil {
					t.Error("not found")
				}
				t.Log(err, c.summary())
			})
		})
	}
}

// TestExactlyOnceWithACopyFindsMutants: the campaign with copies finds destinations that do it wrong
// there alone.
func TestExactlyOnceWithACopyFindsMutants(t *testing.T) {
	for name, mutant := range map[string]func(*rigatonitest.Client) rigatoni.Destination{
		"a token that is saved already is a repetition": func(c *rigatonitest.Client) rigatoni.Destination { return tokenRepeats{c} },
		"the state of the copy is not saved":            func(c *rigatonitest.Client) rigatoni.Destination { return extraless{c} },
	} {
		t.Run(name, func(t *testing.T) {
			seed := campaign.Seed(t)
			synctest.Test(t, func(t *testing.T) {
				c, k := newCopyCampaign(seed, mutant)
				err := c.run(t.Context(), 1000)
				if err == nil {
					t.Error("not found")
				}
				t.Log(err, c.summary(), k.summary())
			})
		})
	}
}

type (
	tokenRepeats struct{ *rigatonitest.Client }
	extraless    struct{ *rigatonitest.Client }
)

// A checkpoint with the token of the last one is taken for a repetition.
func (d tokenRepeats) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	tx, store, err := openMutant(ctx, d.Client, o)
	return mutantSink{tx, func(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		if old, err := store.Load(ctx, o.Key); err == nil && old.Token == cp.Token {
			return nil
		}
		return tx.DeliverAt(ctx, b, f, cp)
	}}, err
}

// Of the checkpoint, only the token is saved.
func (d extraless) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	tx, _, err := openMutant(ctx, d.Client, o)
	return mutantSink{tx, func(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		cp.Extra = nil
		return tx.DeliverAt(ctx, b, f, cp)
	}}, err
}

// The mutants: destinations into the same database that do it wrong.

type (
	twoTransactions struct{ *rigatonitest.Client }
	repeating       struct{ *rigatonitest.Client }
	oneByOne        struct{ *rigatonitest.Client }
)

// A mutantSink delivers with the sink of the database, and a function of its own.
type mutantSink struct {
	rigatoni.Transactional
	deliver func(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error
}

func (s mutantSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	return s.deliver(ctx, b, f, cp)
}

func (s mutantSink) Unwrap() rigatoni.Sink { return s.Transactional }

func openMutant(ctx context.Context, c *rigatonitest.Client, o rigatoni.Opening) (rigatoni.Transactional, state.Leaser, error) {
	s, err := c.Open(ctx, o)
	tx, _ := rigatoni.As[rigatoni.Transactional](s)
	store, _ := state.As[state.Leaser](c.Checkpoints())
	return tx, store, err
}

// unsequenced is the checkpoint as it is stored, saved again.
func unsequenced(ctx context.Context, s state.Store, key string) (state.Checkpoint, error) {
	cp, err := s.Load(ctx, key)
	cp.Sequence = 0
	return cp, err
}

// The events are applied, and then the checkpoint is saved.
func (d twoTransactions) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	tx, store, err := openMutant(ctx, d.Client, o)
	return mutantSink{tx, func(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		old, err := unsequenced(ctx, store, o.Key)
		if err != nil {
			return err
		}
		if err := tx.DeliverAt(ctx, b, f, old); err != nil {
			return err
		}
		return store.SaveFenced(ctx, o.Key, f, cp)
	}}, err
}

// A repetition is applied again.
func (d repeating) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	tx, store, err := openMutant(ctx, d.Client, o)
	return mutantSink{tx, func(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		if old, err := store.Load(ctx, o.Key); err == nil && old.Sequence == cp.Sequence {
			cp.Sequence = 0
		}
		return tx.DeliverAt(ctx, b, f, cp)
	}}, err
}

// Each event is applied for itself, the last one with the checkpoint.
func (d oneByOne) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	tx, store, err := openMutant(ctx, d.Client, o)
	return mutantSink{tx, func(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
		for i := range b.Events[:len(b.Events)-1] {
			old, err := unsequenced(ctx, store, o.Key)
			if err != nil {
				return err
			}
			if err := tx.DeliverAt(ctx, &rigatoni.Batch{Events: b.Events[i : i+1]}, f, old); err != nil {
				return err
			}
		}
		return tx.DeliverAt(ctx, &rigatoni.Batch{Events: b.Events[len(b.Events)-1:]}, f, cp)
	}}, err
}
