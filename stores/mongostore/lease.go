package mongostore

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Acquire implements [state.Leaser]. Leases live by the primary's clock, to the
// millisecond.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	var grant state.Grant
	err := state.CheckKey(key)
	if err == nil {
		err = record.CheckLeaseRequest(r)
	}
	if err == nil {
		r.TTL = roundUp(r.TTL)
		err = s.change(ctx, key, func(rec record.Record, now time.Time) (after record.Record, err error) {
			after, grant, err = record.AdmitAcquire(rec, r, now)
			return after, err
		})
	}
	if err != nil {
		return state.Grant{}, s.fail("acquire", key, err)
	}
	return grant, nil
}

// Renew implements [state.Leaser].
func (s *Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.fail("renew", key, s.change(ctx, key, func(rec record.Record, now time.Time) (record.Record, error) {
		if err := record.CheckLeaseRequest(state.LeaseRequest{Nonce: "any", TTL: ttl}); err != nil {
			return rec, err
		}
		return record.AdmitRenew(rec, f, roundUp(ttl), now)
	}))
}

// Release implements [state.Leaser].
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	return s.fail("release", key, s.change(ctx, key, func(rec record.Record, _ time.Time) (record.Record, error) {
		return record.AdmitRelease(rec, f), nil
	}))
}

// roundUp returns d in whole milliseconds: a lease is never shorter than was asked for.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// List implements [state.Lister]. The keys are in order.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		stopped := false
		if err := s.list(ctx, prefix, func(e state.Entry) bool {
			stopped = !yield(e, nil)
			return !stopped
		}); err != nil && !stopped {
			yield(state.Entry{}, s.fail("list", "", err))
		}
	}
}

// list calls f with each entry until it returns false. There is no limit on the time, as
// f may be slow.
func (s *Store) list(ctx context.Context, prefix string, f func(state.Entry) bool) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	h, err := s.hello(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	return s.explain(ctx, s.afterAll(ctx, func(ctx context.Context) error {
		cur, err := s.coll.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: prefix}}}}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
		if err != nil {
			return err
		}
		defer cur.Close(context.WithoutCancel(ctx)) // otherwise the server closes it in the end
		for cur.Next(ctx) {
			key, ok := cur.Current.Lookup("_id").StringValueOK()
			if !ok || !strings.HasPrefix(key, prefix) {
				return nil
			}
			if e, there := s.entry(key, cur.Current, h.LocalTime); there && !f(e) {
				return nil
			}
		}
		return cur.Err()
	}))
}

// entry returns the entry of a document. A key is not there if it has neither a
// checkpoint nor a lease.
func (s *Store) entry(key string, raw bson.Raw, now time.Time) (e state.Entry, there bool) {
	e.Key = key
	rec, _, err := decode(raw)
	if err == nil {
		if rec.Live(now) {
			e.Owner, e.Until = rec.Owner, time.Now().Add(rec.LeaseUntil.Sub(now))
		}
		e.Checkpoint, err = rec.Load()
		if errors.Is(err, state.ErrNotFound) && !rec.Live(now) {
			return e, false
		}
	}
	e.LoadErr = s.fail("load", key, err)
	return e, true
}

// unreadable reports whether err says that a document is there and can't be read.
func unreadable(err error) bool {
	return errors.Is(err, state.ErrCorrupt)
}
