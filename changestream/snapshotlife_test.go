package changestream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// writer writes at random into collections, and drops and renames them.
type writer struct {
	w *fixture
	r *rand.Rand
	t *testing.T
}

func (x *writer) write() {
	ctx := context.Background()
	colls := []string{"a", "b", "c", "outside"}
	name := colls[x.r.IntN(len(colls))]
	coll := x.w.DB.Collection(name)
	id := bson.D{{Key: "_id", Value: int32(x.r.IntN(300))}}
	var err error
	switch n := x.r.IntN(100); {
	case n < 50:
		_, err = coll.UpdateOne(ctx, id, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}, upsert())
	case n < 75:
		_, err = coll.DeleteOne(ctx, id)
	case n < 90:
		_, err = coll.ReplaceOne(ctx, id, bson.D{{Key: "pad", Value: strings.Repeat("r", x.r.IntN(300))}}, options.Replace().SetUpsert(true))
	case n < 93:
		err = coll.Drop(ctx)
	case n < 97:
		to := colls[x.r.IntN(len(colls))]
		cmd := bson.D{{Key: "renameCollection", Value: x.w.DB.Name() + "." + name}, {Key: "to", Value: x.w.DB.Name() + "." + to}, {Key: "dropTarget", Value: true}}
		if err = x.w.Client.Database("admin").RunCommand(ctx, cmd).Err(); code(err) == 26 || code(err) == 20 || code(err) == 72 {
			err = nil // there is none, or it is itself
		}
	default:
		var docs []any
		for i := range 100 {
			docs = append(docs, bson.D{{Key: "_id", Value: fmt.Sprintf("%d-%d", x.r.IntN(1000), i)}, {Key: "pad", Value: strings.Repeat("m", 100)}})
		}
		_, _ = coll.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	}
	if err != nil {
		x.t.Errorf("write: %v", err)
	}
}

// Whatever is written, dropped and renamed during a copy, and wherever it crashes, the
// end is what the collections have, and no document's version goes back.
func TestSnapshotOfCollectionsThatChange(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, coll := range []string{"a", "b", "c", "outside"} {
		w.docs(coll, 0, 300, 200)
	}
	s := w.source(Options{Collections: []string{"a", "b", "c", "new", "marker*"}, SnapshotChunkBytes: 8 << 10, SnapshotParallelism: 3})
	s.limits.slice = time.Duration(r.IntN(20)) * time.Millisecond
	x := &writer{w, r, t}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	m.outside = "outside"
	at, saved := st.Position(), m.clone()
	for n := 1; at.Snapshot != "" && n < 5000; n++ {
		x.write()
		events, pos, err := st.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			m.apply(ev)
			if r.IntN(20) == 0 {
				if at, err = rigatoni.PositionAfter(ev); err != nil {
					t.Fatal(err)
				}
				saved = m.clone()
			}
		}
		if r.IntN(3) == 0 {
			at, saved = pos, m.clone()
		}
		if r.IntN(10) == 0 {
			if err := st.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			m = saved.clone()
			st = w.open(s, "", rigatoni.Start{Checkpoint: snapshotAt(at, st.Fingerprint())})
		}
	}
	st.copyAll(m.apply)
	w.settle(st, m)
	m.matches(w.DB, "a", "b", "c")
	if t.Failed() {
		t.Log(w.log.String())
	}
}

// Documents near the server's limit, whose replies have room for one, are all copied.
func TestSnapshotOfLargeDocuments(t *testing.T) {
	w := roomy(t)
	s := w.source(Options{SnapshotChunkBytes: 4 << 20})
	w.large("large", 0, 14<<20)
	w.large("large", 1, 7<<20)
	w.docs("large", 10, 20, 10)
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	st.copyAll(m.apply)
	m.matches(w.DB, "large")
	if m.reads != 12 {
		t.Errorf("%d reads, want 12", m.reads)
	}
}

// roomy is a server whose cache has room for large documents.
func roomy(t *testing.T) *fixture {
	w := ownMongod(t, mongod.Options{})
	w.admin(bson.D{{Key: "setParameter", Value: 1}, {Key: "wiredTigerEngineRuntimeConfig", Value: "cache_size=1G"}})
	return w
}

// large inserts a document, once the server has room in its cache.
func (w *fixture) large(coll string, id, size int) {
	w.t.Helper()
	doc := bson.D{{Key: "_id", Value: int32(id)}, {Key: "pad", Value: strings.Repeat("x", size)}}
	deadline := time.Now().Add(patience)
	for {
		_, err := w.DB.Collection(coll).InsertOne(w.t.Context(), doc)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "cache") || time.Now().After(deadline) {
			w.t.Fatal(err)
		}
	}
}

