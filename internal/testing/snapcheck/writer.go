package snapcheck

import (
	"context"
	"math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// A writer is one of a load's.
type writer struct {
	load *Load
	rng  *rand.Rand
}

// run does something again and again, with pauses between.
func (w *writer) run(ctx context.Context, pause time.Duration, do func(context.Context)) {
	for {
		d := time.Duration(w.rng.Float64() * 2 * float64(pause))
		if w.rng.IntN(4) == 0 {
			d = 0 // several in a row
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(d):
		}
		// What is under way at the end is done before the last document is written: the
		// server may execute what its client has given up.
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		do(once)
		cancel()
	}
}

// pick returns a collection and a slot. Small collections are as busy as large ones.
func (w *writer) pick() (Collection, int) {
	c := w.load.Collections[w.rng.IntN(len(w.load.Collections))]
	n := c.Docs + c.Docs/3 + len(specials) + 10
	switch w.rng.IntN(5) {
	case 0:
		return c, w.rng.IntN(len(specials))
	case 1:
		return c, w.rng.IntN(1+n/20) * 19 % n // some are hot
	default:
		return c, w.rng.IntN(n)
	}
}

// write makes one write or one transaction.
func (w *writer) write(ctx context.Context) {
	if w.load.Transactions || w.rng.IntN(10) == 0 {
		w.transact(ctx)
		return
	}
	c, slot := w.pick()
	_ = w.one(ctx, c, slot)
}

// one makes one write of one document.
func (w *writer) one(ctx context.Context, c Collection, slot int) error {
	coll := w.load.coll(c.Name)
	id := idOf(slot, w.rng.IntN(4))
	filter := bson.D{{Key: "_id", Value: id}}
	s := w.load.stamp(c.size(slot))
	kind, err := 0, error(nil)
	var res *mongo.UpdateResult
	switch p := w.rng.IntN(100); {
	case p < 25:
		kind = inserts
		if _, err = coll.InsertOne(ctx, s.document(id)); err == nil {
			w.load.acked.Store(s, struct{}{})
		}
	case p < 65:
		kind = updates
		res, err = coll.UpdateOne(ctx, filter, bson.D{{Key: "$set", Value: s.fields()}}, options.UpdateOne().SetUpsert(p < 30))
	case p < 80:
		kind = replaces
		res, err = coll.ReplaceOne(ctx, filter, s.fields())
	default:
		kind = deletes
		_, err = coll.DeleteOne(ctx, filter)
	}
	if err == nil {
		w.load.done[kind].Add(1)
	}
	if err == nil && res != nil && res.MatchedCount+res.UpsertedCount > 0 && mongo.SessionFromContext(ctx) == nil {
		w.load.acked.Store(s, struct{}{})
	}
	if mongo.SessionFromContext(ctx) != nil {
		w.load.acked.Delete(s)
	}
	return err
}

// transact makes writes of several collections in one transaction, some of them of the
// same document, and sometimes aborts it.
func (w *writer) transact(ctx context.Context) {
	session, err := w.load.DB.Client().StartSession(options.Session().SetDefaultTransactionOptions(
		options.Transaction().SetReadConcern(readconcern.Snapshot()).SetWriteConcern(writeconcern.Majority())))
	if err != nil {
		return
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	in := mongo.NewSessionContext(ctx, session)
	if session.StartTransaction() != nil {
		return
	}
	c, slot := w.pick()
	for range 2 + w.rng.IntN(5) {
		if w.rng.IntN(3) > 0 {
			c, slot = w.pick()
		}
		if w.one(in, c, slot) != nil { // such as a write conflict
			_ = session.AbortTransaction(context.WithoutCancel(ctx))
			return
		}
	}
	if w.rng.IntN(8) == 0 {
		_ = session.AbortTransaction(context.WithoutCancel(ctx))
		return
	}
	if session.CommitTransaction(ctx) == nil {
		w.load.done[transactions].Add(1)
	}
}

// upheave drops or renames a collection.
func (w *writer) upheave(ctx context.Context) {
	var may []string
	for _, c := range w.load.Collections {
		if !c.Calm {
			may = append(may, c.Name)
		}
	}
	if len(may) == 0 {
		return
	}
	name, other := may[w.rng.IntN(len(may))], may[w.rng.IntN(len(may))]
	var err error
	switch w.rng.IntN(5) {
	case 0:
		err = w.load.DB.Collection(name).Drop(ctx)
	case 1:
		err = w.load.DB.Collection(name).Drop(ctx)
		c, slot := w.pick()
		_ = w.one(ctx, c, slot)
	case 2:
		err = w.rename(ctx, name, other)
	case 3:
		err = w.rename(ctx, name, w.load.Away)
	default:
		if !w.load.OneWay {
			err = w.rename(ctx, w.load.Away, name)
		}
	}
	if err == nil {
		w.load.done[upheavals].Add(1)
	}
}

func (w *writer) rename(ctx context.Context, from, to string) error {
	db := w.load.DB.Name()
	return w.load.DB.Client().Database("admin").RunCommand(ctx, bson.D{
		{Key: "renameCollection", Value: db + "." + from}, {Key: "to", Value: db + "." + to}, {Key: "dropTarget", Value: true},
	}).Err()
}
