package changestream

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// checkNames refuses a view or a time-series collection among the collections of a
// stream that watches their whole database: the server, which refuses a stream of the
// view itself, would wait for events of it for ever. It logs names of databases and
// collections that don't exist, where there is one that may be meant: names are
// case-sensitive, and a collection need not exist yet.
//
// It does what the user's rights allow: they may not include a list of the names.
func (s *Source) checkNames(ctx context.Context, sc scope) error {
	if sc.database == "" || glob.IsPattern(sc.database) {
		return nil
	}
	ctx, cancel := limited(ctx, s.limits.margin)
	defer cancel()
	found, err := s.collections(ctx, sc)
	if err != nil {
		return nil // opening the stream says what is wrong, if anything is
	}
	if len(found) == 0 {
		s.hintDatabase(ctx, sc.database)
	}
	_, coll := sc.target()
	for _, name := range sc.collections {
		if glob.IsPattern(name) {
			continue
		}
		exact := slices.IndexFunc(found, func(c collection) bool { return c.Name == name })
		switch {
		case exact < 0:
			s.hintCollection(sc.database, name, found)
		case coll != "": // the server refuses what it can't watch
		case found[exact].Type == "view", found[exact].Type == "timeseries":
			return &streamError{
				text: fmt.Sprintf("%s.%s is a %s, which has no change streams; watch the collection that the data is written to",
					quote.Name(sc.database), quote.Name(name), found[exact].kind()),
				causes: []error{ErrRefused},
			}
		}
	}
	return nil
}

// A collection is an entry of listCollections.
type collection struct {
	Name string `bson:"name"`
	Type string `bson:"type"`
}

func (c collection) kind() string {
	if c.Type == "timeseries" {
		return "time-series collection"
	}
	return c.Type
}

// collections are those of the scope's database that have the name of one of its
// collections, or nearly; any one where it has none.
func (s *Source) collections(ctx context.Context, sc scope) ([]collection, error) {
	filter := bson.D{}
	var names bson.A
	for _, name := range sc.collections {
		if !glob.IsPattern(name) {
			last := strings.TrimPrefix(name, sc.database+".")
			names = append(names, bson.Regex{Pattern: "^(" + regexp.QuoteMeta(name) + "|" + regexp.QuoteMeta(last) + ")$", Options: "i"})
		}
	}
	if len(names) > 0 && len(names) == len(sc.collections) {
		filter = bson.D{{Key: "name", Value: bson.D{{Key: "$in", Value: names}}}}
	}
	cursor, err := s.client.Database(sc.database).ListCollections(ctx, filter, options.ListCollections().SetNameOnly(true).SetAuthorizedCollections(true))
	if err != nil {
		return nil, err
	}
	var found []collection
	err = cursor.All(ctx, &found)
	return found, err
}

func (s *Source) hintCollection(database, name string, found []collection) {
	for _, c := range found {
		if strings.EqualFold(c.Name, name) || strings.EqualFold(database+"."+c.Name, name) {
			s.log.Warn("there is no collection of this name, but a similar one; names are case-sensitive, and without the database",
				"database", database, "collection", name, "similar", c.Name)
			return
		}
	}
}

func (s *Source) hintDatabase(ctx context.Context, name string) {
	pattern := bson.Regex{Pattern: "^" + regexp.QuoteMeta(name) + "$", Options: "i"}
	found, err := s.client.ListDatabaseNames(ctx, bson.D{{Key: "name", Value: pattern}}, options.ListDatabases().SetNameOnly(true).SetAuthorizedDatabases(true))
	if err != nil || slices.Contains(found, name) || len(found) == 0 {
		return
	}
	s.log.Warn("there is no database of this name, but a similar one; names are case-sensitive", "database", name, "similar", found[0])
}