// Small documents between large ones: a chunk of many that doesn't fit into a reply is
// cut there, and nothing after it is taken for read.
func TestSnapshotOfUnevenDocuments(t *testing.T) {
	w := roomy(t)
	s := w.source(Options{SnapshotChunkBytes: 16 << 20})
	for i := range 4 {
		w.docs("uneven", i*100, i*100+50, 10)
		w.large("uneven", i*100+99, 9<<20)
	}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	st.copyAll(m.apply)
	m.matches(w.DB, "uneven")
}

// The token of the stream advances during a copy, so that it never ages out of the oplog.
func TestSnapshotAdvancesTheToken(t *testing.T) {
	w, s := real(t, Options{SnapshotChunkBytes: 2 << 10, SnapshotParallelism: 1})
	w.docs("a", 0, 500, 100)
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	var tokens []resumetoken.Token
	st.copyAll(func(ev rigatoni.Event) {
		m.apply(ev)
		if ev.IsSnapshot() && m.reads%50 == 1 {
			w.insert("b", m.reads)
		}
		pos, err := rigatoni.PositionAfter(ev)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, pos.Token)
		time.Sleep(time.Millisecond) // a slice has an end
	})
	different := 0
	for i := 1; i < len(tokens); i++ {
		order, ok := resumetoken.Compare(tokens[i-1], tokens[i])
		if !ok || order > 0 {
			t.Fatal("the token goes back")
		}
		if order < 0 {
			different++
		}
	}
	if different < 3 {
		t.Errorf("the token advanced %d times during %d events", different, len(tokens))
	}
}

// What can't be copied is refused by name when the stream is opened.
func TestSnapshotRefusesWhatItCantCopy(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t))
	ctx := t.Context()
	if err := w.DB.CreateCollection(ctx, "capped", options.CreateCollection().SetCapped(true).SetSizeInBytes(1<<20)); err != nil {
		t.Fatal(err)
	}
	w.insert("plain", 1)
	if err := w.DB.CreateView(ctx, "view", "plain", bson.A{}); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.CreateCollection(ctx, "series", options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t"))); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"capped":     {},
		"capped ":    {Collections: []string{"capped"}},
		"capped  ":   {Collections: []string{"cap*", "plain"}},
		"view":       {Collections: []string{"plain", "view"}},
		"series":     {Collections: []string{"plain", "series"}},
		"series ":    {Collections: []string{"series"}},
		"field to":   {Collections: []string{"plain"}, Pipeline: Pipeline{{{Key: "$project", Value: bson.D{{Key: "fullDocument", Value: 1}}}}}},
		"field to ":  {Collections: []string{"plain"}, Pipeline: Pipeline{{{Key: "$unset", Value: "to"}}}},
		"field to  ": {Collections: []string{"plain"}, Pipeline: Pipeline{{{Key: "$replaceWith", Value: bson.D{{Key: "x", Value: "$fullDocument"}}}}}},
	} {
		_, err := w.source(o).Open(ctx, "", rigatoni.Start{Snapshot: true})
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%+v: %v, want a refusal that names %q", o, err, name)
		}
	}
	// A view and a time-series collection have no events in a stream of the database.
	if err := w.DB.Collection("capped").Drop(ctx); err != nil {
		t.Fatal(err)
	}
	st := w.open(w.source(Options{}), "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	st.copyAll(m.apply)
	m.matches(w.DB, "plain")
}

func TestSnapshotWithoutTheRightToList(t *testing.T) {
	w := ownMongod(t, mongod.Options{Auth: true})
	w.insert("c", 1)
	db := w.DB.Name()
	w.admin(bson.D{{Key: "createRole", Value: "narrow"}, {Key: "roles", Value: bson.A{}}, {Key: "privileges", Value: bson.A{
		bson.D{{Key: "resource", Value: bson.D{{Key: "db", Value: db}, {Key: "collection", Value: "c"}}}, {Key: "actions", Value: bson.A{"find", "changeStream"}}},
	}}})
	w.admin(bson.D{{Key: "createUser", Value: "narrow"}, {Key: "pwd", Value: "p"}, {Key: "roles", Value: bson.A{"narrow"}}})
	w.admin(bson.D{{Key: "createUser", Value: "reader"}, {Key: "pwd", Value: "p"}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: db}}}}})
	as := func(user string) *fixture {
		client := w.Connect(t, options.Client().SetAuth(options.Credential{Username: user, Password: "p"}))
		return w.with(t, client.Database(db))
	}
	_, err := as("narrow").source(Options{Collections: []string{"c"}}).Open(t.Context(), "", rigatoni.Start{Snapshot: true})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "listCollections") {
		t.Errorf("%v, want a refusal that names listCollections", err)
	}
	st := w.open(as("reader").source(Options{}), "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	st.copyAll(m.apply)
	m.matches(w.DB, "c")
}

