package changestream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

const renamedIn = "a collection whose events the stream does not have was renamed to one that it has"

func (w *fixture) renameOnto(from, to string) {
	w.t.Helper()
	w.admin(bson.D{{Key: "renameCollection", Value: from}, {Key: "to", Value: to}, {Key: "dropTarget", Value: true}})
}

// finished reads until a document that is inserted now, and returns the events before it.
func (s *watcher) finished(w *fixture, marker string) (all []rigatoni.Event) {
	s.t.Helper()
	w.insert(marker, 1)
	s.until("the marker", func(events []rigatoni.Event) bool {
		for _, ev := range events {
			if ev.Namespace().Coll == marker && ev.OperationType() == "insert" {
				return true
			}
			all = append(all, ev)
		}
		return false
	})
	return all
}

// A rename that brings documents without events is in the log, with both names and the command
// that copies the collection; whatever the scope, and whatever renames: a user, one from another
// database, $out or convertToCapped. Where the stream has the documents' events, there is nothing
// to say.
func TestRenamesThatBringUnseenDocuments(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	run := map[string]func(w *fixture, db, other string){
		"a rename":       func(w *fixture, db, _ string) { w.renameOnto(db+".unseen", db+".orders") },
		"another's":      func(w *fixture, db, other string) { w.renameOnto(other+".unseen", db+".orders") },
		"of its own":     func(w *fixture, db, _ string) { w.renameOnto(db+".orders_old", db+".orders") },
		"out of it":      func(w *fixture, db, _ string) { w.renameOnto(db+".orders", db+".unseen") },
		"among unseen":   func(w *fixture, db, _ string) { w.renameOnto(db+".unseen", db+".more") },
		"$out":           func(w *fixture, db, _ string) { w.out("unseen", "orders") },
		"$out elsewhere": func(w *fixture, db, _ string) { w.out("unseen", "more") },
		"capped": func(w *fixture, db, _ string) {
			if err := w.DB.RunCommand(w.t.Context(), bson.D{{Key: "convertToCapped", Value: "orders"}, {Key: "size", Value: 100_000}}).Err(); err != nil {
				w.t.Fatal(err)
			}
		},
	}
	listed := []string{"a rename", "another's", "$out", "capped"}
	n := 0
	for _, c := range []struct {
		name string
		o    func(db string) Options
		warn []string // what it says something about
		says func(db string) string
	}{
		{"collections", func(db string) Options {
			return Options{Database: db, Collections: []string{"orders", "orders_old", "marker"}}
		}, listed, func(string) string { return "orders" }},
		{"a pattern", func(db string) Options { return Options{Database: db, Collections: []string{"orders*", "marker"}} }, listed, func(string) string { return "orders" }},
		{"a pattern of databases", func(db string) Options {
			return Options{Database: db + "*", Collections: []string{"orders*", "marker"}}
		}, listed, func(db string) string { return db + ".orders" }},
		{"a database", func(db string) Options { return Options{Database: db} }, []string{"capped"}, func(string) string { return "orders" }},
		{"the deployment", func(string) Options { return Options{} }, []string{"capped"}, func(db string) string { return db + ".orders" }},
	} {
		for kind, do := range run {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				n++
				db, other := fmt.Sprintf("db%d_", n), fmt.Sprintf("other%d_", n)
				f := newFixture(t, w.Server).with(t, w.Client.Database(db))
				f.log = &logBuffer{}
				for _, coll := range []string{"orders", "orders_old", "unseen"} {
					f.insert(coll, 1, 2)
				}
				f.with(t, w.Client.Database(other)).insert("unseen", 3)
				st := f.open(f.anySource(c.o(db)), "", rigatoni.Start{})
				do(f, db, other)
				events := st.finished(f, "marker")
				lines := f.log.count(renamedIn)
				want := 0
				for _, k := range c.warn {
					if k == kind {
						want = 1
					}
				}
				if lines != want {
					t.Fatalf("%d lines, want %d; the events are %v\n%s", lines, want, names(events), f.log)
				}
				if want == 0 {
					return
				}
				text := f.log.String()
				for _, part := range []string{"level=WARN", " from=" + db + ".", "to=" + db + ".orders ", `command="rigatoni checkpoint set PIPELINE.yaml --snapshot ` + c.says(db) + ` --execute"`} {
					if !strings.Contains(text, part) {
						t.Errorf("the line has no %q: %s", part, text)
					}
				}
				if last := events[len(events)-1]; last.OperationType() != "rename" || len(events) != 1 {
					t.Errorf("the events are %v: what the line is about is none of them", names(events))
				}
			})
		}
	}
}

