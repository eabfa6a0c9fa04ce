package changestream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func (w *fixture) put(coll string, docs ...bson.D) {
	w.t.Helper()
	for _, doc := range docs {
		if _, err := w.DB.Collection(coll).InsertOne(w.t.Context(), doc); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *fixture) set(coll string, id int, fields bson.D) {
	w.t.Helper()
	if _, err := w.DB.Collection(coll).UpdateByID(w.t.Context(), int32(id), bson.D{{Key: "$set", Value: fields}}); err != nil {
		w.t.Fatal(err)
	}
}

func numbered(id int, n any) bson.D {
	return bson.D{{Key: "_id", Value: int32(id)}, {Key: "n", Value: n}}
}

func positionAfter(t *testing.T, ev rigatoni.Event) rigatoni.Position {
	t.Helper()
	pos, err := rigatoni.PositionAfter(ev)
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func TestPipelineFiltersAndProjects(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Pipeline: mustParse(t, `[
			{"$match": {"operationType": "insert", "fullDocument.n": {"$gt": 10}}},
			{"$project": {"fullDocument.n": 1, "twice": ["$fullDocument.n", "$fullDocument.n"]}}
		]`)}), "", rigatoni.Start{})
		w.put("c", numbered(1, 5), append(numbered(2, 20), bson.E{Key: "secret", Value: "x"}), numbered(3, 7))
		w.set("c", 1, bson.D{{Key: "n", Value: 30}})
		w.put("c", numbered(4, 40))
		events := st.collect(2)
		wantNames(t, events, inserted("c", 2, 4)...)
		ev := events[0]
		if got := ev.FullDocument().String(); got != `{"n": {"$numberInt":"20"}}` {
			t.Errorf("the document is %s", got)
		}
		if ev.ClusterTime().IsZero() || ev.Namespace().String() != w.DB.Name()+".c" || len(ev.Raw.Lookup("twice").Array()) == 0 {
			t.Errorf("the event is %v", ev.Raw)
		}
	})
}

// However much a pipeline hides, the stream shows its ends.
func TestPipelineDoesNotHideEndings(t *testing.T) {
	nothing := []string{
		`[{"$match": {"operationType": "none"}}]`,
		`[{"$match": {"x": 1}}, {"$project": {"x": 1}}, {"$match": {"y": 1}}, {"$replaceWith": {}}]`,
		`[{"$redact": "$$PRUNE"}]`,
	}
	both(t, func(t *testing.T, w *fixture) {
		for i, text := range nothing {
			if strings.Contains(text, "$redact") && w.Fake != nil {
				continue // mongotest has no $redact
			}
			w := w.with(t, w.Client.Database(fmt.Sprintf("%s_%d", w.DB.Name(), i)))
			for name, o := range map[string]Options{
				"collection": {Collections: []string{"c"}, Pipeline: mustParse(t, text)}, "database": {Pipeline: mustParse(t, text)},
				"operations": {Operations: []string{"drop"}, Collections: []string{"x", "y*"}},
			} {
				st := w.open(w.source(o), "", rigatoni.Start{})
				w.insert("c", 1)
				if err := w.DB.Drop(t.Context()); err != nil {
					t.Fatal(err)
				}
				want := []string{"dropDatabase", "invalidate"}
				if name == "collection" {
					want = want[1:]
				}
				wantNames(t, st.collect(len(want)), want...)
				// The stream is resumed after its end, also from a checkpoint.
				if st.Position().StartAfter != true {
					t.Errorf("%s: the position after invalidate has no StartAfter", name)
				}
				w.open(w.source(o), "", at(st.checkpoint()))
			}
		}
	})
}

