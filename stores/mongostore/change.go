package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// read returns the document of a key, nil if there is none, as the primary has it. A
// write that depends on it has its revision as a condition, so that it matters neither
// whether a majority has it nor whether the primary has been deposed.
func (s *Store) read(ctx context.Context, key string) (bson.Raw, error) {
	return find(ctx, s.local, key)
}

// readCommitted returns the same, as a majority has it, with every write that was
// acknowledged before.
func (s *Store) readCommitted(ctx context.Context, key string) (raw bson.Raw, err error) {
	err = s.afterAll(ctx, func(ctx context.Context) error {
		raw, err = find(ctx, s.coll, key)
		return err
	})
	return raw, err
}

// afterAll calls f for reads that see every write that was acknowledged before. A write
// that changes nothing waits until a majority has all that the primary has; the reads, in
// the same session, are not from before that, on whatever server. A linearizable read says
// the same, and takes 100 ms on a set of one.
func (s *Store) afterAll(ctx context.Context, f func(context.Context) error) error {
	session, err := s.client.StartSession(options.Session().SetCausalConsistency(true))
	if err != nil {
		return err
	}
	defer session.EndSession(context.WithoutCancel(ctx)) // it sends nothing
	return mongo.WithSession(ctx, session, func(ctx context.Context) error {
		if _, err := s.coll.DeleteOne(ctx, bson.D{{Key: "_id", Value: ""}}); err != nil { // no key is empty
			return err
		}
		return f(ctx)
	})
}

func find(ctx context.Context, coll *mongo.Collection, key string) (bson.Raw, error) {
	raw, err := coll.FindOne(ctx, bson.D{{Key: "_id", Value: key}}).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	return raw, err
}

// change reads the record of a key, and writes what f makes of it, if nobody else wrote
// it meanwhile; otherwise it starts over. f gets the primary's clock.
//
// A call that would write what is there already writes it all the same: the answer then
// means that a majority has it.
func (s *Store) change(ctx context.Context, key string, f func(record.Record, time.Time) (record.Record, error)) error {
	if err := state.CheckKey(key); err != nil {
		return err
	}
	return s.call(ctx, func(ctx context.Context) error {
		for n := 0; ; n++ {
			done, err := s.changeOnce(ctx, key, f)
			if done || err != nil {
				return err
			}
			if err := backoff.Wait(ctx, backoff.Duration(time.Millisecond, 100*time.Millisecond, n)); err != nil {
				return fmt.Errorf("%w: other writers were always faster: %w", state.ErrUnavailable, err)
			}
		}
	})
}

func (s *Store) changeOnce(ctx context.Context, key string, f func(record.Record, time.Time) (record.Record, error)) (done bool, err error) {
	// The clock first: a lease that is granted from it ends rather too early.
	h, err := s.hello(ctx)
	if err != nil {
		return false, err
	}
	raw, err := s.read(ctx, key)
	if err != nil {
		return false, err
	}
	var before record.Record
	var rev bson.ObjectID
	if raw != nil {
		if before, rev, err = decode(raw); err != nil {
			return false, err
		}
	}
	after, err := f(before, h.LocalTime)
	if err != nil {
		return false, err
	}
	same := bson.D{{Key: "_id", Value: key}, {Key: "rev", Value: rev}}
	doc := encode(key, &after)
	if session, ok := raw.Lookup("session").DocumentOK(); ok {
		if after.Nonce == before.Nonce {
			doc.Session = session
		} else {
			s.kill(ctx, session) // its transaction would hold up the write
		}
	}
	switch {
	case raw == nil && after.IsEmpty():
		// The answer waits for all writes before, such as the one that deleted it.
		_, err := s.coll.DeleteOne(ctx, same)
		return err == nil, err
	case raw == nil:
		_, err := s.coll.InsertOne(ctx, doc)
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		return err == nil, err
	case after.IsEmpty():
		r, err := s.coll.DeleteOne(ctx, same)
		return err == nil && r.DeletedCount == 1, err
	}
	r, err := s.coll.ReplaceOne(ctx, same, doc)
	return err == nil && r.MatchedCount == 1, err
}
