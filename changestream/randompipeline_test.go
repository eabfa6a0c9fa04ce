package changestream

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A modelEvent is what the stages of a random pipeline look at.
type modelEvent struct {
	op, coll, to string
	id           int32  // of the document, if hasID
	n            *int32 // fullDocument.n, if it is a number
	hasID, hasN  bool
}

func (e modelEvent) ends() bool { return e.op == "invalidate" || e.op == "dropDatabase" }

func modelOf(ev rigatoni.Event) modelEvent {
	m := modelEvent{op: ev.OperationType(), coll: ev.Namespace().Coll}
	m.to, _ = ev.Raw.Lookup("to", "coll").StringValueOK()
	m.id, m.hasID = ev.DocumentKey().Lookup("_id").Int32OK()
	n, err := ev.FullDocument().LookupErr("n")
	m.hasN = err == nil
	if k, ok := n.Int32OK(); ok {
		m.n = &k
	}
	return m
}

// A randomStage is a stage and what it does, in Go.
type randomStage struct {
	stage bson.D
	apply func(e modelEvent) (out modelEvent, keep bool)
}

// A condition is a query, the same as an expression, and in Go.
type condition struct {
	query, expression bson.D
	holds             func(modelEvent) bool
}

func one(key string, value any) bson.D { return bson.D{{Key: key, Value: value}} }

func randomCondition(rnd *rand.Rand, depth int) condition {
	switch k := int32(rnd.IntN(10)); rnd.IntN(6 + 2*min(depth, 1)) {
	case 0:
		op := []string{"insert", "update", "delete", "drop", "rename", "replace"}[rnd.IntN(6)]
		return condition{one("operationType", op), one("$eq", bson.A{"$operationType", op}), func(e modelEvent) bool { return e.op == op }}
	case 1:
		op := []string{"insert", "update", "invalidate", "drop"}[rnd.IntN(4)]
		return condition{one("operationType", one("$ne", op)), one("$ne", bson.A{"$operationType", op}), func(e modelEvent) bool { return e.op != op }}
	case 2:
		return condition{one("documentKey._id", one("$gt", k)), one("$and", bson.A{one("$gt", bson.A{"$documentKey._id", k}), one("$isNumber", "$documentKey._id")}),
			func(e modelEvent) bool { return e.hasID && e.id > k }}
	case 3:
		return condition{one("fullDocument.n", one("$lte", k)), one("$and", bson.A{one("$lte", bson.A{"$fullDocument.n", k}), one("$isNumber", "$fullDocument.n")}),
			func(e modelEvent) bool { return e.n != nil && *e.n <= k }}
	case 4:
		return condition{one("fullDocument.n", one("$exists", false)), one("$eq", bson.A{one("$type", "$fullDocument.n"), "missing"}),
			func(e modelEvent) bool { return !e.hasN }}
	case 5:
		coll := []string{"a", "b", "log_1"}[rnd.IntN(3)]
		return condition{one("ns.coll", coll), one("$eq", bson.A{"$ns.coll", coll}), func(e modelEvent) bool { return e.coll == coll }}
	default:
		a, b := randomCondition(rnd, depth-1), randomCondition(rnd, depth-1)
		if rnd.IntN(2) == 0 {
			return condition{one("$or", bson.A{a.query, b.query}), one("$or", bson.A{a.expression, b.expression}), func(e modelEvent) bool { return a.holds(e) || b.holds(e) }}
		}
		return condition{one("$and", bson.A{a.query, b.query}), one("$and", bson.A{a.expression, b.expression}), func(e modelEvent) bool { return a.holds(e) && b.holds(e) }}
	}
}

// randomStages are of those kinds that mongotest has too, unless all are allowed.
func randomStages(rnd *rand.Rand, all bool) []randomStage {
	kinds := 7
	if all {
		kinds = 10
	}
	var stages []randomStage
	for range 1 + rnd.IntN(4) {
		stages = append(stages, newRandomStage(rnd, rnd.IntN(kinds)))
	}
	return stages
}

func newRandomStage(rnd *rand.Rand, kind int) randomStage {
	keep := func(change func(*modelEvent)) func(modelEvent) (modelEvent, bool) {
		return func(e modelEvent) (modelEvent, bool) { change(&e); return e, true }
	}
	same, without := func(*modelEvent) {}, func(e *modelEvent) { e.n, e.hasN = nil, false }
	k := int32(rnd.IntN(10))
	switch c := randomCondition(rnd, 2); kind {
	default:
		return randomStage{one("$match", c.query), func(e modelEvent) (modelEvent, bool) { return e, c.holds(e) }}
	case 2:
		return randomStage{one("$project", one("fullDocument.n", 1)), keep(func(e *modelEvent) { e.to = "" })}
	case 3:
		return randomStage{one("$project", bson.D{{Key: "wallTime", Value: 0}, {Key: "fullDocument.n", Value: 0}}), keep(without)}
	case 4:
		return randomStage{one("$set", one("x", "$documentKey._id")), keep(same)}
	case 5:
		return randomStage{one("$unset", bson.A{"fullDocument", "updateDescription"}), keep(without)}
	case 6:
		return randomStage{one("$replaceWith", bson.D{{Key: "fullDocument", Value: one("n", k)}, {Key: "to", Value: "$to"}}), keep(func(e *modelEvent) { e.n, e.hasN = &k, true })}
	case 7:
		return randomStage{one("$redact", one("$cond", bson.A{c.expression, "$$KEEP", "$$PRUNE"})), func(e modelEvent) (modelEvent, bool) { return e, c.holds(e) }}
	case 8:
		// Of the documents in the event, none has an operationType.
		return randomStage{one("$redact", one("$cond", bson.A{one("$isNumber", "$operationType"), "$$PRUNE", one("$cond", bson.A{
			one("$eq", bson.A{one("$type", "$operationType"), "missing"}), "$$PRUNE", "$$DESCEND"})})), keep(without)}
	case 9:
		return randomStage{one("$replaceRoot", one("newRoot", one("$mergeObjects", bson.A{"$$ROOT", one("y", k)}))), keep(same)}
	}
}