// A collection whose index sorts by a collation is copied whole, and loses no change.
func TestSnapshotOfACollation(t *testing.T) {
	w, s := real(t, Options{SnapshotChunkBytes: 1024})
	o := options.CreateCollection().SetCollation(&options.Collation{Locale: "de", Strength: 2, NumericOrdering: true})
	if err := w.DB.CreateCollection(t.Context(), "c", o); err != nil {
		t.Fatal(err)
	}
	var docs []any
	for _, id := range []string{"Zeta", "alpha", "Beta", "10", "9", "Ä", "b", "C", "äh", "100", "z"} {
		docs = append(docs, bson.D{{Key: "_id", Value: id}, {Key: "pad", Value: strings.Repeat("x", 300)}})
	}
	if _, err := w.DB.Collection("c").InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	m.unordered = true
	n := 0
	st.copyAll(func(ev rigatoni.Event) {
		m.apply(ev)
		if n++; n%3 == 0 {
			for _, id := range []string{"alpha", "Z", "9"} {
				if _, err := w.DB.Collection("c").UpdateOne(context.Background(), bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	if m.reads < len(docs) {
		t.Errorf("%d reads of %d documents", m.reads, len(docs))
	}
	if w.log.count("collation") != 1 {
		t.Errorf("the log doesn't say it once:\n%s", w.log.String())
	}
}

// A copy that was asked for delivers all events meanwhile, and its end says from when on
// it has everything.
func TestSnapshotOnRequest(t *testing.T) {
	w, s := real(t, Options{SnapshotChunkBytes: 1024})
	w.docs("a", 0, 50, 100)
	w.docs("b", 0, 50, 100)
	st := w.open(s, "", rigatoni.Start{})
	w.insert("a", 1000)
	st.collect(1)
	cp, err := RequestSnapshot(*st.checkpoint(), rigatoni.Namespace{DB: w.DB.Name(), Coll: "a"}, rigatoni.Namespace{DB: w.DB.Name(), Coll: "never"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.DB.Collection("a").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: int32(1000)}}); err != nil {
		t.Fatal(err)
	}
	again := w.open(s, "", at(&cp))
	m := newMirror(t)
	deletes := 0
	again.copyAll(func(ev rigatoni.Event) {
		if ev.OperationType() == "delete" {
			deletes++
		}
		m.apply(ev)
	})
	m.matches(w.DB, "a")
	if deletes != 1 || m.reads < 50 || m.reads > 51 {
		t.Errorf("%d deletes and %d reads, want 1 and 50 or 51", deletes, m.reads)
	}
	if got := fmt.Sprint(m.ends); !strings.Contains(got, ".a") || !strings.Contains(got, ".never") {
		t.Errorf("the ends of %s, want those of a and of never, which doesn't exist", got)
	}
}

// The stages of a pipeline apply to documents as to their insert events.
func TestSnapshotAppliesThePipeline(t *testing.T) {
	w, s := real(t, Options{SnapshotChunkBytes: 1024, Pipeline: Pipeline{
		{{Key: "$match", Value: bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: bson.A{"insert", "update"}}}}, {Key: "fullDocument.n", Value: bson.D{{Key: "$gte", Value: 20}}}}}},
		{{Key: "$project", Value: bson.D{{Key: "to", Value: 1}, {Key: "fullDocument._id", Value: 1}, {Key: "fullDocument.twice", Value: bson.D{{Key: "$multiply", Value: bson.A{"$fullDocument.n", 2}}}}}}},
	}})
	var docs []any
	for i, id := range append(everyType(), "more") {
		docs = append(docs, bson.D{{Key: "_id", Value: id}, {Key: "n", Value: int32(i)}, {Key: "pad", Value: strings.Repeat("x", 100)}})
	}
	if _, err := w.DB.Collection("a").InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	reads := 0
	st.copyAll(func(ev rigatoni.Event) {
		if ev.OperationType() != "read" {
			return
		}
		reads++
		doc := ev.FullDocument()
		twice, ok := doc.Lookup("twice").AsInt64OK()
		if _, err := doc.LookupErr("pad"); err == nil || !ok || twice < 40 {
			t.Errorf("read %v", ev.Raw)
		}
		if !bytes.Equal(doc.Lookup("_id").Value, ev.DocumentKey().Lookup("_id").Value) || ev.ClusterTime().IsZero() || ev.Namespace().Coll != "a" {
			t.Errorf("read %v", ev.Raw)
		}
	})
	if want := len(docs) - 20; reads != want {
		t.Errorf("%d reads, want %d", reads, want)
	}
	// And the same event of a change.
	if _, err := w.DB.Collection("a").InsertMany(t.Context(), []any{bson.D{{Key: "_id", Value: 1001}, {Key: "n", Value: int32(3)}}, bson.D{{Key: "_id", Value: 1002}, {Key: "n", Value: int32(50)}}}); err != nil {
		t.Fatal(err)
	}
	wantNames(t, st.collect(1), `insert a {"$numberInt":"1002"}`)
}