// What a filter says of the event at the checkpoint may change: the document that
// is looked up, the time, chance. The stream is resumed all the same.
func TestResumeAfterAnEventThatTheFilterHidesByNow(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		filters := map[string]string{"lookup": `[{"$match": {"fullDocument.open": true}}]`}
		if w.Fake == nil { // mongotest has no $redact
			filters["redact"] = `[{"$redact": {"$cond": ["$fullDocument.open", "$$KEEP", "$$PRUNE"]}}]`
			filters["set"] = `[{"$set": {"o": "$fullDocument.open"}}, {"$match": {"o": true}}, {"$unset": "o"}]`
		}
		for name, text := range filters {
			w := w.with(t, w.Client.Database(w.DB.Name()+"_"+name))
			o := Options{Collections: []string{"c"}, FullDocument: "updateLookup", Pipeline: mustParse(t, text)}
			st := w.open(w.source(o), "", rigatoni.Start{})
			for i := range 5 {
				w.put("c", bson.D{{Key: "_id", Value: int32(i)}, {Key: "open", Value: false}})
				w.set("c", i, bson.D{{Key: "open", Value: true}})
				wantNames(t, st.collect(1), fmt.Sprintf(`update c {"$numberInt":"%d"}`, i))
				cp := st.checkpoint()
				w.set("c", i, bson.D{{Key: "open", Value: false}})
				next := w.open(w.source(o), "", at(cp))
				w.put("c", bson.D{{Key: "_id", Value: int32(100 + i)}, {Key: "open", Value: true}})
				wantNames(t, next.collect(1), inserted("c", 100+i)...) // and not the update again
				wantNames(t, st.collect(1), inserted("c", 100+i)...)
			}
		}
	})
}

// The driver resumes a stream by itself, and doesn't know that: then the server
// says 280, for which nothing is lost.
func TestDriverResumesAfterAnEventThatTheFilterHidesByNow(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		o := Options{Collections: []string{"c"}, FullDocument: "updateLookup", Pipeline: mustParse(t, `[{"$match": {"fullDocument.open": true}}]`)}
		st := w.open(w.source(o), "", rigatoni.Start{})
		for i := 0; w.log.count("code 280") == 0; i++ {
			if i == 50 {
				t.Fatalf("the driver did not fail as it does; the log:\n%s", w.log)
			}
			w.put("c", bson.D{{Key: "_id", Value: int32(i)}, {Key: "open", Value: true}})
			wantNames(t, st.collect(1), inserted("c", i)...)
			w.put("c", bson.D{{Key: "_id", Value: int32(1000 + i)}, {Key: "open", Value: false}})
			w.set("c", 1000+i, bson.D{{Key: "open", Value: true}})
			st.collect(1)
			before := w.Failures("getMore")
			// As an error of the getMore, before the server has moved on.
			w.set("c", 1000+i, bson.D{{Key: "open", Value: false}})
			w.failPoint("failGetMoreAfterCursorCheckout", times(1), bson.D{{Key: "errorCode", Value: 11602}})
			w.put("c", bson.D{{Key: "_id", Value: int32(2000 + i)}, {Key: "open", Value: true}})
			wantNames(t, st.collect(1), inserted("c", 2000+i)...)
			if w.Failures("getMore") == before {
				t.Log("no getMore has failed")
			}
		}
	})
}

// A token that the server really can't find is an error with a pipeline too, at
// once or at the first event.
func TestUnknownTokenWithAPipeline(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		o := Options{Collections: []string{"c"}, Pipeline: mustParse(t, `[{"$match": {"documentKey._id": {"$gt": 10}}}]`)}
		st := w.open(w.source(Options{Collections: []string{"d"}}), "", rigatoni.Start{})
		w.insert("d", 1)
		other := positionAfter(t, st.collect(1)[0])
		w.insert("c", 1)
		got, err := w.source(o).Open(t.Context(), "", at(checkpointOf(other, "")))
		if err == nil {
			w.insert("c", 11)
			_, err = (&watcher{got, t}).fail()
			got.Close(t.Context())
		}
		if !errors.Is(err, rigatoni.ErrHistoryLost) {
			t.Errorf("%v", err)
		}
	})
}

