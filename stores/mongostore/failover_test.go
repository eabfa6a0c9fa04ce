package mongostore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

// An owner saves through step-downs and killed primaries: what was acknowledged is never
// lost, a save whose answer was lost is recognized when it is repeated, nobody else gets
// the lease, and who was fenced off stays so.
func TestFailovers(t *testing.T) {
	t.Parallel()
	server := mongod.OwnForTest(t, mongod.Options{Nodes: 3})
	ctx := t.Context()
	u := at(server.URI(), "rigatoni.checkpoints")
	s := open(t, u, &mongostore.Options{CallTimeout: 30 * time.Second})
	other := open(t, u, &mongostore.Options{CallTimeout: 30 * time.Second})
	g, err := s.Acquire(ctx, "k", state.LeaseRequest{Owner: "first", Nonce: "n", TTL: time.Hour})
	want(t, err, nil, "Acquire")

	stop := make(chan struct{})
	acked := make(chan uint64, 1)
	go func() {
		sequence := g.LastSequence
		for {
			select {
			case <-stop:
				acked <- sequence
				return
			default:
			}
			cp := checkpoint(t, "82AA", sequence+1)
			err := insist(ctx, func() error { return s.SaveFenced(ctx, "k", g.Fence, cp) })
			if err != nil {
				t.Errorf("SaveFenced: %v", err)
				acked <- sequence
				return
			}
			sequence++
			read, err := load(ctx, other, "k")
			if err != nil || read.Sequence < sequence {
				t.Errorf("another store loads sequence %d, %v; %d was acknowledged", read.Sequence, err, sequence)
			}
		}
	}()

	rounds := 3
	if campaign.Full(t) {
		rounds = 30
	}
	for n := range rounds {
		if n%3 == 1 {
			primary, err := server.Primary(ctx)
			want(t, err, nil, "Primary")
			want(t, primary.Kill(), nil, "Kill")
			_, err = server.Primary(ctx)
			want(t, err, nil, "the next primary")
			want(t, primary.Start(ctx), nil, "Start")
		} else {
			want(t, server.StepDown(ctx), nil, "StepDown")
		}
		err := insist(ctx, func() error {
			_, err := other.Acquire(ctx, "k", state.LeaseRequest{Owner: "second", Nonce: "m", TTL: time.Hour})
			return err
		})
		want(t, err, state.ErrLeaseHeld, "Acquire by another")
	}
	close(stop)
	last := <-acked
	cp, err := load(ctx, other, "k")
	want(t, err, nil, "Load")
	if cp.Sequence != last || last < uint64(rounds) {
		t.Errorf("loaded sequence %d, %d was acknowledged", cp.Sequence, last)
	}

	stolen, err := other.Acquire(ctx, "k", state.LeaseRequest{Owner: "second", Nonce: "m", TTL: time.Hour, Steal: true})
	want(t, err, nil, "Acquire by force")
	if stolen.Fence.Epoch != g.Fence.Epoch+1 || stolen.LastSequence != last {
		t.Errorf("granted epoch %d and sequence %d, want %d and %d", stolen.Fence.Epoch, stolen.LastSequence, g.Fence.Epoch+1, last)
	}
	want(t, server.StepDown(ctx), nil, "StepDown")
	err = insist(ctx, func() error { return s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AB", last+1)) })
	want(t, err, state.ErrFenced, "SaveFenced by the first owner")
}

// insist repeats what may succeed later, for a minute.
func insist(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := f()
		var e *state.Error
		if err == nil || !errors.As(err, &e) || !e.Retryable() || ctx.Err() != nil {
			return err
		}
	}
}

func load(ctx context.Context, s *mongostore.Store, key string) (cp state.Checkpoint, err error) {
	err = insist(ctx, func() error {
		cp, err = s.Load(ctx, key)
		return err
	})
	return cp, err
}

// Without a majority a save is not acknowledged, in the time that the options allow.
func TestNoMajority(t *testing.T) {
	t.Parallel()
	server := mongod.OwnForTest(t, mongod.Options{Nodes: 3})
	ctx := t.Context()
	s := open(t, at(server.URI(), "rigatoni.checkpoints"), &mongostore.Options{CallTimeout: 5 * time.Second})
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
	primary, err := server.Primary(ctx)
	want(t, err, nil, "Primary")
	for _, n := range server.Nodes() {
		if n != primary {
			want(t, n.Pause(), nil, "Pause")
		}
	}
	err = s.Save(ctx, "k", checkpoint(t, "82AB", 2))
	want(t, err, state.ErrUnavailable, "Save without a majority")
	_, err = s.Load(ctx, "k")
	want(t, err, state.ErrUnavailable, "Load without a majority")
	for _, n := range server.Nodes() {
		if n != primary {
			want(t, n.Resume(), nil, "Resume")
		}
	}
	want(t, insist(ctx, func() error { return s.Save(ctx, "k", checkpoint(t, "82AB", 2)) }), nil, "Save with a majority")
}