func (w *fixture) out(from, to string) {
	w.t.Helper()
	cur, err := w.DB.Collection(from).Aggregate(w.t.Context(), mongo.Pipeline{{{Key: "$out", Value: to}}})
	if err != nil {
		w.t.Fatal(err)
	}
	_ = cur.Close(w.t.Context())
}

// A stream of one collection ends its cursor with the rename, and says the same. What the line
// tells to do brings the documents.
func TestRenameOntoTheOnlyCollection(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t))
	w.insert("orders", 1)
	w.insert("unseen", 2)
	st := w.open(w.source(Options{Collections: []string{"orders"}}), "", rigatoni.Start{})
	w.renameOnto(w.DB.Name()+".unseen", w.DB.Name()+".orders")
	wantNames(t, st.collect(2), "rename unseen", "invalidate")
	w.insert("orders", 3)
	wantNames(t, st.collect(1), inserted("orders", 3)...)
	if n := w.log.count(renamedIn); n != 1 {
		t.Errorf("%d lines: %s", n, w.log)
	}
	cp, err := RequestSnapshot(*st.checkpoint(), rigatoni.Namespace{DB: w.DB.Name(), Coll: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	w.open(w.source(Options{Collections: []string{"orders"}}), "", at(&cp)).copyAll(func(ev rigatoni.Event) {
		if ev.OperationType() == "read" {
			ids[ev.DocumentKey().Lookup("_id").String()] = true
		}
	})
	if len(ids) != 2 {
		t.Errorf("what is to be done about it copies %v", ids)
	}
}

// While a copy is under way the collection is copied, and nothing is to be said; when it has
// ended, in the same session, the stream says the same as any other.
func TestRenamesDuringAndAfterACopy(t *testing.T) {
	w := newFixture(t, testserver.Mongod(t))
	name := w.DB.Name()
	w.docs("orders", 0, 50, 10)
	w.docs("unseen", 100, 120, 10)
	w.docs("unseen2", 200, 220, 10)
	st := w.open(w.source(Options{Collections: []string{"orders", "users", "marker"}}), "", rigatoni.Start{Snapshot: true})
	w.renameOnto(name+".unseen", name+".users")
	reads := 0
	st.copyAll(func(ev rigatoni.Event) {
		if ev.OperationType() == "read" {
			reads++
		}
	})
	if n := w.log.count(renamedIn); n != 0 || reads != 70 {
		t.Errorf("%d documents are copied, and the log says: %s", reads, w.log)
	}
	w.renameOnto(name+".unseen2", name+".users")
	st.finished(w, "marker")
	if n := w.log.count(renamedIn); n != 1 {
		t.Errorf("%d lines after the copy has ended: %s", n, w.log)
	}
}

// Events that were read while the copy was under way, and are processed when it has ended, are
// looked at, once.
func TestRenamesAtTheEndOfACopy(t *testing.T) {
	w := newFixture(t, testserver.Mongotest(t))
	st, err := w.source(Options{Database: "d", Collections: []string{"orders", "users"}}).Open(t.Context(), "", rigatoni.Start{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close(t.Context())
	under := st.(*stream)
	rename := changeEvent(t, "rename", "unseen", bson.Timestamp{T: 1, I: 1}, renamedTo("orders"))
	for _, copying := range []bool{true, false} {
		before := w.log.count(renamedIn)
		c := newCopyStream(under, nil, newLister(under.reader.src), false)
		under.reader.copying = copying
		c.backlog, c.end = []rigatoni.Event{rename}, under.at
		c.process()
		want := 0 // the reader has said it
		if copying {
			want = 1
		}
		if n := w.log.count(renamedIn) - before; n != want {
			t.Errorf("copying %v: %d lines, want %d", copying, n, want)
		}
	}
	under.reader.copying = true
	for what, backlog := range map[string][]rigatoni.Event{
		"the drop of the last collection and a rename": {changeEvent(t, "drop", "orders", bson.Timestamp{T: 1, I: 1}), changeEvent(t, "rename", "unseen", bson.Timestamp{T: 1, I: 2}, renamedTo("users"))},
		"a capped collection instead of the last one":  {changeEvent(t, "rename", "tmpX.convertToCapped.orders", bson.Timestamp{T: 1, I: 1}, renamedTo("orders"))},
	} {
		before := w.log.count(renamedIn)
		copying := newCopyState(under.at.Token, bson.Timestamp{}, false, []rigatoni.Namespace{{DB: "d", Coll: "orders"}}, time.Now())
		c := newCopyStream(under, copying, newLister(under.reader.src), false)
		c.backlog, c.end = backlog, under.at
		if events := c.process(); len(events) != len(backlog) {
			t.Errorf("%s: the events are %v", what, names(events))
		}
		if n := w.log.count(renamedIn) - before; n != 1 {
			t.Errorf("%s: %d lines, want 1", what, n)
		}
	}
	under.reader.copying = false
}
