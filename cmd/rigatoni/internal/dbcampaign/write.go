package dbcampaign

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// attemptTime is how long one attempt to write may take, and giveUpTime how long the
// source may take no writes.
const (
	attemptTime = 15 * time.Second
	giveUpTime  = 3 * time.Minute
)

// A Journal has the changes of each document that were acknowledged by a majority, in
// their order.
type Journal map[Doc][]Change

// A writer carries out a plan, in one part or several.
type writer struct {
	db      *mongo.Database
	is      contents // of what is written
	lanes   []*lane
	rate    int  // changes a second; 0: no limit
	when    When // that of the part
	written atomic.Int64
	journal Journal // of all parts
}

// give gives the lanes n changes to make.
func (w *writer) give(n int) {
	for i, l := range w.lanes {
		l.left = n / len(w.lanes)
		if i < n%len(w.lanes) {
			l.left++
		}
	}
}

// run makes the changes that the lanes were given.
func (w *writer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for _, l := range w.lanes {
		wg.Go(func() {
			if err := w.runLane(ctx, l, func(s step) {
				mu.Lock()
				defer mu.Unlock()
				for _, c := range s.changes {
					c.When = w.when
					w.journal[c.Doc] = append(w.journal[c.Doc], c)
				}
			}); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

func (w *writer) runLane(ctx context.Context, l *lane, record func(step)) error {
	next := time.Now()
	for l.left > 0 {
		s := l.next()
		if err := w.write(ctx, s); err != nil {
			return err
		}
		record(s)
		w.written.Add(int64(len(s.changes)))
		if w.rate > 0 {
			next = next.Add(time.Duration(len(s.changes)*len(w.lanes)) * time.Second / time.Duration(w.rate))
		}
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// write carries out a step, and returns when it is certain that each of its changes was
// made, once.
func (w *writer) write(ctx context.Context, s step) error {
	deadline := time.Now().Add(giveUpTime)
	for again := false; ; again = true {
		err := w.attempt(ctx, s, again)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the source has taken no writes for %v: %w", giveUpTime, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// attempt makes the step. Where the outcome of an earlier attempt is unknown, what was
// made is found by a read that a majority confirms, so that it stays made.
func (w *writer) attempt(ctx context.Context, s step, again bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if again {
		if s, err = w.unmade(ctx, s); err != nil || len(s.changes) == 0 {
			return err
		}
	}
	if s.txn != "" {
		return w.transaction(ctx, s)
	}
	return w.bulk(ctx, s)
}

// unmade is the part of a step that is not yet made: of a transaction all, or nothing.
func (w *writer) unmade(ctx context.Context, s step) (step, error) {
	if s.txn != "" {
		err := w.marks(readconcern.Linearizable()).FindOne(ctx, bson.D{{Key: "_id", Value: s.txn}}).Err()
		switch {
		case err == nil:
			s.changes = nil
		case errors.Is(err, mongo.ErrNoDocuments):
			err = nil
		}
		return s, err
	}
	var left step
	for _, c := range s.changes { // of different documents
		switch version, err := w.version(ctx, c); {
		case err != nil:
			return s, err
		case c.Op == "delete" && version != 0, c.Op != "delete" && version != c.Version:
			left.changes = append(left.changes, c)
		}
	}
	return left, nil
}

// marks is a collection, outside of what is watched, with a document for each
// transaction, which is part of it.
func (w *writer) marks(rc *readconcern.ReadConcern) *mongo.Collection {
	return w.db.Client().Database(w.db.Name()+"_marks").Collection("transactions", options.Collection().SetReadConcern(rc))
}

// version is that of the document now; 0 if there is none.
func (w *writer) version(ctx context.Context, c Change) (int, error) {
	confirmed := w.db.Collection(c.Doc.Coll, options.Collection().SetReadConcern(readconcern.Linearizable()))
	var doc struct {
		V int `bson:"v"`
	}
	err := confirmed.FindOne(ctx, bson.D{{Key: "_id", Value: c.Doc.id(c.Life)}}).Decode(&doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, nil
	}
	return doc.V, err
}

func (w *writer) bulk(ctx context.Context, s step) error {
	models := make([]mongo.WriteModel, len(s.changes))
	for i, c := range s.changes {
		models[i] = c.model(w.is)
	}
	r, err := w.db.Collection(s.changes[0].Doc.Coll).BulkWrite(ctx, models)
	if err != nil {
		return err
	}
	return complete(r.InsertedCount+r.MatchedCount+r.DeletedCount, s)
}

// complete is the error of a write that had no effect on some documents: they are not
// as the plan says.
func complete(n int64, s step) error {
	if n != int64(len(s.changes)) {
		return fmt.Errorf("of %v only %d had an effect", s.changes, n)
	}
	return nil
}

func (w *writer) transaction(ctx context.Context, s step) error {
	session, err := w.db.Client().StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		if _, err := w.marks(nil).InsertOne(ctx, bson.D{{Key: "_id", Value: s.txn}}); err != nil {
			return nil, err
		}
		for _, c := range s.changes {
			if err := w.bulk(ctx, step{changes: []Change{c}}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}, options.Transaction().SetWriteConcern(writeconcern.Majority()))
	return err
}

// before is the document as it must be for the change to be made.
func (c Change) before() bson.D {
	return bson.D{{Key: "_id", Value: c.Doc.id(c.Life)}, {Key: "v", Value: int32(c.Version - 1)}}
}

func (c Change) model(of contents) mongo.WriteModel {
	switch c.Op {
	case "insert":
		return mongo.NewInsertOneModel().SetDocument(c.document(of))
	case "update":
		return mongo.NewUpdateOneModel().SetFilter(c.before()).SetUpdate(bson.D{{Key: "$set", Value: c.content(of)}})
	case "replace":
		return mongo.NewReplaceOneModel().SetFilter(c.before()).SetReplacement(c.document(of)[1:])
	default:
		return mongo.NewDeleteOneModel().SetFilter(c.before())
	}
}
