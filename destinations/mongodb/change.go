package mongodb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A change is a drop or a rename of a whole collection. The mirror does it document by
// document, in many transactions under the fence. (Commands that drop and rename belong to no
// transaction: an owner that was frozen and thaws could drop what its successor has written.)
//
// Interrupted, it is repeated, after what comes before it in its batch. When it is done that is on
// record, and nothing up to it is repeated: what came after it in the batch may be there already.
type change struct {
	from *target // nil: nothing of it was ever mirrored
	to   *target // nil: the documents are deleted
	id   string  // of the event
}

// changeOf is what an event of a whole collection means, by the policy; nil for nothing.
func (s *sink) changeOf(ctx context.Context, ev rigatoni.Event) (*change, error) {
	ns := ev.Namespace()
	what := fmt.Sprintf("%s was dropped", quote.Name(ns.String()))
	to, renamed := renamedTo(ev)
	if renamed {
		what = fmt.Sprintf("%s was renamed to %s", quote.Name(ns.String()), quote.Name(to.String()))
	}
	if !renamed && s.targets[ns] == nil {
		return nil, nil // nothing of it was ever mirrored
	}
	switch s.d.opts.OnDrop {
	case Stop:
		return nil, rigatoni.Permanent(fmt.Errorf(
			"mongodb: %s in the source; its mirror is %s; set on-drop to apply to do the same there, document by document, or to ignore to leave its documents as they are", what, s.d.names.of(ns)))
	case Ignore:
		s.d.opts.Logger.Warn("not mirrored: the documents stay as they are", "key", s.key, "operation", ev.OperationType(), "namespace", ns.String(), "mirror", s.d.names.of(ns).String())
		return nil, nil
	}
	version, err := versionOf(ev)
	if err != nil {
		return nil, rigatoni.Permanent(err)
	}
	c := &change{from: s.targets[ns], id: version}
	if renamed && s.watches(to) {
		if c.to = s.targets[to]; c.to == nil {
			c.to, err = s.claimRenamed(ctx, to, version)
		}
	}
	s.d.opts.Logger.Info("applying to the mirror, document by document", "key", s.key, "operation", ev.OperationType(), "namespace", ns.String(), "mirror", s.d.names.of(ns).String())
	return c, err
}

func renamedTo(ev rigatoni.Event) (rigatoni.Namespace, bool) {
	doc, ok := ev.Raw.Lookup("to").DocumentOK()
	db, _ := doc.Lookup("db").StringValueOK()
	coll, _ := doc.Lookup("coll").StringValueOK()
	return rigatoni.Namespace{DB: db, Coll: coll}, ok && ev.OperationType() == "rename"
}

// watches reports whether the source has the events of a collection.
func (s *sink) watches(ns rigatoni.Namespace) bool {
	if s.scope == nil {
		return true
	}
	if s.scope.Database != "" && !glob.Match(s.scope.Database, ns.DB) {
		return false
	}
	for _, c := range s.scope.Collections {
		if glob.Match(c, ns.Coll) {
			return true
		}
	}
	return len(s.scope.Collections) == 0
}

func (s *sink) claimRenamed(ctx context.Context, ns rigatoni.Namespace, version string) (*target, error) {
	t := s.d.newTarget(ns)
	err := s.d.claim(ctx, t, entry{Target: t.name.String(), Source: ns.String(), DB: ns.DB, Key: s.key, Since: version})
	if err == nil {
		t.marked = true
		s.targets[ns] = t
	}
	return t, err
}

func (c *change) apply(ctx context.Context, s *sink, f state.Fence) error {
	if c.to != nil {
		if err := c.makeRoom(ctx, s, f); err != nil {
			return err
		}
	}
	if err := c.pages(ctx, s, f); err != nil {
		return err
	}
	err := s.txs.Fenced(ctx, f, func(ctx context.Context) error {
		_, err := s.d.registry.ReplaceOne(ctx, progressOf(s.key), bson.D{{Key: "at", Value: c.id}}, options.Replace().SetUpsert(true))
		return err
	})
	if err == nil {
		s.applied = c.id
	}
	return err
}

