package changestream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// A lister knows the collections that are to be copied. It is safe for concurrent use.
type lister struct {
	src *Source

	mu    sync.Mutex
	known map[rigatoni.Namespace]collectionInfo
	sizes map[rigatoni.Namespace]collectionSize
}

func newLister(src *Source) *lister {
	return &lister{src: src, known: map[rigatoni.Namespace]collectionInfo{}, sizes: map[rigatoni.Namespace]collectionSize{}}
}

// A collectionInfo is an entry of listCollections.
type collectionInfo struct {
	Name string `bson:"name"`
	Type string `bson:"type"`
	Info struct {
		UUID bson.Binary `bson:"uuid"`
	} `bson:"info"`
	Options struct {
		Capped    bool `bson:"capped"`
		Collation struct {
			Locale string `bson:"locale"`
		} `bson:"collation"`
	} `bson:"options"`
}

// unordered reports whether the _id index sorts by a collation.
func (i collectionInfo) unordered() bool {
	return i.Options.Collation.Locale != "" && i.Options.Collation.Locale != "simple"
}

// A notCopyableError is why a collection can't be copied.
type notCopyableError struct {
	text string
}

func (e *notCopyableError) Error() string { return "changestream: " + e.text }

func (e *notCopyableError) Unwrap() error { return ErrRefused }

// copyable returns why a collection can't be copied.
func (i collectionInfo) copyable(ns rigatoni.Namespace) error {
	name := quote.Name(ns.String())
	switch {
	case i.Options.Capped:
		return &notCopyableError{name + " is capped: the server can't read it as it was at a time, which a snapshot needs; leave it out of Options.Collections, or run without a snapshot"}
	case i.Type == "view", i.Type == "timeseries":
		kind := collection{Name: i.Name, Type: i.Type}.kind()
		return &notCopyableError{fmt.Sprintf("%s is a %s, which has no change streams and can't be copied by a snapshot; name the collection that the data is written to", name, kind)}
	}
	return nil
}

// A listedCollection is what distinguishes a collection from a later one of its name.
type listedCollection struct {
	ns   rigatoni.Namespace
	uuid string
}

// exact lists the collections as they are at a time, which is after another one: it
// lists them until two lists, before and after the time, are the same.
func (l *lister) exact(ctx context.Context, sc scope, after bson.Timestamp) (names []rigatoni.Namespace, at bson.Timestamp, err error) {
	var before []listedCollection
	for range 20 {
		now, err := l.scope(ctx, sc, after)
		if err != nil {
			return nil, at, err
		}
		if !at.IsZero() && slices.Equal(before, now) {
			for _, c := range now {
				names = append(names, c.ns)
			}
			return names, at, nil
		}
		before = now
		if at, err = l.src.clusterTime(ctx); err != nil {
			return nil, at, sc.refused("ask for the server's time", err)
		}
		if at.IsZero() {
			return nil, at, &streamError{text: fmt.Sprintf("%s: the server doesn't say its cluster time, which a snapshot needs", sc), causes: []error{ErrRefused}}
		}
		after = at
	}
	return nil, at, fmt.Errorf("changestream: %s: collections are created, dropped or renamed so often that they can't be listed for the snapshot; start again when that is over", sc)
}

// scope lists the collections of a scope that exist after a time and can be copied. It
// refuses one that can't and whose events the stream has.
func (l *lister) scope(ctx context.Context, sc scope, after bson.Timestamp) (found []listedCollection, err error) {
	databases, err := l.databases(ctx, sc, after)
	if err != nil {
		return nil, err
	}
	var refusals []error
	for _, db := range databases {
		filter := bson.D{}
		if len(sc.collections) > 0 {
			filter = bson.D{{Key: "name", Value: nameIn(sc.collections...)}}
		}
		infos, err := l.list(ctx, db, filter, after)
		if err != nil {
			return nil, l.cantList(sc, db, err)
		}
		for _, info := range infos {
			ns := rigatoni.Namespace{DB: db, Coll: info.Name}
			if !sc.covers(ns) {
				continue
			}
			if err := info.copyable(ns); err != nil {
				if info.Options.Capped || slices.Contains(sc.collections, info.Name) {
					refusals = append(refusals, err)
				}
				continue
			}
			found = append(found, listedCollection{ns, string(info.Info.UUID.Data)})
		}
	}
	slices.SortFunc(found, func(a, b listedCollection) int { return strings.Compare(a.ns.String(), b.ns.String()) })
	return found, errors.Join(refusals...)
}

