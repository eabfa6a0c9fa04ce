package changestream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func (w *fixture) update(coll string, id, v int) {
	w.t.Helper()
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: int32(v)}}}}
	if _, err := w.DB.Collection(coll).UpdateByID(w.t.Context(), int32(id), set); err != nil {
		w.t.Fatal(err)
	}
}

func (w *fixture) enableImages(coll string) {
	w.t.Helper()
	cmd := bson.D{{Key: "collMod", Value: coll}, {Key: "changeStreamPreAndPostImages", Value: bson.D{{Key: "enabled", Value: true}}}}
	if err := w.DB.RunCommand(w.t.Context(), cmd).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// Images are required from now on, and the event of the checkpoint has none. It was
// delivered: what comes after it is.
func TestImagesRequiredLater(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		for name, required := range map[string]Options{
			"before": {FullDocumentBeforeChange: "required"},
			"after":  {FullDocument: "required"},
			"filter": {FullDocumentBeforeChange: "required", Pipeline: Pipeline{{{Key: "$match", Value: bson.D{{Key: "operationType", Value: "update"}}}}}},
		} {
			t.Run(name, func(t *testing.T) {
				w := w.with(t, w.DB)
				w.drop("c")
				w.insert("c", 1)
				old := required
				old.FullDocument, old.FullDocumentBeforeChange = "", ""
				old.Collections, required.Collections = []string{"c"}, []string{"c"}
				st := w.open(w.source(old), "", rigatoni.Start{})
				w.update("c", 1, 1) // without images
				st.collect(1)
				cp := st.checkpoint()

				src := w.source(required)
				idle := w.open(src, "", at(cp)) // at the event itself, and nothing after it
				w.enableImages("c")
				w.update("c", 1, 2)
				w.update("c", 1, 3)
				want := []string{`update c {"$numberInt":"1"}`, `update c {"$numberInt":"1"}`}
				wantNames(t, idle.collect(2), want...)
				wantNames(t, w.open(src, "", at(cp)).collect(2), want...)
			})
		}
	})
}

// The same with an event without an image further on: what comes before it is
// delivered, and it, not another one, is blamed.
func TestTheRightEventIsBlamed(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		w.insert("c", 1, 2)
		w.insert("d", 1)
		st := w.open(w.source(Options{Collections: []string{"c", "d"}}), "", rigatoni.Start{})
		w.update("c", 1, 1) // without an image
		st.collect(1)
		cp := st.checkpoint()
		w.enableImages("c")
		w.update("c", 1, 2)
		w.update("c", 2, 2)
		w.insert("d", 2)
		w.update("d", 2, 1) // without an image
		w.update("c", 1, 3)

		st = w.open(w.source(Options{Collections: []string{"c", "d"}, FullDocumentBeforeChange: "required"}), "", at(cp))
		events, err := st.fail()
		wantNames(t, events, `update c {"$numberInt":"1"}`, `update c {"$numberInt":"2"}`, `insert d {"$numberInt":"2"}`)
		if err == nil || !strings.Contains(err.Error(), "the update in "+w.DB.Name()+".d at ") {
			t.Errorf("%v", err)
		}
		if !errors.Is(err, ErrUnreadable) {
			t.Errorf("%v is not an ErrUnreadable", err)
		}
	})
}

// The checkpoint is inside a transaction: the rest of the transaction comes, although
// all of it has the time of the event that can't be read any more.
func TestImagesRequiredInsideATransaction(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		w.insert("c", 1)
		st := w.open(w.source(Options{Collections: []string{"c"}}), "", rigatoni.Start{})
		session, err := w.Client.StartSession()
		if err != nil {
			t.Fatal(err)
		}
		defer session.EndSession(t.Context())
		err = mongo.WithSession(t.Context(), session, func(ctx context.Context) error {
			if err := session.StartTransaction(); err != nil {
				return err
			}
			set := bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: int32(1)}}}}
			_, err1 := w.DB.Collection("c").InsertOne(ctx, bson.D{{Key: "_id", Value: int32(5)}})
			_, err2 := w.DB.Collection("c").UpdateByID(ctx, int32(1), set)
			_, err3 := w.DB.Collection("c").InsertOne(ctx, bson.D{{Key: "_id", Value: int32(6)}})
			_, err4 := w.DB.Collection("c").InsertOne(ctx, bson.D{{Key: "_id", Value: int32(7)}})
			return errors.Join(err1, err2, err3, err4, session.CommitTransaction(ctx))
		})
		if err != nil {
			t.Fatal(err)
		}
		events := st.collect(4)
		pos, err := rigatoni.PositionAfter(events[1])
		if err != nil {
			t.Fatal(err)
		}
		w.insert("c", 8)
		src := w.source(Options{Collections: []string{"c"}, FullDocumentBeforeChange: "required"})
		wantNames(t, w.open(src, "", at(checkpointOf(pos, st.Fingerprint()))).collect(3), inserted("c", 6, 7, 8)...)
	})
}

// An expression of the pipeline that worked for an event may fail for it later, with
// the document as it is then.
func TestPipelineFailsOnTheEventOfThePosition(t *testing.T) {
	t.Run("mongod", func(t *testing.T) { // mongotest has no expression that fails for a value
		w := newFixture(t, testserver.Mongod(t))
		w.insert("c", 1, 2)
		w.update("c", 1, 1)
		src := w.source(Options{Collections: []string{"c"}, FullDocument: "updateLookup", Pipeline: Pipeline{
			{{Key: "$addFields", Value: bson.D{{Key: "q", Value: bson.D{{Key: "$divide", Value: bson.A{1, "$fullDocument.v"}}}}}}},
		}})
		st := w.open(src, "", rigatoni.Start{})
		w.update("c", 1, 2)
		st.collect(1)
		cp := st.checkpoint()
		if _, err := w.DB.Collection("c").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: int32(1)}}); err != nil {
			t.Fatal(err)
		}
		w.DB.Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: int32(1)}, {Key: "v", Value: int32(0)}}) // its event fails, too
		st = w.open(src, "", at(cp))
		events, err := st.fail()
		if len(events) != 1 || err == nil || !strings.Contains(err.Error(), "Options.Pipeline fails on an event after") {
			t.Errorf("%v, %v", names(events), err)
		}
	})
}

// An error that nobody knows, with every getMore, ends the stream after a while.
func TestAnUnknownErrorThatStays(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		for _, command := range []string{"getMore", "aggregate"} {
			src := w.source(Options{Collections: []string{"c"}, ReopenMax: 200 * time.Millisecond})
			src.limits.unknown = 2 * time.Second
			st := w.open(src, "", rigatoni.Start{})
			before := w.log.count("change stream interrupted")
			kill := w.CursorKiller(t)
			w.failPoint("failCommand", "alwaysOn", failCommand(command, 7777))
			kill()
			begin := time.Now()
			_, err := st.fail()
			if d := time.Since(begin); d < src.limits.unknown || d > 30*time.Second {
				t.Errorf("%s: after %v", command, d)
			}
			if !strings.Contains(err.Error(), "code 7777") || !strings.Contains(err.Error(), "tried for 2s") || errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", command, err)
			}
			if n := w.log.count("change stream interrupted") - before; n != 1 {
				t.Errorf("%s: %d warnings:\n%s", command, n, w.log)
			}
			w.Server.FailPointOff(t, "failCommand")
		}
	})
}
