package mongodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/internal/mongorights"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/mongostore"
)

// A Destination mirrors collections: each document is what it is in the source. It is safe
// for concurrent use.
type Destination struct {
	client *mongo.Client
	owned  bool // Close disconnects the client
	store  *mongostore.Store
	opts   Options
	names  pattern

	registry, marks *mongo.Collection // see target and sweep

	closing sync.Once
}

var (
	_ rigatoni.Checkpointer   = (*Destination)(nil)
	_ rigatoni.OpeningChecker = (*Destination)(nil)
	_ io.Closer               = (*Destination)(nil)
)

// What the names of the collections beside that of the checkpoints end with.
const (
	targetsSuffix = ".targets"
	touchedSuffix = ".touched"
)

func newDestination(client *mongo.Client, store *mongostore.Store, o Options) *Destination {
	names, _ := parsePattern(o.Target) // complete has done it before
	d := &Destination{client: client, store: store, opts: o, names: names}
	db, coll, _ := strings.Cut(o.Checkpoints, ".")
	d.registry = d.collection(rigatoni.Namespace{DB: db, Coll: coll + targetsSuffix})
	d.marks = d.collection(rigatoni.Namespace{DB: db, Coll: coll + touchedSuffix})
	return d
}

// collection is a collection with the concerns that everything here needs, whatever those of
// the client are.
func (d *Destination) collection(ns rigatoni.Namespace) *mongo.Collection {
	return d.client.Database(ns.DB).Collection(ns.Coll, options.Collection().
		SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary()).SetWriteConcern(writeconcern.Majority()).
		SetRegistry(bson.NewRegistry()).SetBSONOptions(&options.BSONOptions{}))
}

// Checkpoints is the store of the checkpoints. It has leases.
func (d *Destination) Checkpoints() state.Store { return d.store }

// Close disconnects the client, unless it was passed to [New].
func (d *Destination) Close() error {
	d.closing.Do(func() {
		if d.owned {
			mongoclient.Disconnect(d.client)
		}
	})
	return nil
}

// check checks the deployment and the rights.
func (d *Destination) check(ctx context.Context) error {
	err := d.store.Check(ctx)
	switch {
	case errors.As(err, new(*mongorights.Error)):
		return fmt.Errorf("mongodb: %w; rigatoni check (Look and Inspect) names all that the mirror needs", err)
	case err != nil:
		return fmt.Errorf("mongodb: %w", err)
	}
	return nil
}

// CheckOpening reports whether Open would refuse, and writes nothing.
func (d *Destination) CheckOpening(ctx context.Context, o rigatoni.Opening) error {
	_, err := d.prepare(ctx, o)
	return err
}

// prepare checks the source and the target, and returns which collections are the mirrors of
// which.
func (d *Destination) prepare(ctx context.Context, o rigatoni.Opening) (map[rigatoni.Namespace]*target, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.checkScope(o.Scope); err != nil {
		return nil, err
	}
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if err := checkRights(ctx, d.client, d.needs(nil, o.Scope)); err != nil {
		return nil, err
	}
	if err := checkLoop(ctx, d.client, d.opts.Checkpoints, o, &d.names); err != nil {
		return nil, err
	}
	targets, err := d.targetsOf(ctx, o.Key)
	if err != nil {
		return nil, err
	}
	if err := checkRights(ctx, d.client, d.needs(targets)); err != nil {
		return nil, err
	}
	if o.FirstStart && !o.AcceptAnyOutput && len(targets) > 0 {
		return nil, &rigatoni.OutputError{Err: rigatoni.ErrOutputExists, Facts: "it is the mirror of " + listed(targets)}
	}
	return targets, nil
}

// listed names what is mirrored, for a message.
func listed(targets map[rigatoni.Namespace]*target) string {
	var names []string
	for ns, t := range targets {
		names = append(names, fmt.Sprintf("%s, in %s", ns, t.name))
	}
	slices.Sort(names)
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], "; "), len(names)-3)
	}
	return strings.Join(names, "; ")
}