// progressOf is the filter of the record of a change that is done and that no checkpoint covers.
func progressOf(key string) bson.D {
	return bson.D{{Key: "_id", Value: bson.D{{Key: "progress", Value: key}}}}
}

func (d *Destination) progress(ctx context.Context, key string) (string, error) {
	var progress struct{ At string }
	err := d.registry.FindOne(ctx, progressOf(key)).Decode(&progress)
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return "", fmt.Errorf("mongodb: reading %s: %w", d.registry.Name(), explained(err))
	}
	return progress.At, nil
}

// isApplied reports whether an event's change, or a later one, is done already. A document that
// was read at the position after the change has the same version, and comes after it.
func (s *sink) isApplied(ev rigatoni.Event) (bool, error) {
	if s.applied == "" {
		return false, nil
	}
	v, err := versionOf(ev)
	if err != nil {
		return false, rigatoni.Permanent(err)
	}
	return v < s.applied || v == s.applied && !ev.IsSnapshot(), nil
}

// pages deletes or moves all documents.
func (c *change) pages(ctx context.Context, s *sink, f state.Fence) error {
	for c.from != nil {
		n, err := c.page(ctx, s, f)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// makeRoom deletes what a collection has of before the rename to it, once: a repetition of the
// change must not delete what has been moved. It then is what the other one was.
func (c *change) makeRoom(ctx context.Context, s *sink, f state.Fence) error {
	var e entry
	if err := s.d.registry.FindOne(ctx, bson.D{{Key: "_id", Value: c.to.name.String()}}).Decode(&e); err != nil {
		return fmt.Errorf("mongodb: reading %s: %w", s.d.registry.Name(), explained(err))
	}
	if e.Moved == c.id {
		c.to.since = e.Since
		return nil
	}
	empty := change{from: c.to}
	if err := empty.pages(ctx, s, f); err != nil {
		return err
	}
	set := bson.D{{Key: "moved", Value: c.id}}
	if c.from != nil {
		c.to.since, c.to.marked = c.from.since, c.from.marked
		set = append(set, bson.E{Key: "since", Value: c.from.since})
	}
	return s.txs.Fenced(ctx, f, func(ctx context.Context) error {
		_, err := s.d.registry.UpdateOne(ctx, bson.D{{Key: "_id", Value: c.to.name.String()}}, bson.D{{Key: "$set", Value: set}})
		return err
	})
}

// What a page of a change has.
const (
	pageDocuments = 1000
	pageBytes     = 4 << 20
)

// page deletes or moves some documents, and returns how many.
func (c *change) page(ctx context.Context, s *sink, f state.Fence) (int, error) {
	opts := options.Find().SetLimit(pageDocuments)
	if c.to == nil {
		opts.SetProjection(bson.D{{Key: "_id", Value: 1}})
	}
	cur, err := c.from.coll.Find(ctx, bson.D{}, opts)
	if err != nil {
		return 0, fmt.Errorf("mongodb: reading %s: %w", c.from.name, explained(err))
	}
	defer cur.Close(context.WithoutCancel(ctx)) // otherwise the server closes it in the end
	var ids bson.A
	var moves []mongo.WriteModel
	for size := 0; size < pageBytes && cur.Next(ctx); size += len(cur.Current) {
		doc := append(bson.Raw(nil), cur.Current...)
		id := doc.Lookup("_id")
		ids = append(ids, id)
		if c.to != nil {
			moves = append(moves, replacement(id, doc)...)
		}
	}
	if err := cur.Err(); err != nil || len(ids) == 0 {
		return 0, wrapped(err, "reading", c.from.name)
	}
	err = s.txs.Fenced(ctx, f, func(ctx context.Context) error {
		if len(moves) > 0 {
			if _, err := c.to.coll.BulkWrite(ctx, moves); err != nil {
				return wrapped(err, "moving documents to", c.to.name)
			}
			if err := s.moveMarks(ctx, c.from, c.to, ids); err != nil {
				return err
			}
		}
		_, err := c.from.coll.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
		return wrapped(err, "deleting in", c.from.name)
	})
	return len(ids), err
}

func wrapped(err error, doing string, name rigatoni.Namespace) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mongodb: %s %s: %w", strings.TrimSpace(doing), name, explained(err))
}
