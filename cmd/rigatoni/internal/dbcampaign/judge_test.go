//go:build unix

package dbcampaign

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func TestMain(m *testing.M) { os.Exit(pgserver.Main(m)) }

var colls = []string{"orders", "users"}

// write writes some changes to MongoDB, as of a campaign with a copy.
func write(t *testing.T) (*mongo.Database, Journal) {
	t.Helper()
	server := mongod.ForTest(t)
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	r := &runner{
		Config: Config{Collections: colls},
		writer: &writer{db: client.Database(server.Name), lanes: lanes(campaign.Seed(t), colls, 4, 60), journal: Journal{}},
	}
	if err := r.makeCollections(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.writer.marks(nil).Database().Drop(context.Background()) })
	for _, when := range []When{Before, Meanwhile, After} {
		r.writer.when = when
		r.writer.give(200)
		if err := r.writer.run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return r.writer.db, r.writer.journal
}

// A fault is done to a right copy, and what the judge must say of it.
type fault struct{ sql, says string }

func TestMirrorJudge(t *testing.T) {
	db, j := write(t)
	judge := Postgres{Pool: newPool(t), Source: db, Colls: colls}
	for _, coll := range colls {
		exec(t, judge.Pool, "CREATE TABLE "+coll+" (_id text PRIMARY KEY, doc jsonb)")
		docs, err := documents(t.Context(), new(faults), db, coll)
		if err != nil {
			t.Fatal(err)
		}
		for name, doc := range docs {
			text, err := extjson.Append(nil, doc, extjson.Simplified)
			if err != nil {
				t.Fatal(err)
			}
			exec(t, judge.Pool, "INSERT INTO "+coll+" VALUES ($1, $2)", name, string(text))
		}
	}
	mustSay(t, judge.Pool, func() ([]string, error) { return judge.Mirror(t.Context(), j) },
		fault{"DELETE FROM orders WHERE _id = (SELECT min(_id) FROM orders)", "is in the collection and not in the table"},
		fault{"INSERT INTO users VALUES ('x', '{\"k\": \"users/1000\"}')", "is in the table and not in the collection"},
		fault{"INSERT INTO users SELECT 'x', doc FROM users WHERE _id = (SELECT min(_id) FROM users) ON CONFLICT DO NOTHING; UPDATE users SET doc = jsonb_set(doc, '{k}', '\"y\"') WHERE _id = 'x'", "is in the table and not"},
		fault{"UPDATE orders SET doc = jsonb_set(doc, '{all,0}', '99') WHERE _id = (SELECT max(_id) FROM orders)", "or differs otherwise"},
		fault{"DROP TABLE orders", "there is no table orders"},
	)
}

func TestLogJudge(t *testing.T) {
	db, j := write(t)
	judge := Postgres{Pool: newPool(t), Source: db, Colls: colls}
	for _, coll := range colls {
		exec(t, judge.Pool, "CREATE TABLE "+coll+" (seq bigint GENERATED ALWAYS AS IDENTITY, _id text, doc jsonb, op text, version text)")
	}
	for d, changes := range j {
		for i, c := range changes {
			doc := any(nil)
			if c.Op != "delete" {
				text, err := bson.MarshalExtJSON(bson.D{{Key: "k", Value: d.Name()}, {Key: "v", Value: c.Version}}, false, false)
				if err != nil {
					t.Fatal(err)
				}
				doc = string(text)
			}
			exec(t, judge.Pool, "INSERT INTO "+d.Coll+" (_id, doc, op, version) VALUES ($1, $2, $3, $4)", d.Name(), doc, c.Op, string(rune('A'+i)))
		}
	}
	first := "(SELECT min(seq) FROM orders)"
	mustSay(t, judge.Pool, func() ([]string, error) { return judge.Log(t.Context(), j, true) },
		fault{"DELETE FROM orders WHERE seq = " + first, "was written"},
		fault{"DELETE FROM orders WHERE seq = (SELECT max(seq) FROM orders)", "events, and"},
		fault{"INSERT INTO orders (_id, doc, op, version) SELECT _id, doc, op, version FROM orders WHERE seq = (SELECT max(seq) FROM orders)", "were written"},
		fault{"DELETE FROM users WHERE _id = (SELECT min(_id) FROM users)", "none of the"},
		fault{"DELETE FROM users; DELETE FROM orders", "none of the"},
		fault{"UPDATE orders SET op = 'update' WHERE seq = " + first, "event 1 is update"},
		fault{"UPDATE orders SET doc = jsonb_set(doc, '{v}', '7') WHERE seq = " + first, "event 1 is of version 7"},
		fault{"UPDATE orders SET version = 'zz' WHERE seq = " + first, "is not after the one before"},
	)
}

// mustSay checks that nothing is wrong, and that each fault is found. Each is undone.
func mustSay(t *testing.T, pool *pgxpool.Pool, judge func() ([]string, error), faults ...fault) {
	t.Helper()
	if wrong, err := judge(); err != nil || len(wrong) > 0 {
		t.Fatalf("a right copy: %q, %v", wrong, err)
	}
	for _, f := range faults {
		for _, coll := range colls {
			exec(t, pool, "CREATE TABLE saved_"+coll+" AS SELECT * FROM "+coll)
		}
		exec(t, pool, f.sql)
		wrong, err := judge()
		if err != nil || !strings.Contains(strings.Join(wrong, "\n"), f.says) {
			t.Errorf("after %s: %q, %v, want %q", f.sql, wrong, err, f.says)
		}
		for _, coll := range colls {
			exec(t, pool, "DROP TABLE IF EXISTS "+coll+"; ALTER TABLE saved_"+coll+" RENAME TO "+coll)
		}
	}
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), pgserver.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestMongoDBJudge(t *testing.T) {
	db, j := write(t)
	target := db.Client().Database(db.Name() + "_copy")
	t.Cleanup(func() { target.Drop(context.Background()) })
	judge := MongoDB{Source: db, Target: target, Colls: colls}
	says := func(want string) {
		t.Helper()
		wrong, err := judge.Mirror(t.Context(), j)
		if text := strings.Join(wrong, "\n"); err != nil || !strings.Contains(text, want) || want == "" && text != "" {
			t.Errorf("got %q, %v, want %q", wrong, err, want)
		}
	}
	says("is in the source and not in the target")
	for _, coll := range colls {
		docs, err := documents(t.Context(), new(faults), db, coll)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			if _, err := target.Collection(coll).InsertOne(t.Context(), doc); err != nil {
				t.Fatal(err)
			}
		}
	}
	says("")
	orders := target.Collection("orders")
	if _, err := orders.UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: int64(1)}}}}); err != nil {
		t.Fatal(err)
	}
	says("in the source and")
	for _, name := range []string{"orders/5000", "orders/5000"} {
		if _, err := orders.InsertOne(t.Context(), bson.D{{Key: "k", Value: name}}); err != nil {
			t.Fatal(err)
		}
	}
	says("is in the target and not in the source")
	says("is twice in")
}
