package mongodb

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// What no longer exists when a copy has ended is what neither the copy nor a later event has
// touched. A mirror's documents are the user's, so no version is written into them. While a
// copy is under way, each document that is written is marked in a collection beside that of
// the checkpoints, with its version, in the same transaction; what has no mark as new as the
// copy is deleted at its end, and then the marks are. Outside of copies, and in the first copy
// into a collection that was empty, nothing is marked: that costs nothing.
type mark struct {
	ID      markID `bson:"_id"`
	Version string `bson:"v"`
}

type markID struct {
	Target string        `bson:"t"`
	ID     bson.RawValue `bson:"i"`
}

// versionOf is an event's version: its token, whose text is in the order of the stream.
func versionOf(ev rigatoni.Event) (string, error) {
	token, err := ev.Token()
	if err != nil {
		return "", fmt.Errorf("mongodb: the %s event has no usable token: %w", ev.OperationType(), err)
	}
	return version(token)
}

func version(t resumetoken.Token) (string, error) {
	data, ok := t.Raw().Lookup("_data").StringValueOK()
	if !ok {
		return "", errors.New("mongodb: the resume token is none of MongoDB 4.2 or later")
	}
	return data, nil
}

// mark is the write that marks a document as touched.
func (t *target) mark(ev rigatoni.Event, id bson.RawValue) (mongo.WriteModel, error) {
	v, err := versionOf(ev)
	if err != nil {
		return nil, rigatoni.Permanent(err)
	}
	m := mark{markID{t.name.String(), id}, v}
	return mongo.NewReplaceOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}}).SetReplacement(m).SetUpsert(true), nil
}

// marksOf is the filter of a target's marks.
func (t *target) marksOf() bson.D {
	bound := func(id any) bson.D {
		return bson.D{{Key: "t", Value: t.name.String()}, {Key: "i", Value: id}}
	}
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: bound(bson.MinKey{})}, {Key: "$lte", Value: bound(bson.MaxKey{})}}}}
}

// Sweep deletes the documents of a mirror that the copy did not find.
func (s *sink) Sweep(ctx context.Context, end rigatoni.SnapshotEnd) error {
	t := s.targets[end.Namespace]
	if t == nil {
		return nil // nothing of it was ever mirrored
	}
	err := s.sweep(ctx, t, end)
	if isCode(err, codeUnauthorized) {
		return s.d.lacking(ctx, err, map[rigatoni.Namespace]*target{end.Namespace: t})
	}
	return err
}

func (s *sink) sweep(ctx context.Context, t *target, end rigatoni.SnapshotEnd) error {
	began, err := version(end.Began)
	if err != nil {
		return rigatoni.Permanent(err)
	}
	if t.since == "" || t.since < began {
		if !t.marked {
			return rigatoni.Permanent(fmt.Errorf("mongodb: %s was new in a copy that began after its first event; it is not swept, because nothing of it was marked", t.name))
		}
		if err := s.deleteUnmarked(ctx, t, began); err != nil {
			return err
		}
		// Before the marks go: without them a repetition would delete everything.
		err := s.txs.Fenced(ctx, s.fence, func(ctx context.Context) error {
			_, err := s.d.registry.UpdateOne(ctx, bson.D{{Key: "_id", Value: t.name.String()}}, bson.D{{Key: "$set", Value: bson.D{{Key: "since", Value: began}}}})
			return wrapped(err, "noting the end of a copy of", t.name)
		})
		if err != nil {
			return err
		}
		t.since = began
	}
	_, err = s.d.marks.DeleteMany(ctx, t.marksOf())
	return wrapped(err, "deleting the marks of a copy of", t.name)
}

// deleteUnmarked deletes what has no mark as new as began, page by page in the order of _id.
// An attempt that is cut off continues where it was.
func (s *sink) deleteUnmarked(ctx context.Context, t *target, began string) error {
	if s.sweeping.target != t || s.sweeping.began != began {
		s.sweeping = sweeping{target: t, began: began}
	}
	for s.sweeping.after.Type != bson.TypeMaxKey {
		ids, err := s.nextIDs(ctx, t)
		if err != nil {
			return err
		}
		if len(ids) == 0 { // the largest _id is before no other, and so beyond all bounds
			ids = bson.A{bson.RawValue{Type: bson.TypeMaxKey}}
		}
		if err := s.deletePage(ctx, t, ids, began); err != nil {
			return err
		}
		s.sweeping.after = ids[len(ids)-1].(bson.RawValue)
	}
	return nil
}

// A sweeping is how far a sweep has got.
type sweeping struct {
	target *target
	began  string
	after  bson.RawValue // the last _id that was looked at
}