// workload writes events of all kinds into the database, whose end is that it is
// dropped.
func workload(t *testing.T, w *fixture, rnd *rand.Rand) {
	colls := []string{"a", "b", "log_1", "log_2"}
	for i := range 40 {
		c := w.DB.Collection(colls[rnd.IntN(len(colls))])
		filter := bson.D{{Key: "_id", Value: int32(rnd.IntN(6))}}
		doc := bson.D{{Key: "n", Value: int32(rnd.IntN(12))}, {Key: "i", Value: i}}
		var err error
		switch rnd.IntN(8) {
		case 0, 1, 2:
			_, err = c.UpdateOne(t.Context(), filter, one("$set", doc), upsert())
		case 3:
			_, err = c.ReplaceOne(t.Context(), filter, doc)
		case 4:
			_, err = c.DeleteOne(t.Context(), filter)
		case 5:
			if i > 20 {
				err = c.Drop(t.Context())
			}
		default:
			_, err = c.InsertMany(t.Context(), []any{numbered(100+3*i, int32(i%12)), numbered(101+3*i, int32(3)), numbered(102+3*i, "x")})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	transaction(t, w)
	w.rename("log_1", "c") // it may be missing
	if err := w.DB.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func transaction(t *testing.T, w *fixture) {
	sess, err := w.Client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer sess.EndSession(t.Context())
	w.insert("log_1", 90000)
	w.insert("a", 90000)
	_, err = sess.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
		for i := range 6 {
			coll := []string{"a", "log_1"}[i%2]
			if _, err := w.DB.Collection(coll).InsertOne(ctx, numbered(90001+i, int32(i))); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// collectToEnd reads until the database is gone.
func (s *watcher) collectToEnd() []rigatoni.Event {
	s.t.Helper()
	var all []rigatoni.Event
	s.until("the end of the database", func(events []rigatoni.Event) bool {
		all = append(all, events...)
		return len(all) > 0 && all[len(all)-1].OperationType() == "invalidate"
	})
	return all
}

// With any pipeline a stream has the events of the plain one that the options
// let through, in its order, with its tokens and the other kept fields, and can
// be resumed after each of them.
func TestRandomPipelines(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		plain := w.open(w.source(Options{}), "", rigatoni.Start{})
		begin := plain.checkpoint()
		begin.Fingerprint = "" // the streams below are others
		workload(t, w, rnd)
		events := plain.collectToEnd()
		for i := range 60 {
			if !t.Run(fmt.Sprint(i), func(t *testing.T) {
				randomPipeline(t, w.with(t, w.DB), rnd, begin, events)
			}) {
				return
			}
		}
	})
}

func randomPipeline(t *testing.T, w *fixture, rnd *rand.Rand, begin *state.Checkpoint, plain []rigatoni.Event) {
	stages := randomStages(rnd, w.Fake == nil)
	o := randomOptions(rnd)
	for _, s := range stages {
		o.Pipeline = append(o.Pipeline, s.stage)
	}
	text, _ := o.Pipeline.MarshalText()
	about := fmt.Sprintf("collections %q, operations %q, pipeline %s", o.Collections, o.Operations, text)
	var want []rigatoni.Event
	for _, ev := range plain {
		if passes(modelOf(ev), o, stages) {
			want = append(want, ev)
		}
	}
	src := w.source(o)
	st := w.open(src, "", at(begin))
	got := st.collectToEnd()
	sameKept(t, about, got, want)
	for range 2 {
		i := rnd.IntN(len(got))
		rest := w.open(src, "", at(checkpointOf(positionAfter(t, got[i]), st.Fingerprint())))
		if i < len(got)-1 {
			sameKept(t, fmt.Sprintf("%s, resumed after event %d", about, i), rest.collectToEnd(), want[i+1:])
		}
	}
}

func randomOptions(rnd *rand.Rand) Options {
	var o Options
	switch rnd.IntN(3) {
	case 0:
		o.Collections = []string{"a", "log_*"}
	case 1:
		o.Collections = []string{"*"}
	}
	if rnd.IntN(2) == 0 {
		o.Operations = []string{"insert", "update", "drop"}
	}
	return o
}

func passes(e modelEvent, o Options, stages []randomStage) bool {
	if e.ends() {
		return true
	}
	named := func(name string) bool {
		return slices.ContainsFunc(o.Collections, func(p string) bool { return glob.Match(p, name) })
	}
	if len(o.Collections) > 0 && !named(e.coll) && (e.to == "" || !named(e.to)) || len(o.Operations) > 0 && !slices.Contains(o.Operations, e.op) {
		return false
	}
	for _, s := range stages {
		var keep bool
		if e, keep = s.apply(e); !keep {
			return false
		}
	}
	return true
}

func sameKept(t *testing.T, about string, got, want []rigatoni.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s:\n%d events, want %d:\n%v\n%v", about, len(got), len(want), names(got), names(want))
	}
	for i := range got {
		for _, field := range keptFields {
			g, w := got[i].Raw.Lookup(field), want[i].Raw.Lookup(field)
			if g.Type != w.Type || !bytes.Equal(g.Value, w.Value) {
				t.Fatalf("%s:\nevent %d has the %s %v, want %v", about, i, field, g, w)
			}
		}
	}
}
