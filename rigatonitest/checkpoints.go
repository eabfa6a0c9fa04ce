package rigatonitest

import (
	"context"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Checkpoints is the store of the database's checkpoints. It has leases.
func (c *Client) Checkpoints() state.Store { return checkpoints{c} }

// checkpoints is the store on a database's records.
type checkpoints struct{ client *Client }

var _ state.Leaser = checkpoints{}

func (s checkpoints) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.save(ctx, key, state.Fence{}, cp)
}

func (s checkpoints) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if f.IsZero() {
		return failed(state.OpSave, key, state.ErrFenced)
	}
	return s.save(ctx, key, f, cp)
}

func (s checkpoints) save(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return failed(state.OpSave, key, err)
	}
	cp = cp.Clone()
	_, err := change(ctx, s, state.OpSave, key, func(old record.Record) (after record.Record, _ struct{}, err error) {
		after, err = record.Admit(old, f, cp, time.Now())
		return after, struct{}{}, err
	})
	return err
}

func (s checkpoints) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	return change(ctx, s, state.OpLoad, key, func(old record.Record) (record.Record, state.Checkpoint, error) {
		cp, err := old.Load()
		return old, cp.Clone(), err
	})
}

func (s checkpoints) Clear(ctx context.Context, key string) error {
	return s.clear(ctx, key, state.Fence{})
}

func (s checkpoints) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	if f.IsZero() {
		return failed(state.OpClear, key, state.ErrFenced)
	}
	return s.clear(ctx, key, f)
}

func (s checkpoints) clear(ctx context.Context, key string, f state.Fence) error {
	_, err := change(ctx, s, state.OpClear, key, func(old record.Record) (after record.Record, _ struct{}, err error) {
		after, err = record.AdmitClear(old, f, time.Now())
		return after, struct{}{}, err
	})
	return err
}

func (s checkpoints) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	if err := record.CheckLeaseRequest(r); err != nil {
		return state.Grant{}, failed(state.OpAcquire, key, err)
	}
	return change(ctx, s, state.OpAcquire, key, func(old record.Record) (record.Record, state.Grant, error) {
		after, g, err := record.AdmitAcquire(old, r, time.Now())
		g.Checkpoint = g.Checkpoint.Clone()
		return after, g, err
	})
}

func (s checkpoints) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	_, err := change(ctx, s, state.OpRenew, key, func(old record.Record) (after record.Record, _ struct{}, err error) {
		after, err = record.AdmitRenew(old, f, ttl, time.Now())
		return after, struct{}{}, err
	})
	return err
}

func (s checkpoints) Release(ctx context.Context, key string, f state.Fence) error {
	_, err := change(ctx, s, state.OpRelease, key, func(old record.Record) (record.Record, struct{}, error) {
		return record.AdmitRelease(old, f), struct{}{}, nil
	})
	return err
}

// change executes a call of the store: f makes the new record of the old one, and
// the call's answer.
func change[T any](ctx context.Context, s checkpoints, op state.Op, key string, f func(record.Record) (record.Record, T, error)) (T, error) {
	var none T
	if err := state.CheckKey(key); err != nil {
		return none, failed(op, key, err)
	}
	db := s.client.db
	answer := make(chan T, 1)
	err := s.client.do(ctx, func(step func(Step) error) error {
		if err := step(Step{Point: Called, Op: op}); err != nil {
			return err
		}
		defer db.begin()()
		old := db.read(key)
		after, v, err := f(old)
		if err != nil {
			return err
		}
		db.commit(key, after, nil)
		answer <- v
		return step(Step{Point: Executed, Op: op})
	})
	if err != nil {
		return none, failed(op, key, err)
	}
	return <-answer, nil
}

// unavailable is a fault as a store reports it.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
}

func failed(op state.Op, key string, err error) error {
	return &state.Error{Op: string(op), Store: "rigatonitest", Key: key, Err: err}
}