// A drop that Options.Operations leave out is seen by the copy, and delivered to nobody;
// its token is one that the stream resumes from afterwards.
func TestSnapshotSeesWhatOperationsLeaveOut(t *testing.T) {
	w, s := real(t, Options{SnapshotChunkBytes: 1024, SnapshotParallelism: 1, Operations: []string{"insert", "update"}})
	w.docs("a", 0, 100, 100)
	w.docs("b", 0, 10, 100)
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	var last rigatoni.Position
	dropped := false
	st.copyAll(func(ev rigatoni.Event) {
		if op := ev.OperationType(); op == "drop" || op == "delete" {
			t.Errorf("an event of the type %s", op)
		}
		m.apply(ev)
		if !dropped && m.reads > 10 {
			dropped = true
			w.drop("a")
		}
	})
	last = st.Position()
	if len(m.ends) != 1 || !strings.HasSuffix(m.ends[0], ".b") {
		t.Errorf("the ends of %v, want that of b alone", m.ends)
	}
	after := w.open(s, "", at(snapshotAt(last, st.Fingerprint())))
	w.insert("b", 500)
	wantNames(t, after.collect(1), inserted("b", 500)...)
}

// A read that fails is repeated at a later time, and its documents are not delivered
// twice.
func TestSnapshotReadsAgainAfterErrors(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	w.docs("a", 0, 200, 100)
	for _, c := range []struct {
		name string
		data bson.D
	}{
		{"too old", failCommand("find", 239)},
		{"not there yet", failCommand("find", 246)},
		{"killed", failCommand("find", 175)},
		{"cursor", failCommand("find", 43)},
		{"time", failCommand("find", 50)},
		{"not primary", failCommand("find", 13435)},
		{"unknown", failCommand("find", 7777)},
		{"a time that the server has not reached", failCommand("find", codeInvalidOptions)},
		{"connection", bson.D{{Key: "failCommands", Value: bson.A{"find"}}, {Key: "closeConnection", Value: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.with(t, w.DB)
			s := w.source(Options{SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 2})
			st := w.open(s, "", rigatoni.Start{Snapshot: true})
			w.failPoint("failCommand", times(3), c.data)
			m := newMirror(t)
			st.copyAll(m.apply)
			m.matches(w.DB, "a")
			if m.reads != 200 {
				t.Errorf("%d reads, want 200", m.reads)
			}
		})
	}
}

// An election while a stream with a copy is opened only delays it.
func TestSnapshotOpensDuringAnElection(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	w.docs("a", 0, 5, 10)
	for _, code := range []int{10107, 13435, 189} {
		w.failPoint("failCommand", times(2), failCommand("listCollections", code))
		s := w.source(Options{})
		st := w.open(s, "", rigatoni.Start{Snapshot: true})
		m := newMirror(t)
		st.copyAll(m.apply)
		m.matches(w.DB, "a")
	}
}

// A right that is taken away during a copy ends the stream with what is missing.
func TestSnapshotIsRefusedMeanwhile(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	w.docs("a", 0, 200, 100)
	s := w.source(Options{SnapshotChunkBytes: 4 << 10})
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	w.failPoint("failCommand", "alwaysOn", failCommand("find", codeUnauthorized))
	_, err := st.fail()
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "copy") || !strings.Contains(err.Error(), ".a") {
		t.Errorf("%v, want a refusal that names the collection", err)
	}
}

