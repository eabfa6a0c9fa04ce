package mongodb

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A target is a collection of the mirror. It belongs to one collection of the source and to
// one stream: a document in the registry says so, which is written before the first of its
// documents.
type target struct {
	name rigatoni.Namespace
	coll *mongo.Collection

	// since is the version of the first event in it, "" if it had documents before: nothing
	// in it is older, so that a copy that began before then has nothing to sweep.
	since string
	// marked: during a copy, what is written is marked (see sweep). Not for a collection that
	// is new since the copy, in this session: nothing in it can be older than the copy.
	marked bool
}

// An entry is a target's document in the registry.
type entry struct {
	Target string `bson:"_id"`
	Source string `bson:"source"`
	DB     string `bson:"db"`  // of the source; the rest of Source is its collection
	Key    string `bson:"key"` // of the checkpoint
	Since  string `bson:"since,omitempty"`
	Moved  string `bson:"moved,omitempty"` // see change
}

// targetsOf reads the targets of a stream.
func (d *Destination) targetsOf(ctx context.Context, key string) (map[rigatoni.Namespace]*target, error) {
	cur, err := d.registry.Find(ctx, bson.D{{Key: "key", Value: key}})
	var entries []entry
	if err == nil {
		err = cur.All(ctx, &entries)
	}
	if err != nil {
		return nil, fmt.Errorf("mongodb: reading %s: %w", d.registry.Name(), explained(err))
	}
	targets := map[rigatoni.Namespace]*target{}
	for _, e := range entries {
		ns := rigatoni.Namespace{DB: e.DB, Coll: e.Source[min(len(e.Source), len(e.DB)+1):]}
		t := d.newTarget(ns)
		if t.name.String() != e.Target {
			return nil, invalid("the mirror of %s is %s, and the target is %s now; a mirror can't be moved by the configuration: set target back, or begin another one under another name", e.Source, e.Target, t.name)
		}
		t.since, t.marked = e.Since, true
		targets[ns] = t
	}
	return targets, nil
}

func (d *Destination) newTarget(ns rigatoni.Namespace) *target {
	name := d.names.of(ns)
	return &target{name: name, coll: d.collection(name)}
}

// target is where an event's collection is mirrored. Before the first document it is claimed.
func (s *sink) target(ctx context.Context, ev rigatoni.Event, copying bool) (*target, error) {
	ns := ev.Namespace()
	if t := s.targets[ns]; t != nil {
		return t, nil
	}
	if ns.DB == "" || ns.Coll == "" {
		return nil, rigatoni.Permanent(fmt.Errorf("mongodb: the %s event has no namespace", ev.OperationType()))
	}
	version, err := versionOf(ev)
	if err != nil {
		return nil, rigatoni.Permanent(err)
	}
	t := s.d.newTarget(ns)
	if err := s.d.claim(ctx, t, entry{Target: t.name.String(), Source: ns.String(), DB: ns.DB, Key: s.key, Since: version}); err != nil {
		return nil, err
	}
	t.marked = t.marked || !copying
	s.targets[ns] = t
	return t, nil
}

// claim makes t the mirror of e.Source, for good. It is an error if it is another one's, if it
// is no ordinary collection, and, unless they are adopted, if it has documents already.
func (d *Destination) claim(ctx context.Context, t *target, e entry) error {
	for {
		var there entry
		err := d.registry.FindOne(ctx, bson.D{{Key: "_id", Value: e.Target}}).Decode(&there)
		switch {
		case err == nil:
			return t.take(there, e)
		case !errors.Is(err, mongo.ErrNoDocuments):
			return fmt.Errorf("mongodb: reading %s: %w", d.registry.Name(), explained(err))
		}
		empty, err := d.ready(ctx, t)
		if err != nil {
			return err
		}
		if !empty {
			e.Since = ""
		}
		if _, err = d.registry.InsertOne(ctx, e); mongo.IsDuplicateKeyError(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("mongodb: writing to %s: %w", d.registry.Name(), explained(err))
		}
		t.since, t.marked = e.Since, !empty
		return nil
	}
}

// take makes the target that of an entry which is there already.
func (t *target) take(there, e entry) error {
	if there.Source != e.Source || there.Key != e.Key {
		return wrong("mongodb: %s is the mirror of %s (of the pipeline %s), and can't be that of %s (of %s) as well; choose another target for one of them",
			t.name, quote.Name(there.Source), quote.Name(there.Key), quote.Name(e.Source), quote.Name(e.Key))
	}
	t.since, t.marked = there.Since, true
	return nil
}

// wrong is an error that stops the pipeline: no event is to blame, and no repetition helps.
func wrong(format string, args ...any) error { return wrongError{fmt.Sprintf(format, args...)} }

// A wrongError is a state.ErrInvalid, which its message doesn't repeat.
type wrongError struct{ text string }

func (e wrongError) Error() string        { return e.text }
func (e wrongError) Is(target error) bool { return target == state.ErrInvalid }

// ready checks and creates a collection, and reports whether it is empty.
func (d *Destination) ready(ctx context.Context, t *target) (empty bool, err error) {
	db := d.client.Database(t.name.DB)
	specs, err := db.ListCollectionSpecifications(ctx, bson.D{{Key: "name", Value: t.name.Coll}})
	if err != nil {
		return false, fmt.Errorf("mongodb: looking for %s: %w", t.name, explained(err))
	}
	if len(specs) == 0 {
		// Not in the transaction: it would conflict with others, and MongoDB 4.2 can't.
		err := db.CreateCollection(ctx, t.name.Coll)
		if err == nil || isCode(err, codeExists) {
			return true, nil
		}
		return false, fmt.Errorf("mongodb: creating %s: %w", t.name, explained(err))
	}
	if err := suitable(t.name, specs[0]); err != nil {
		return false, err
	}
	switch err := t.coll.FindOne(ctx, bson.D{}, options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}})).Err(); {
	case errors.Is(err, mongo.ErrNoDocuments):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("mongodb: reading %s: %w", t.name, explained(err))
	case d.opts.Existing != Adopt:
		return false, wrong("mongodb: %s has documents that this mirror has not written; if they are an older state of the source's documents, take them over with existing: adopt (each that comes is replaced, and a copy deletes those that it doesn't find); otherwise choose another target", t.name)
	}
	return false, nil
}

// suitable refuses what can't be a mirror.
func suitable(name rigatoni.Namespace, spec mongo.CollectionSpecification) error {
	kind := spec.Type
	if capped, _ := spec.Options.Lookup("capped").BooleanOK(); capped {
		kind = "capped collection"
	}
	if kind != "" && kind != "collection" {
		return wrong("mongodb: %s is a %s; the mirror needs an ordinary collection", name, kind)
	}
	if _, has := spec.Options.Lookup("collation").DocumentOK(); has {
		return wrong("mongodb: %s has a collation, which may take two documents' _id for one; the mirror needs a collection without one", name)
	}
	return nil
}

const codeExists = 48

func isCode(err error, code int) bool {
	var answer mongo.ServerError
	return errors.As(err, &answer) && answer.HasErrorCode(code)
}