func (l *lister) cantList(sc scope, db string, err error) error {
	e := sc.refused("list the collections of "+quote.Name(db)+" for the snapshot", err)
	if code(err) == codeUnauthorized {
		return &streamError{
			text:   fmt.Sprintf("%s: can't list the collections of %s for the snapshot: %s; the user needs the privilege listCollections on the database (the role read has it)", sc, quote.Name(db), messageOf(err)),
			causes: []error{ErrRefused, err},
		}
	}
	return e
}

func (l *lister) databases(ctx context.Context, sc scope, after bson.Timestamp) ([]string, error) {
	if db, _ := sc.target(); db != "" {
		return []string{db}, nil
	}
	// The names have no read concern of their own: this waits until the server has
	// reached the time.
	if _, err := l.list(ctx, "admin", bson.D{{Key: "name", Value: "none"}}, after); err != nil {
		return nil, l.cantList(sc, "admin", err)
	}
	names, err := l.src.client.ListDatabaseNames(ctx, bson.D{}, options.ListDatabases().SetNameOnly(true))
	if err != nil {
		return nil, sc.refused("list the databases for the snapshot", err)
	}
	return slices.DeleteFunc(names, func(db string) bool { return !sc.hasDatabase(db) }), nil
}

// list lists collections of a database as they are after a time.
func (l *lister) list(ctx context.Context, db string, filter bson.D, after bson.Timestamp) (infos []collectionInfo, err error) {
	cmd := bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: filter}, {Key: "cursor", Value: bson.D{{Key: "batchSize", Value: 10_000}}}}
	if !after.IsZero() {
		concern := bson.D{{Key: "level", Value: "local"}, {Key: "afterClusterTime", Value: after}}
		cmd = append(cmd, bson.E{Key: "readConcern", Value: concern})
	}
	cursor, err := l.src.client.Database(db).RunCommandCursor(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if err := cursor.All(ctx, &infos); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, info := range infos {
		l.known[rigatoni.Namespace{DB: db, Coll: info.Name}] = info
	}
	return infos, nil
}

// forget forgets what was listed: a name may be that of another collection now.
func (l *lister) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.known)
	clear(l.sizes)
}

// look looks whether a collection exists and can be copied. absent is a time at which it
// didn't exist, zero if it does.
func (l *lister) look(ctx context.Context, ns rigatoni.Namespace) (absent bson.Timestamp, err error) {
	infos, err := l.list(ctx, ns.DB, bson.D{{Key: "name", Value: ns.Coll}}, bson.Timestamp{})
	switch {
	case err != nil:
		return absent, err
	case len(infos) > 0:
		return absent, infos[0].copyable(ns)
	}
	return l.src.clusterTime(ctx)
}

func (l *lister) info(ctx context.Context, ns rigatoni.Namespace) (info collectionInfo, absent bson.Timestamp, err error) {
	l.mu.Lock()
	info, ok := l.known[ns]
	l.mu.Unlock()
	if ok {
		return info, absent, nil
	}
	absent, err = l.look(ctx, ns)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[ns], absent, err
}

// clusterTime is the cluster time of the primary.
func (s *Source) clusterTime(ctx context.Context) (bson.Timestamp, error) {
	var hello struct {
		Clock clusterClock `bson:"$clusterTime"`
	}
	cmd := bson.D{{Key: "hello", Value: 1}}
	err := s.client.Database("admin").RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(readpref.Primary())).Decode(&hello)
	return hello.Clock.Time, err
}
