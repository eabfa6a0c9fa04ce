package changestream

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// A scope is what one stream reads, and what its tokens are good for. Which
// images an event carries is no part of it: tokens don't depend on that.
type scope struct {
	database    string   // a name or a pattern; empty: the deployment
	collections []string // names and patterns, sorted; empty: the whole database
	operations  []string // sorted; empty: all
	expanded    bool
	pipeline    filter
	copying     bool // a snapshot is under way
}

// scopes makes one scope of all collections, or one of each.
func scopes(o Options, pipeline filter) (names []string, byName map[string]scope) {
	all := scope{
		database: o.Database, collections: sorted(o.Collections), operations: sorted(o.Operations),
		expanded: o.ExpandedEvents, pipeline: pipeline,
	}
	if !o.OneEach {
		return []string{""}, map[string]scope{"": all}
	}
	byName = map[string]scope{}
	for _, c := range o.Collections {
		one := all
		one.collections = []string{c}
		byName[c] = one
	}
	return slices.Clone(o.Collections), byName
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// String is for messages.
func (s scope) String() string {
	names := make([]string, len(s.collections))
	for i, c := range s.collections {
		names[i] = quote.Name(c)
	}
	switch {
	case s.database == "":
		return "the deployment"
	case len(names) == 0:
		return quote.Name(s.database)
	case len(names) == 1:
		return quote.Name(s.database) + "." + names[0]
	default:
		return quote.Name(s.database) + ".{" + strings.Join(names, ",") + "}"
	}
}

// target is what the server is asked to watch: db empty is the deployment, coll
// empty a whole database.
func (s scope) target() (db, coll string) {
	if glob.IsPattern(s.database) {
		return "", ""
	}
	if len(s.collections) == 1 && !glob.IsPattern(s.collections[0]) {
		return s.database, s.collections[0]
	}
	return s.database, ""
}

// watch opens a cursor. Stages in extra come after the scope's own.
func (s scope) watch(ctx context.Context, client *mongo.Client, o *options.ChangeStreamOptionsBuilder, at *resumePoint, extra ...bson.D) (*mongo.ChangeStream, error) {
	if s.expanded {
		o.SetShowExpandedEvents(true)
	}
	stages := append(s.stages(at), extra...)
	name, coll := s.target()
	if name == "" {
		return client.Watch(ctx, stages, o)
	}
	db := client.Database(name, options.Database().SetReadConcern(readconcern.Majority()))
	if coll == "" {
		return db.Watch(ctx, stages, o)
	}
	return db.Collection(coll).Watch(ctx, stages, o)
}

// stages are those for namespaces and operations, then the user's.
func (s scope) stages(at *resumePoint) mongo.Pipeline {
	stages := mongo.Pipeline{} // a nil one is an error to the driver
	if at != nil && at.over {
		stages = append(stages, at.later())
		at = nil
	}
	pass := passing{at: at, copying: s.copying}
	if namespaces := s.namespaces(); namespaces != nil {
		stages = append(stages, bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: namespaces}}}})
	}
	if len(s.operations) > 0 {
		types := slices.Clone(pass.types())
		for _, op := range s.operations {
			types = append(types, op)
		}
		match := bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: types}}}}
		if at != nil && at.ddl {
			match = bson.D{{Key: "$or", Value: bson.A{match, at.query()}}}
		}
		stages = append(stages, bson.D{{Key: "$match", Value: match}})
	}
	for _, stage := range s.pipeline.stages {
		stages = append(stages, stage(pass))
	}
	return stages
}

// namespaces are alternatives that select the scope's namespaces, nil where the
// target is the scope. An event passes under either name of a rename; the
// endings always pass, if they are about a database of the scope.
func (s scope) namespaces() bson.A {
	db, coll := s.target()
	if db == s.database && (coll != "" || len(s.collections) == 0) {
		return nil
	}
	var ns, to, dropped bson.D
	if db == "" {
		in := nameIn(s.database)
		ns, to, dropped = bson.D{{Key: "ns.db", Value: in}}, bson.D{{Key: "to.db", Value: in}}, bson.D{{Key: "ns.db", Value: in}}
	}
	if len(s.collections) > 0 {
		in := nameIn(s.collections...)
		ns, to = append(ns, bson.E{Key: "ns.coll", Value: in}), append(to, bson.E{Key: "to.coll", Value: in})
	}
	return bson.A{
		ns, to,
		append(dropped, bson.E{Key: "operationType", Value: "dropDatabase"}),
		bson.D{{Key: "operationType", Value: "invalidate"}},
	}
}

// nameIn matches names and patterns.
func nameIn(patterns ...string) bson.D {
	var in bson.A
	for _, p := range patterns {
		if glob.IsPattern(p) {
			in = append(in, bson.Regex{Pattern: glob.Regexp(p)})
		} else {
			in = append(in, p)
		}
	}
	return bson.D{{Key: "$in", Value: in}}
}

// kill frees a cursor on the server, which the driver no longer can once a
// getMore of it was cancelled. The primary is asked; on another member the
// server's own timeout (10 minutes) frees it.
func (s scope) kill(ctx context.Context, client *mongo.Client, cursor int64) error {
	db, coll := s.target()
	if db == "" {
		db = "admin"
	}
	if coll == "" {
		coll = "$cmd.aggregate"
	}
	return client.Database(db).RunCommand(ctx, bson.D{{Key: "killCursors", Value: coll}, {Key: "cursors", Value: bson.A{cursor}}}).Err()
}
