package mongostore

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// Save implements [state.Store].
func (s *Store) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	err := record.CheckSave(key, cp)
	if err == nil {
		err = s.change(ctx, key, func(rec record.Record, now time.Time) (record.Record, error) {
			return record.Admit(rec, state.Fence{}, cp, now)
		})
	}
	return s.fail("save", key, err)
}

// SaveFenced implements [state.Leaser]. It is one update, unless it is refused or a
// repetition.
func (s *Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.fail("save", key, s.saveFenced(ctx, key, f, cp))
}

func (s *Store) saveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return err
	}
	saved := false
	err := s.call(ctx, func(ctx context.Context) error {
		if f.IsZero() || f.Epoch > math.MaxInt64 {
			return state.ErrFenced
		}
		filter, update := conditional(key, f, cp)
		r, err := s.coll.UpdateOne(ctx, filter, update)
		saved = err == nil && r.MatchedCount == 1
		return err
	})
	if saved || err != nil {
		return err
	}
	// Refused, or a repetition: the record says which.
	return s.change(ctx, key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.Admit(rec, f, cp, now)
	})
}

// conditional returns the update that saves cp if the fence is the current one and the
// sequence is later than the last one. Otherwise it matches nothing.
func conditional(key string, f state.Fence, cp state.Checkpoint) (filter, update bson.D) {
	if cp.SavedAt.IsZero() {
		cp.SavedAt = time.Now()
	}
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = f.Epoch
	filter = fenced(key, f)
	set := bson.D{{Key: "checkpoint", Value: encodeCheckpoint(&cp)}, {Key: "rev", Value: bson.NewObjectID()}}
	if cp.Sequence != 0 {
		sequence := int64(cp.Sequence)
		filter = append(filter, bson.E{Key: "lastSequence", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: sequence}}}}})
		set = append(set, bson.E{Key: "lastSequence", Value: sequence})
	}
	return filter, bson.D{
		{Key: "$set", Value: set},
		{Key: "$unset", Value: bson.D{{Key: "cleared", Value: ""}}},
	}
}

const (
	// batchSize is the number of saves that are sent as one bulk write.
	batchSize = 500
	// batchWorkers is the number of saves that are made at once where a bulk write
	// didn't make them.
	batchWorkers = 16
)

// SaveBatch implements [state.BatchSaver]. Saves under a fence with a sequence are sent in
// bulk writes of up to 500. A bulk write doesn't say which of its updates matched; if not
// all did, its saves are repeated one by one, which changes nothing for those that were
// made.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	var single, bulk []int
	for i := range items {
		switch it := &items[i]; {
		case errs[i] != nil:
		case it.Fence.IsZero() || it.Fence.Epoch > math.MaxInt64 || it.Checkpoint.Sequence == 0:
			single = append(single, i)
		default:
			bulk = append(bulk, i)
		}
	}
	for len(bulk) > 0 {
		n := min(batchSize, len(bulk))
		if !s.saveBulk(ctx, items, bulk[:n]) {
			single = append(single, bulk[:n]...)
		}
		bulk = bulk[n:]
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(batchWorkers, len(single)) {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(len(single)); n = next.Add(1) {
				i := single[n-1]
				it := items[i]
				if it.Fence.IsZero() {
					errs[i] = s.Save(ctx, it.Key, it.Checkpoint)
				} else {
					errs[i] = s.SaveFenced(ctx, it.Key, it.Fence, it.Checkpoint)
				}
			}
		})
	}
	workers.Wait()
	for i, err := range errs {
		if _, ours := err.(*state.Error); err != nil && !ours {
			errs[i] = s.fail("save", items[i].Key, err)
		}
	}
	return errs
}

// saveBulk reports whether all of the saves were made.
func (s *Store) saveBulk(ctx context.Context, items []state.Item, which []int) bool {
	models := make([]mongo.WriteModel, len(which))
	for n, i := range which {
		filter, update := conditional(items[i].Key, items[i].Fence, items[i].Checkpoint)
		models[n] = mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(update)
	}
	all := false
	err := s.call(ctx, func(ctx context.Context) error {
		r, err := s.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		all = err == nil && r.MatchedCount == int64(len(models))
		return err
	})
	return err == nil && all
}

// Load implements [state.Store].
func (s *Store) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	cp, err := s.load(ctx, key)
	return cp, s.fail("load", key, err)
}

func (s *Store) load(ctx context.Context, key string) (cp state.Checkpoint, err error) {
	if err := state.CheckKey(key); err != nil {
		return cp, err
	}
	err = s.call(ctx, func(ctx context.Context) error {
		raw, err := s.readCommitted(ctx, key)
		if err != nil {
			return err
		}
		if raw == nil {
			return state.ErrNotFound
		}
		rec, _, err := decode(raw)
		if err == nil {
			cp, err = rec.Load()
		}
		return err
	})
	return cp, err
}

// Clear implements [state.Store].
func (s *Store) Clear(ctx context.Context, key string) error {
	return s.fail("clear", key, s.clear(ctx, key, state.Fence{}))
}

// ClearFenced implements [state.Leaser].
func (s *Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	var err error
	if f.IsZero() {
		if err = state.CheckKey(key); err == nil {
			err = s.call(ctx, func(context.Context) error { return state.ErrFenced })
		}
	} else {
		err = s.clear(ctx, key, f)
	}
	return s.fail("clear", key, err)
}

func (s *Store) clear(ctx context.Context, key string, f state.Fence) error {
	return s.change(ctx, key, func(rec record.Record, now time.Time) (record.Record, error) {
		return record.AdmitClear(rec, f, now)
	})
}

// Forget implements [state.Forgetter]. It also removes a document that can't be read.
func (s *Store) Forget(ctx context.Context, key string) error {
	err := s.change(ctx, key, func(rec record.Record, now time.Time) (record.Record, error) {
		if rec.Live(now) {
			return rec, &state.HeldError{Owner: rec.Owner, Until: rec.LeaseUntil}
		}
		return record.Record{}, nil
	})
	if unreadable(err) {
		err = s.call(ctx, func(ctx context.Context) error {
			_, err := s.coll.DeleteOne(ctx, bson.D{{Key: "_id", Value: key}})
			return err
		})
	}
	return s.fail("forget", key, err)
}