// An expression that fails stops the stream with an error that says so; the
// events before it are delivered.
func TestExpressionThatFails(t *testing.T) {
	s := ownMongod(t, mongod.Options{})
	for name, c := range map[string]struct{ pipeline, want string }{
		"division":   {`[{"$match": {"operationType": {"$ne": "none"}}}, {"$set": {"q": {"$divide": [1, "$fullDocument.n"]}}}]`, "can't $divide by zero (BadValue, code 2)"},
		"conversion": {`[{"$set": {"q": {"$toInt": {"$cond": ["$fullDocument.n", "1", "s3cr3t"]}}}}]`, "Failed to parse number … (ConversionFailure, code 241)"},
		"filter":     {`[{"$match": {"$expr": {"$gt": [{"$divide": [1, "$fullDocument.n"]}, 0]}}}]`, "can't $divide by zero"},
		"addition":   {`[{"$match": {"fullDocument.n": {"$ne": 7}}}, {"$set": {"q": {"$add": [1, {"$cond": ["$fullDocument.n", 1, "x"]}]}}}]`, "$add only supports"},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.with(t, s.Client.Database("shop_"+name))
			src := w.source(Options{Collections: []string{"c"}, Pipeline: mustParse(t, c.pipeline)})
			st := w.open(src, "", rigatoni.Start{})
			begin := st.checkpoint()
			w.put("c", numbered(1, 1), numbered(2, 2), numbered(3, 0), numbered(4, 4))
			check := func(events []rigatoni.Event, err error) {
				t.Helper()
				if got, want := names(events), inserted("c", 1, 2); !slices.Equal(got, want) {
					t.Errorf("before the error came %v", got)
				}
				if err == nil || !strings.Contains(err.Error(), "Options.Pipeline fails on an event after 2") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("%v", err)
				}
			}
			check(st.fail())
			check(w.open(src, "", at(begin)).fail())
			if _, err := src.Open(t.Context(), "", at(st.checkpoint())); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("opened right before it: %v", err)
			}
		})
	}
}

// What only the server knows to be wrong is refused when the stream is opened.
func TestPipelineThatTheServerRefuses(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		for _, text := range []string{
			`[{"$project": {"x": {"$nosuch": 1}}}]`, `[{"$match": {"a": {"$nosuch": 1}}}]`, `[{"$project": {"a": 1, "b": 0}}]`,
			`[{"$project": {}}]`, `[{"$set": {"a.": 1}}]`,
		} {
			_, err := w.source(Options{Pipeline: mustParse(t, text)}).Open(t.Context(), "", rigatoni.Start{})
			if err == nil || !strings.Contains(err.Error(), "check the stages of Options.Pipeline") {
				t.Errorf("%s: %v", text, err)
			}
		}
	})
}

func TestOperations(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, Operations: []string{"delete", "update"}}), "", rigatoni.Start{})
		w.insert("c", 1, 2)
		w.set("c", 1, bson.D{{Key: "n", Value: 1}})
		if _, err := w.DB.Collection("c").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: int32(2)}}); err != nil {
			t.Fatal(err)
		}
		w.drop("c")
		wantNames(t, st.collect(3), `update c {"$numberInt":"1"}`, `delete c {"$numberInt":"2"}`, "invalidate")
	})
}

func TestCollectionsByPattern(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src := w.source(Options{Collections: []string{"orders", "log_*", "*.x+y"}})
		st := w.open(src, "", rigatoni.Start{})
		begin := st.checkpoint()
		w.insert("orders", 1)
		w.insert("log_a", 2)
		w.insert("LOG_b", 3)
		w.insert("my_log_c", 4)
		w.insert("log_", 5)
		w.insert("orders2", 6)
		w.insert("a.x+y", 7)
		w.insert("a.xxy", 8)
		w.rename("LOG_b", "log_b")
		w.rename("log_a", "old")
		w.insert("old", 9)
		w.insert("log_b", 10)
		want := slices.Concat(inserted("orders", 1), inserted("log_a", 2), inserted("log_", 5), inserted("a.x+y", 7),
			[]string{"rename LOG_b", "rename log_a"}, inserted("log_b", 10))
		events := st.collect(len(want))
		wantNames(t, events, want...)
		for i, ev := range events[:len(events)-1] {
			rest := w.open(src, "", at(checkpointOf(positionAfter(t, ev), st.Fingerprint()))).collect(len(want) - i - 1)
			wantNames(t, rest, want[i+1:]...)
		}
		wantNames(t, w.open(src, "", at(begin)).collect(len(want)), want...)
		wantNames(t, w.open(w.source(Options{Collections: []string{"log_b*"}}), "", rigatoni.Start{Time: events[3].ClusterTime()}).collect(2),
			"rename LOG_b", inserted("log_b", 10)[0])
	})
}