// nextIDs reads the next _id values, of all types: bounds of a comparison would have those of
// one type only, the bounds of an index don't.
func (s *sink) nextIDs(ctx context.Context, t *target) (bson.A, error) {
	idIndex := bson.D{{Key: "_id", Value: 1}}
	opts := options.Find().SetProjection(idIndex).SetHint(idIndex).SetSort(idIndex).SetLimit(pageDocuments + 1)
	after := s.sweeping.after
	if after.Type != 0 {
		opts.SetMin(bson.D{{Key: "_id", Value: after}})
	}
	cur, err := t.coll.Find(ctx, bson.D{}, opts)
	var docs []bson.Raw
	if err == nil {
		err = cur.All(ctx, &docs)
	}
	if err != nil {
		return nil, wrapped(err, "reading", t.name)
	}
	var ids bson.A
	for _, doc := range docs {
		if id := doc.Lookup("_id"); after.Type == 0 || !id.Equal(after) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// deletePage deletes those that have no mark.
func (s *sink) deletePage(ctx context.Context, t *target, ids bson.A, began string) error {
	marked, err := s.markedOf(ctx, t, ids, began)
	if err != nil {
		return err
	}
	if len(marked) == len(ids) {
		return nil
	}
	// The server compares: 1 and 1.0 are the same _id.
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}, {Key: "$nin", Value: marked}}}}
	return s.txs.Fenced(ctx, s.fence, func(ctx context.Context) error {
		_, err := t.coll.DeleteMany(ctx, filter)
		return wrapped(err, "sweeping", t.name)
	})
}

// markedOf returns those of the _id values that have a mark as new as began.
func (s *sink) markedOf(ctx context.Context, t *target, ids bson.A, began string) (bson.A, error) {
	all, err := s.readMarks(ctx, t, ids, began)
	marked := bson.A{}
	for _, m := range all {
		marked = append(marked, m.ID.ID)
	}
	return marked, err
}

func (s *sink) readMarks(ctx context.Context, t *target, ids bson.A, began string) (all []mark, err error) {
	keys := make(bson.A, len(ids))
	for i, id := range ids {
		keys[i] = markID{t.name.String(), id.(bson.RawValue)}
	}
	cur, err := s.d.marks.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: keys}}}, {Key: "v", Value: bson.D{{Key: "$gte", Value: began}}}})
	if err == nil {
		err = cur.All(ctx, &all)
	}
	return all, wrapped(err, "reading the marks of a copy of", t.name)
}

// moveMarks moves the marks of documents that are moved to another collection.
func (s *sink) moveMarks(ctx context.Context, from, to *target, ids bson.A) error {
	all, err := s.readMarks(ctx, from, ids, "")
	if err != nil || len(all) == 0 {
		return err
	}
	var models []mongo.WriteModel
	for _, m := range all {
		models = append(models, mongo.NewDeleteOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}}))
		m.ID.Target = to.name.String()
		models = append(models, mongo.NewReplaceOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}}).SetReplacement(m).SetUpsert(true))
	}
	_, err = s.d.marks.BulkWrite(ctx, models)
	return wrapped(err, "moving the marks of a copy to", to.name)
}

// tidy begins a session: at a first start that was accepted, what is there is of unknown age;
// and where no copy is under way, marks are left over.
func (d *Destination) tidy(ctx context.Context, o rigatoni.Opening, targets map[rigatoni.Namespace]*target) error {
	if len(targets) == 0 {
		return nil
	}
	if o.FirstStart {
		unknown := bson.D{{Key: "$unset", Value: bson.D{{Key: "since", Value: ""}}}}
		if _, err := d.registry.UpdateMany(ctx, bson.D{{Key: "key", Value: o.Key}}, unknown); err != nil {
			return fmt.Errorf("mongodb: writing to %s: %w", d.registry.Name(), explained(err))
		}
		for _, t := range targets {
			t.since = ""
		}
	}
	switch err := d.marks.FindOne(ctx, bson.D{}).Err(); {
	case errors.Is(err, mongo.ErrNoDocuments):
		return nil
	case err != nil:
		return fmt.Errorf("mongodb: reading %s: %w", d.marks.Name(), explained(err))
	}
	if cp, err := d.store.Load(ctx, o.Key); err != nil || len(cp.Extra[rigatoni.ExtraSnapshot]) > 0 {
		return nil // the pipeline has read it, or there is none: a copy may begin
	}
	for _, t := range targets {
		if _, err := d.marks.DeleteMany(ctx, t.marksOf()); err != nil {
			return wrapped(err, "deleting the marks of a copy of", t.name)
		}
	}
	return nil
}