// Open begins a session. It refuses a stream whose updates come without their documents,
// one of which two collections would be written to one, and one that reads what the mirror
// writes; and at a first start, a mirror that has been written to.
func (d *Destination) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	targets, err := d.prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := d.tidy(ctx, o, targets); err != nil {
		return nil, err
	}
	applied, err := d.progress(ctx, o.Key)
	if err != nil {
		return nil, err
	}
	txs, err := d.store.Transactions(o.Key)
	if err != nil {
		return nil, fmt.Errorf("mongodb: %w", err)
	}
	return &sink{d: d, key: o.Key, fence: o.Fence, scope: o.Scope, targets: targets, txs: txs, applied: applied, said: map[string]bool{}}, nil
}

// A sink is the sink of one session.
type sink struct {
	d        *Destination
	key      string
	fence    state.Fence
	scope    *rigatoni.Scope
	targets  map[rigatoni.Namespace]*target // by their sources
	txs      *mongostore.Transactions
	sweeping sweeping
	applied  string          // what a change has got to that no checkpoint covers yet; "" for none
	said     map[string]bool // operations that are passed over, and were logged
}

var (
	_ rigatoni.Transactional = (*sink)(nil)
	_ rigatoni.Sweeper       = (*sink)(nil)
	_ io.Closer              = (*sink)(nil)
)

// Deliver fails.
func (s *sink) Deliver(context.Context, *rigatoni.Batch) error { return errDeliver }

// DeliverAt does in the mirror what the events say, and saves cp, in one transaction. Where
// the server refuses the user, the error names the privileges that are missing.
func (s *sink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	err := s.deliverAt(ctx, b, f, cp)
	if !isCode(err, codeUnauthorized) {
		return err
	}
	targets := map[rigatoni.Namespace]*target{}
	for _, ev := range b.Events {
		targets[ev.Namespace()] = s.d.newTarget(ev.Namespace())
	}
	return s.d.lacking(ctx, err, targets)
}

// deliverAt delivers a batch.
//
// Where a drop or a rename is applied, what comes before it is a transaction of its own, and so
// are the steps of the change (see change). Until the checkpoint is saved, it is on record how
// far that has got.
func (s *sink) deliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	p := plan{sink: s, copying: len(cp.Extra[rigatoni.ExtraSnapshot]) > 0}
	for _, ev := range b.Events {
		if done, err := s.isApplied(ev); err != nil || done {
			if err != nil {
				return err
			}
			continue
		}
		c, err := p.add(ctx, ev)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		// An earlier attempt may have been committed, whose answer was lost: what it wrote
		// after the drop must not be deleted.
		if repeated, err := s.txs.Before(ctx, f, cp, p.write); err != nil || repeated {
			return err
		}
		p.clear()
		if err := c.apply(ctx, s, f); err != nil {
			return err
		}
	}
	return s.save(ctx, f, cp, &p)
}

// save saves cp with what a plan writes. The record of what was applied before is needed no
// more, if the batch goes further than that: all that it covers was skipped.
func (s *sink) save(ctx context.Context, f state.Fence, cp state.Checkpoint, p *plan) error {
	end, err := version(cp.Token)
	if err != nil {
		return rigatoni.Permanent(err)
	}
	forget := s.applied != "" && end >= s.applied
	err = s.txs.Save(ctx, f, cp, func(ctx context.Context) error {
		if forget {
			if _, err := s.d.registry.DeleteOne(ctx, progressOf(s.key)); err != nil {
				return fmt.Errorf("mongodb: writing to %s: %w", s.d.registry.Name(), explained(err))
			}
		}
		return p.write(ctx)
	})
	if err == nil && forget {
		s.applied = ""
	}
	return err
}

// Close ends the session of the transactions.
func (s *sink) Close() error {
	s.txs.Close()
	return nil
}
