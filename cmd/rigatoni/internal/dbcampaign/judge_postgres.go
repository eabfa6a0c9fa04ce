package dbcampaign

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/rigatoni-etl/rigatoni/extjson"
)

// A Postgres judges tables of PostgreSQL by the collections that they are of.
type Postgres struct {
	Pool   *pgxpool.Pool
	Source *mongo.Database
	Colls  []string
}

// faults are sentences, of which the first few are kept.
type faults struct {
	n    int
	text []string
}

func (f *faults) add(format string, args ...any) {
	if f.n++; f.n <= 12 {
		f.text = append(f.text, fmt.Sprintf(format, args...))
	}
}

func (f *faults) all() []string {
	if f.n > len(f.text) {
		return append(f.text, fmt.Sprintf("… and %d more", f.n-len(f.text)))
	}
	return f.text
}

// Mirror says what differs between the tables, one row a document, and the
// collections. PostgreSQL itself compares the documents, as jsonb.
func (p Postgres) Mirror(ctx context.Context, j Journal) ([]string, error) {
	var f faults
	for _, coll := range p.Colls {
		docs, err := documents(ctx, &f, p.Source, coll)
		if err != nil {
			return nil, err
		}
		j.check(&f, coll, docs)
		var names, texts []string
		for name, doc := range docs {
			text, err := extjson.Append(nil, doc, extjson.Simplified)
			if err != nil {
				return nil, err
			}
			names, texts = append(names, name), append(texts, string(text))
		}
		err = p.query(ctx, `SELECT coalesce(t.doc->>'k', e.k), t.doc IS NULL, e.doc IS NULL, t.doc->>'v', e.doc->>'v'
			FROM `+pgx.Identifier{coll}.Sanitize()+` t FULL JOIN (SELECT unnest($1::text[]) k, unnest($2::jsonb[]) doc) e ON t.doc->>'k' = e.k
			WHERE t.doc IS DISTINCT FROM e.doc`, []any{names, texts}, func(row pgx.CollectableRow) error {
			var name, has, want *string
			var lost, madeUp bool
			if err := row.Scan(&name, &lost, &madeUp, &has, &want); err != nil {
				return err
			}
			switch {
			case lost:
				f.add("%s is in the collection and not in the table", text(name))
			case madeUp:
				f.add("%s is in the table and not in the collection", text(name))
			default:
				f.add("%s is at version %s in the table and at %s in the collection, or differs otherwise", text(name), text(has), text(want))
			}
			return nil
		})
		if isNoTable(err) && len(docs) == 0 {
			err = nil // there never was an event
		}
		if err != nil && !isNoTable(err) {
			return nil, err
		} else if err != nil {
			f.add("there is no table %s", coll)
		}
	}
	return f.all(), nil
}

// Log says what differs between the tables, one row an event, and the journal: each
// document's events, once, in order. An update's document may be of a later version
// unless exact, where the collections record post-images.
func (p Postgres) Log(ctx context.Context, j Journal, exact bool) ([]string, error) {
	var f faults
	seen := map[string]string{} // the table and _id of each document, by its name
	for _, coll := range p.Colls {
		rows, order, err := p.logged(ctx, coll)
		if err != nil {
			return nil, err
		}
		for _, id := range order {
			name := nameOf(rows[id])
			if other, twice := seen[name]; twice {
				f.add("%s has two _ids, %s and %s", name, other, id)
			}
			seen[name] = id
			compare(&f, name, rows[id], j.of(name), exact)
		}
	}
	for doc, changes := range j {
		if _, ok := seen[doc.Name()]; !ok {
			f.add("none of the %d events of %s is there", len(changes), doc.Name())
		}
	}
	return f.all(), nil
}