// A stream of the deployment copies all databases of users, one of each collection its
// own.
func TestSnapshotAtEveryLevel(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	other := w.with(t, w.Client.Database("other"))
	w.docs("a", 0, 20, 10)
	w.docs("b", 0, 20, 10)
	other.docs("c", 0, 20, 10)
	st := w.open(w.anySource(Options{}), "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	st.copyAll(m.apply)
	if m.reads != 60 {
		t.Errorf("%d reads of the deployment, want 60", m.reads)
	}
	each := w.source(Options{Collections: []string{"a", "b"}, OneEach: true})
	for _, name := range each.Streams() {
		st := w.open(each, name, rigatoni.Start{Snapshot: true})
		m := newMirror(t)
		st.copyAll(m.apply)
		m.matches(w.DB, name)
	}
	pattern := w.open(w.anySource(Options{Database: "oth*"}), "", rigatoni.Start{Snapshot: true})
	m = newMirror(t)
	pattern.copyAll(m.apply)
	m.matches(other.DB, "c")
}

// A collection with a collation that takes the place of one without is not copied by the
// order of bytes.
func TestSnapshotOfACollectionThatGetsACollation(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t))
	s := w.source(Options{Collections: []string{"a", "b", "marker*"}, SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 1})
	s.limits.slice, s.limits.run = time.Millisecond, 10*time.Millisecond
	w.docs("a", 0, 100, 100)
	w.docs("b", 0, 10, 10)
	o := options.CreateCollection().SetCollation(&options.Collation{Locale: "de", Strength: 2})
	if err := w.DB.CreateCollection(t.Context(), "outside", o); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "B", "c", "D"} {
		if _, err := w.DB.Collection("outside").InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
			t.Fatal(err)
		}
	}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	w.admin(bson.D{{Key: "renameCollection", Value: w.DB.Name() + ".outside"}, {Key: "to", Value: w.DB.Name() + ".b"}, {Key: "dropTarget", Value: true}})
	m := newMirror(t)
	m.outside, m.unordered = "outside", true
	seen := false
	st.copyAll(func(ev rigatoni.Event) {
		m.apply(ev)
		if pos, err := rigatoni.PositionAfter(ev); err == nil && ev.IsSnapshot() && ev.Namespace().Coll == "b" {
			seen = strings.Contains(pos.Snapshot, `"unordered":true`)
		}
	})
	w.settle(st, m)
	m.matches(w.DB, "a", "b")
	if !seen {
		t.Error("the collection was not seen to have a collation")
	}
}

// A stream whose collection or database is dropped during its copy goes on with the next
// one of that name.
func TestSnapshotOfWhatIsDropped(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		drop func(*fixture)
	}{
		{"collection", Options{Collections: []string{"a"}}, func(w *fixture) { w.drop("a") }},
		{"database", Options{}, func(w *fixture) {
			if err := w.DB.Drop(context.Background()); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.SnapshotChunkBytes, c.o.SnapshotParallelism = 2<<10, 1
			w, s := real(t, c.o)
			s.limits.slice, s.limits.run = time.Millisecond, 10*time.Millisecond
			w.docs("a", 0, 300, 100)
			st := w.open(s, "", rigatoni.Start{Snapshot: true})
			m := newMirror(t)
			dropped := false
			st.copyAll(func(ev rigatoni.Event) {
				if m.apply(ev); !dropped && m.reads > 20 {
					dropped = true
					c.drop(w)
				}
			})
			if m.reads == 300 || len(m.ends) > 0 {
				t.Errorf("%d reads and %d ends: the drop came too late", m.reads, len(m.ends))
			}
			w.docs("a", 0, 3, 10)
			inserts := 0
			st.until("the inserts after the drop", func(events []rigatoni.Event) bool {
				for _, ev := range events {
					if ev.OperationType() == "insert" {
						inserts++
					}
				}
				return inserts == 3
			})
		})
	}
}

// A client's own limit for calls (timeoutMS) and its read preference change nothing.
func TestSnapshotWithOptionsOfTheClient(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t))
	w.docs("a", 0, 100, 100)
	client := w.Connect(t, options.Client().SetTimeout(20*time.Second).SetReadPreference(readpref.SecondaryPreferred()))
	w = w.with(t, client.Database(w.DB.Name()))
	st := w.open(w.source(Options{SnapshotChunkBytes: 2 << 10}), "", rigatoni.Start{Snapshot: true})
	m := newMirror(t)
	st.copyAll(m.apply)
	m.matches(w.DB, "a")
}