func TestDatabasesByPattern(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		name := w.DB.Name()
		in := func(suffix string) *fixture { return w.with(t, w.Client.Database(name+suffix)) }
		all := w.open(w.anySource(Options{Database: name + "_shop*"}), "", rigatoni.Start{})
		some := w.open(w.anySource(Options{Database: name + "_shop*", Collections: []string{"c", "l*"}}), "", rigatoni.Start{})
		in("_shop").insert("c", 1)
		in("_shop_1").insert("log", 2)
		in("_shop_1").insert("other", 3)
		in("").insert("c", 4)
		in("_other").insert("c", 5)
		if err := in("_other").DB.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := in("_shop").DB.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		in("_shop").insert("c", 6)
		end := append([]string{"drop c", "dropDatabase"}, inserted("c", 6)...)
		wantNames(t, all.collect(6), slices.Concat(inserted("c", 1), inserted("log", 2), inserted("other", 3), end)...)
		wantNames(t, some.collect(5), slices.Concat(inserted("c", 1), inserted("log", 2), end)...)
	})
}

// A changed filter is a changed stream, and which of them changed is said.
func TestFilterIsPartOfTheFingerprint(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		base := Options{Collections: []string{"b", "a*"}, Operations: []string{"update", "insert"}, Pipeline: mustParse(t, `[{"$match": {"fullDocument.n": {"$gt": 1}}}]`)}
		st := w.open(w.source(base), "", rigatoni.Start{})
		if fp := st.Fingerprint(); !strings.Contains(fp, " collections=a*,b operations=insert,update pipeline=sha256:") {
			t.Errorf("fingerprint %q", fp)
		}
		cp := st.checkpoint()

		same := base
		same.Collections, same.Operations = []string{"a*", "b"}, []string{"insert", "update"}
		same.Pipeline = Pipeline{{{Key: "$match", Value: bson.M{"fullDocument.n": bson.M{"$gt": int64(1)}}}}}
		w.open(w.source(same), "", at(cp))

		for want, change := range map[string]func(*Options){
			"collections: a*,b → a,b":                              func(o *Options) { o.Collections = []string{"a", "b"} },
			"operations: insert,update → insert":                   func(o *Options) { o.Operations = []string{"insert"} },
			"operations: insert,update → all":                      func(o *Options) { o.Operations = nil },
			` → none`:                                              func(o *Options) { o.Pipeline = nil },
			`, which is [{"$match":{"fullDocument.n":{"$gt":2}}}]`: func(o *Options) { o.Pipeline = mustParse(t, `[{"$match": {"fullDocument.n": {"$gt": 2}}}]`) },
		} {
			changed := base
			change(&changed)
			_, err := w.source(changed).Open(t.Context(), "", at(cp))
			var cs *rigatoni.ChangedStreamError
			if !errors.As(err, &cs) || len(cs.Changes) != 1 || !strings.HasSuffix(cs.Changes[0], want) {
				t.Errorf("want %s: %v", want, err)
				continue
			}
			w.open(w.source(changed), "", rigatoni.Start{Checkpoint: cp, AcceptChanged: cs.Accept})
		}
	})
}

// A server that opens the stream and then can't find the token, each time, is
// asked twice only.
func TestTokenThatIsNotFoundAgain(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		o := Options{Collections: []string{"c"}, Pipeline: mustParse(t, `[{"$match": {"fullDocument.n": 1}}]`)}
		st := w.open(w.source(o), "", rigatoni.Start{})
		w.failPoint("failGetMoreAfterCursorCheckout", "alwaysOn", bson.D{{Key: "errorCode", Value: codeChangeStreamFatal}})
		if _, err := st.fail(); !errors.Is(err, rigatoni.ErrHistoryLost) {
			t.Error(err)
		}
	})
}
