package crashtest

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

// attemptTime is how long one attempt to write may take, and giveUpTime how long
// the server may be away.
const (
	attemptTime = 15 * time.Second
	giveUpTime  = 3 * time.Minute
)

// A writer carries out a plan. What it counts and returns as written has been
// acknowledged by a majority.
type writer struct {
	db    *mongo.Database
	seed  uint64
	lanes []*lane
	batch int
	pause time.Duration // between two batches of a lane

	written atomic.Int64
}

func newWriter(client *mongo.Client, cfg *Config) *writer {
	w := &writer{
		db:    client.Database(cfg.Database, options.Database().SetWriteConcern(writeconcern.Majority())),
		seed:  cfg.Seed,
		lanes: lanes(cfg.Seed, cfg.Collections, cfg.Writers, cfg.Changes, cfg.Mix),
		batch: 100,
	}
	if cfg.Rate > 0 {
		perLane := float64(cfg.Rate) / float64(len(w.lanes))
		w.batch = min(100, max(1, int(perLane/20))) // what is due in 50 ms
		w.pause = time.Duration(float64(w.batch) / perLane * float64(time.Second))
	}
	return w
}

// run writes everything, and returns the changes of each document in their order.
func (w *writer) run(ctx context.Context) (map[Doc][]Change, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		done = map[Doc][]Change{}
	)
	for _, l := range w.lanes {
		wg.Go(func() {
			if err := w.runLane(ctx, l, func(c Change) {
				mu.Lock()
				defer mu.Unlock()
				done[c.Doc] = append(done[c.Doc], c)
			}); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("writing: %w", err)
	}
	return done, nil
}

func (w *writer) runLane(ctx context.Context, l *lane, record func(Change)) error {
	// By the clock, not by a pause after each batch, so that the rate is kept
	// when writing takes its time.
	next := time.Now()
	for l.left > 0 {
		batch := l.next(w.batch)
		if len(batch) == 0 {
			continue // it chose a document twice; the next choice is another
		}
		if err := w.write(ctx, l.coll, batch); err != nil {
			return err
		}
		for _, c := range batch {
			record(c)
		}
		w.written.Add(int64(len(batch)))
		next = next.Add(w.pause * time.Duration(len(batch)) / time.Duration(w.batch))
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// write carries out a batch, and returns when it is certain that each change of
// it has been made, once.
func (w *writer) write(ctx context.Context, coll string, batch []Change) error {
	models := make([]mongo.WriteModel, len(batch))
	for i, c := range batch {
		models[i] = c.model(w.seed)
	}
	attempt, cancel := context.WithTimeout(ctx, attemptTime)
	_, err := w.db.Collection(coll).BulkWrite(attempt, models, options.BulkWrite().SetOrdered(true))
	cancel()
	deadline := time.Now().Add(giveUpTime)
	for err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server has taken no writes for %v: %w", giveUpTime, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		err = w.settle(ctx, coll, batch)
	}
	return nil
}

// settle is for a batch whose outcome is unknown. A change can be made only
// from the version before it, so whether it has been made already is seen from
// its having no effect. A read that a majority confirms at the end makes sure
// that what was found made will stay so.
func (w *writer) settle(ctx context.Context, coll string, batch []Change) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	c := w.db.Collection(coll)
	for _, change := range batch {
		if err := change.make(ctx, c, w.seed); err != nil {
			return err
		}
	}
	confirm := w.db.Collection(coll, options.Collection().SetReadConcern(readconcern.Linearizable()))
	err := confirm.FindOne(ctx, bson.D{{Key: "_id", Value: batch[0].Doc.ID}}).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = nil // it was a delete
	}
	return err
}

// before is the document as it must be for the change to be made.
func (c Change) before() bson.D {
	return bson.D{{Key: "_id", Value: c.Doc.ID}, {Key: "v", Value: int32(c.Version - 1)}}
}

func (c Change) model(seed uint64) mongo.WriteModel {
	switch c.Op {
	case Insert:
		return mongo.NewInsertOneModel().SetDocument(c.document(seed))
	case Update:
		return mongo.NewUpdateOneModel().SetFilter(c.before()).SetUpdate(bson.D{{Key: "$set", Value: c.fields(seed)}})
	default:
		return mongo.NewDeleteOneModel().SetFilter(c.before())
	}
}

// make makes the change, unless it has been made.
func (c Change) make(ctx context.Context, coll *mongo.Collection, seed uint64) error {
	var err error
	switch c.Op {
	case Insert:
		if _, err = coll.InsertOne(ctx, c.document(seed)); mongo.IsDuplicateKeyError(err) {
			err = nil
		}
	case Update:
		_, err = coll.UpdateOne(ctx, c.before(), bson.D{{Key: "$set", Value: c.fields(seed)}})
	default:
		_, err = coll.DeleteOne(ctx, c.before())
	}
	return err
}
