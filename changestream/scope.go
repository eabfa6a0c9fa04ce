package changestream

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
)

// A scope is what one stream watches, and what a token of it is good for. Which
// images an event carries is no part of it: tokens don't depend on that.
type scope struct {
	database    string   // empty: the deployment
	collections []string // sorted; empty: the whole database
	expanded    bool
}

// scopes makes one scope of all collections, or one of each.
func scopes(o Options) (names []string, byName map[string]scope) {
	all := scope{database: o.Database, collections: slices.Sorted(slices.Values(o.Collections)), expanded: o.ExpandedEvents}
	if !o.OneEach {
		return []string{""}, map[string]scope{"": all}
	}
	byName = map[string]scope{}
	for _, c := range o.Collections {
		byName[c] = scope{database: o.Database, collections: []string{c}, expanded: o.ExpandedEvents}
	}
	return slices.Clone(o.Collections), byName
}

// String is for messages.
func (s scope) String() string {
	switch {
	case s.database == "":
		return "the deployment"
	case len(s.collections) == 0:
		return s.database
	case len(s.collections) == 1:
		return s.database + "." + s.collections[0]
	default:
		return s.database + ".{" + strings.Join(s.collections, ",") + "}"
	}
}

// watch opens a cursor. The stages come behind those that the scope itself needs.
func (s scope) watch(ctx context.Context, client *mongo.Client, o *options.ChangeStreamOptionsBuilder, stages ...bson.D) (*mongo.ChangeStream, error) {
	if s.expanded {
		o.SetShowExpandedEvents(true)
	}
	if s.database == "" {
		return client.Watch(ctx, append(mongo.Pipeline{}, stages...), o)
	}
	db := client.Database(s.database, options.Database().SetReadConcern(readconcern.Majority()))
	switch len(s.collections) {
	case 0:
		return db.Watch(ctx, append(mongo.Pipeline{}, stages...), o)
	case 1:
		return db.Collection(s.collections[0]).Watch(ctx, append(mongo.Pipeline{}, stages...), o)
	default:
		return db.Watch(ctx, append(mongo.Pipeline{s.match()}, stages...), o)
	}
}

// match picks several collections out of a database's stream. It never hides an
// invalidate: the stream would end without a word. Nor a dropDatabase, which is
// what ends it. A rename is let through under either of its names.
func (s scope) match() bson.D {
	in := bson.D{{Key: "$in", Value: s.collections}}
	return bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "ns.coll", Value: in}},
		bson.D{{Key: "to.coll", Value: in}},
		bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: bson.A{"invalidate", "dropDatabase"}}}}},
	}}}}}
}

// kill frees a cursor on the server, which the driver no longer can once a getMore
// of it was cancelled. The primary is asked; on another member the server's own
// timeout (10 minutes) frees it.
func (s scope) kill(ctx context.Context, client *mongo.Client, cursor int64) error {
	db, coll := s.database, "$cmd.aggregate"
	switch {
	case db == "":
		db = "admin"
	case len(s.collections) == 1:
		coll = s.collections[0]
	}
	return client.Database(db).RunCommand(ctx, bson.D{{Key: "killCursors", Value: coll}, {Key: "cursors", Value: bson.A{cursor}}}).Err()
}