// logged are the rows of a log table by the _id, each in order, and the _ids. A table
// that isn't there has none.
func (p Postgres) logged(ctx context.Context, coll string) (rows map[string][]logged, ids []string, err error) {
	rows = map[string][]logged{}
	err = p.query(ctx, `SELECT _id, op, doc->>'k', coalesce((doc->>'v')::int, 0), coalesce(version <= lag(version) OVER (PARTITION BY _id ORDER BY seq), false)
		FROM `+pgx.Identifier{coll}.Sanitize()+` ORDER BY seq`, nil, func(row pgx.CollectableRow) error {
		var id string
		var l logged
		if err := row.Scan(&id, &l.op, &l.name, &l.version, &l.early); err != nil {
			return err
		}
		if rows[id] == nil {
			ids = append(ids, id)
		}
		rows[id] = append(rows[id], l)
		return nil
	})
	if isNoTable(err) {
		err = nil // what is missing is found by who compares
	}
	return rows, ids, err
}

// logged is a row of a log table.
type logged struct {
	op      string
	name    *string // of the document, which a delete doesn't have
	version int
	early   bool // it is not after the row before, by its version
}

func nameOf(rows []logged) string {
	for _, r := range rows {
		if r.name != nil {
			return *r.name
		}
	}
	return "a document of deletes alone"
}

// compare compares the rows of a document with what was written.
func compare(f *faults, name string, rows []logged, changes []Change, exact bool) {
	for i, r := range rows {
		switch {
		case i >= len(changes):
			f.add("%s: %d events, and %d were written", name, len(rows), len(changes))
			return
		case r.op != changes[i].Op:
			f.add("%s: event %d is %s, and %s was written", name, i+1, r.op, changes[i])
			return
		case r.name != nil && *r.name != name:
			f.add("%s: event %d is one of %s", name, i+1, *r.name)
		case r.early:
			f.add("%s: event %d is not after the one before, by its version", name, i+1)
		case r.op == "delete":
		case r.name == nil && r.op == "update" && !exact: // it was deleted before it could be looked up
		case r.version != changes[i].Version && (exact || r.op != "update" || r.version < changes[i].Version):
			f.add("%s: event %d is of version %d, and %s was written", name, i+1, r.version, changes[i])
		}
	}
	if len(rows) < len(changes) {
		f.add("%s: %d events, and %d were written", name, len(rows), len(changes))
	}
}

// of are the changes of the document of that name.
func (j Journal) of(name string) []Change {
	coll, n, _ := strings.Cut(name, "/")
	d := Doc{Coll: coll}
	fmt.Sscan(n, &d.N)
	return j[d]
}

// check checks that the collection is as the journal says, without which a comparison
// shows nothing.
func (j Journal) check(f *faults, coll string, docs map[string]bson.Raw) {
	live := 0
	for d, changes := range j {
		last := changes[len(changes)-1]
		if d.Coll != coll || last.Op == "delete" {
			continue
		}
		live++
		if v, _ := docs[d.Name()].Lookup("v").AsInt64OK(); int(v) != last.Version {
			f.add("the campaign is wrong: %s was written, and the collection has version %d", last, v)
		}
	}
	if live != len(docs) {
		f.add("the campaign is wrong: the collection %s has %d documents, and %d were written", coll, len(docs), live)
	}
}

// documents reads a collection, by the documents' names. One that is deleted and
// inserted again meanwhile may be there twice.
func documents(ctx context.Context, f *faults, db *mongo.Database, coll string) (map[string]bson.Raw, error) {
	cursor, err := db.Collection(coll, options.Collection().SetReadConcern(readconcern.Majority())).Find(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	var all []bson.Raw
	if err := cursor.All(ctx, &all); err != nil {
		return nil, err
	}
	docs := map[string]bson.Raw{}
	for _, doc := range all {
		name := doc.Lookup("k").StringValue()
		if docs[name] != nil {
			f.add("%s is twice in %s.%s", name, db.Name(), coll)
		}
		docs[name] = doc
	}
	return docs, nil
}

func (p Postgres) query(ctx context.Context, sql string, args []any, each func(pgx.CollectableRow) error) error {
	rows, err := p.Pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, each(row) })
	return err
}

func isNoTable(err error) bool {
	var e interface{ SQLState() string }
	return errors.As(err, &e) && e.SQLState() == "42P01"
}

func text(s *string) string {
	if s == nil {
		return "unknown"
	}
	return *s
}
