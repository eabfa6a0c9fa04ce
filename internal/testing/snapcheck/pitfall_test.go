package snapcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// What went wrong in other programs' snapshots, each as a test on a real server. The
// reports are named in docs/snapshot.md.

// aCopy is a trial without crashes and without writes but those of its script, of one
// collection "docs", slow enough for the script.
func aCopy(t *testing.T, s *testserver.Server, docs int) *trial {
	t.Helper()
	r := newTrial(t, s, docs)
	r.load.Collections = []Collection{{Name: "docs", Docs: docs, Size: 7}}
	r.load.Writers, r.load.Upheaval, r.lives.Crashes, r.lives.Slow, r.lives.Quiet, r.atLeast = 0, 0, 0, 2000, true, 0
	r.config.Snapshot, r.config.MaxInFlightBytes, r.config.SaveInterval, r.config.MaxBatchEvents = "initial", 1, 20*time.Millisecond, 20
	r.source.SnapshotChunkBytes, r.source.SnapshotParallelism = 4096, 2
	r.lives.Once, r.rules.Once = false, false
	return r
}

// awaitReads waits until n documents are copied.
func (r *trial) awaitReads(ctx context.Context, n int) error {
	for {
		if _, reads := r.lives.Recorder.Deliveries(); reads >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d documents: %w", n, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// set writes a document as it is with a new stamp.
func (r *trial) set(ctx context.Context, coll string, id any) error {
	_, err := r.load.coll(coll).ReplaceOne(ctx, bson.D{{Key: "_id", Value: id}}, r.load.stamp(7).fields(), options.Replace().SetUpsert(true))
	return err
}

// TestPitfall01AllTypesOfIDs: every document is copied, whatever the type of its _id:
// comparisons by $gt see one type only.
func TestPitfall01AllTypesOfIDs(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 600)
	r.source.SnapshotChunkBytes, r.source.SnapshotParallelism, r.lives.Slow = 1024, 4, 0
	r.check(t)
	if _, reads := r.lives.Recorder.Deliveries(); reads < 600 {
		t.Errorf("%d documents were copied", reads)
	}
}

// TestPitfall02WritesInFlight: a transaction that was open when the copy began, and
// commits while it runs, is in the stream or in the copy.
func TestPitfall02WritesInFlight(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 600)
	ctx := t.Context()
	if err := r.server.DB.CreateCollection(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	session, err := r.server.Client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(ctx)
	if err := session.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	in := mongo.NewSessionContext(ctx, session)
	for i := range 50 {
		if _, err := r.server.DB.Collection("other").InsertOne(in, r.load.stamp(5).document(i)); err != nil {
			t.Fatal(err)
		}
	}
	r.script = func(ctx context.Context) error {
		if err := r.awaitReads(ctx, 100); err != nil {
			return err
		}
		return session.CommitTransaction(ctx)
	}
	r.check(t)
}

// TestPitfall03TheTokenAdvances: the checkpoint's position advances while documents are
// copied, so that a copy may take longer than the oplog reaches back.
func TestPitfall03TheTokenAdvances(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 1200)
	var began, later bson.Timestamp
	r.script = func(ctx context.Context) error {
		for _, at := range []struct {
			reads int
			time  *bson.Timestamp
		}{{100, &began}, {900, &later}} {
			if err := r.awaitReads(ctx, at.reads); err != nil {
				return err
			}
			cp, err := r.lives.db.Checkpoints().Load(ctx, r.config.Name)
			if err != nil {
				return err
			}
			if cp.Extra[rigatoni.ExtraSnapshot] == nil {
				return errors.New("the copy has ended, by the checkpoint")
			}
			*at.time = cp.ClusterTime
			if err := r.set(ctx, "other", at.reads); err != nil {
				return err
			}
		}
		return nil
	}
	r.check(t)
	if !later.After(began) {
		t.Errorf("the checkpoint was at %v when the copy began, and at %v near its end", began, later)
	}
}

// TestPitfall04AFinishedCopyStaysFinished: the next start copies nothing.
func TestPitfall04AFinishedCopyStaysFinished(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 200)
	r.lives.Slow = 0
	r.check(t)
	_, reads := r.lives.Recorder.Deliveries()
	if err := r.set(t.Context(), "docs", "another"); err != nil {
		t.Fatal(err)
	}
	before, _ := r.lives.Recorder.Deliveries()
	if err := r.lives.live(t.Context(), 0, func(bool) bool {
		all, _ := r.lives.Recorder.Deliveries()
		return all > before
	}); err != nil {
		t.Fatal(err)
	}
	if _, now := r.lives.Recorder.Deliveries(); now != reads {
		t.Errorf("%d documents were copied again", now-reads)
	}
}

// TestPitfall05DeletedStaysDeleted: a document that is deleted during the copy doesn't
// come back by a copy that is late.
func TestPitfall05DeletedStaysDeleted(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 800)
	r.script = func(ctx context.Context) error {
		for n := 50; n < 700; n += 50 {
			if err := r.awaitReads(ctx, n); err != nil {
				return err
			}
			for slot := n / 50; slot < 800; slot += 40 {
				if _, err := r.load.coll("docs").DeleteOne(ctx, bson.D{{Key: "_id", Value: idOf(slot, 0)}}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	r.check(t)
}

// A mirrorSink keeps documents by their key, as destinations do that upsert.
type mirrorSink struct {
	docs  map[string]rigatoni.Event
	sweep int
}

func (m *mirrorSink) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return m, nil }

func (m *mirrorSink) Deliver(_ context.Context, b *rigatoni.Batch) error {
	for _, ev := range b.Events {
		id, err := ev.DocumentKey().LookupErr("_id")
		switch {
		case err != nil:
		case ev.OperationType() == "delete":
			delete(m.docs, keyOf(id))
		default:
			m.docs[keyOf(id)] = ev
		}
	}
	return nil
}

// Sweep implements rigatoni.Sweeper.
func (m *mirrorSink) Sweep(_ context.Context, end rigatoni.SnapshotEnd) error {
	m.sweep++
	for key, ev := range m.docs {
		token, err := ev.Token()
		if err != nil {
			return err
		}
		if order, ok := resumetoken.Compare(token, end.Began); ev.Namespace() == end.Namespace && ok && order < 0 {
			delete(m.docs, key)
		}
	}
	return nil
}

// TestPitfall06DeletedWhileHistoryWasLost: after lost history a mirror is swept of what
// was deleted meanwhile, and the gap on record says that it is healed.
func TestPitfall06DeletedWhileHistoryWasLost(t *testing.T) {
	t.Parallel()
	s := testserver.OwnMongod(t, testserver.SmallOplog)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	coll := s.DB.Collection("docs")
	var docs []any
	for slot := range 300 {
		docs = append(docs, stampOf(int64(slot+1), 5).document(idOf(slot, 0)))
	}
	if _, err := coll.InsertMany(ctx, docs); err != nil {
		t.Fatal(err)
	}
	mirror, store := &mirrorSink{docs: map[string]rigatoni.Event{}}, rigatonitest.NewDatabase().Checkpoints()
	pipeline := func(until func(cp state.Checkpoint) bool) {
		t.Helper()
		src, err := changestream.New(s.Client, &changestream.Options{Database: s.DB.Name(), Collections: []string{"docs"}, SnapshotChunkBytes: 1024})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		go func() {
			ended <- rigatoni.Run(ctx, rigatoni.Config{
				Name: "p", Source: src, Destination: mirror, Store: store, Snapshot: "when-needed", SaveInterval: 10 * time.Millisecond, IdleInterval: 50 * time.Millisecond,
			})
		}()
		for {
			select {
			case err := <-ended:
				t.Fatalf("it ended by itself: %v", err)
			case <-time.After(10 * time.Millisecond):
			}
			if cp, err := store.Load(ctx, "p"); err == nil && cp.Extra[rigatoni.ExtraSnapshot] == nil && until(cp) {
				break
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	pipeline(func(state.Checkpoint) bool { return true })
	if len(mirror.docs) != 300 {
		t.Fatalf("the mirror has %d documents of 300", len(mirror.docs))
	}
	for slot := range 100 {
		if _, err := coll.DeleteOne(ctx, bson.D{{Key: "_id", Value: idOf(slot*3, 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := coll.InsertOne(ctx, stampOf(1000, 5).document("new")); err != nil {
		t.Fatal(err)
	}
	s.LoseOplog(t, s.OplogTime(t, -1))
	var gaps string
	pipeline(func(cp state.Checkpoint) bool { gaps = string(cp.Extra["gaps"]); return gaps != "" })
	if len(mirror.docs) != 201 {
		t.Errorf("the mirror has %d documents, and the server 201", len(mirror.docs))
	}
	if !strings.Contains(gaps, `"healed"`) {
		t.Errorf("the gap is not healed: %s", gaps)
	}
	if _, ok := mirror.docs[keyOf(bson.RawValue{Type: bson.TypeString, Value: []byte("\x04\x00\x00\x00new\x00")})]; !ok {
		t.Error("the mirror lacks the document that was inserted meanwhile")
	}
}

// TestPitfall07ASecondaryThatIsBehind: a client that prefers secondaries, one of which
// lags, copies nothing that is older than the stream.
func TestPitfall07ASecondaryThatIsBehind(t *testing.T) {
	t.Parallel()
	s := testserver.OwnMongod(t, mongod.Options{Nodes: 3})
	r := aCopy(t, s, 400)
	thaw := freeze(t, s.Real, 1)
	reading := *s
	reading.Client = s.Connect(t, options.Client().ApplyURI(s.URI+"&readPreference=secondary"))
	r.server = &reading
	r.script = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
		thaw() // the stream may be read from that one
		for n := 50; n < 350; n += 100 {
			if err := r.awaitReads(ctx, n); err != nil {
				return err
			}
			for slot := n; slot < 400; slot += 7 {
				if err := r.set(ctx, "docs", idOf(slot, 0)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	r.check(t)
}

// freeze stops n secondaries from applying what the primary writes.
func freeze(t *testing.T, s *mongod.Server, n int) (thaw func()) {
	t.Helper()
	primary, err := s.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var frozen []*mongo.Client
	mode := func(c *mongo.Client, mode string) error {
		return c.Database("admin").RunCommand(context.Background(), bson.D{{Key: "configureFailPoint", Value: "rsSyncApplyStop"}, {Key: "mode", Value: mode}}).Err()
	}
	for _, node := range s.Nodes() {
		if node == primary || len(frozen) == n {
			continue
		}
		c, err := mongo.Connect(options.Client().ApplyURI(node.URI()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
		if err := mode(c, "alwaysOn"); err != nil {
			t.Fatal(err)
		}
		frozen = append(frozen, c)
	}
	return func() {
		for _, c := range frozen {
			if err := mode(c, "off"); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPitfall08ATimeThatIsNotReachedYet: where a majority of the members stands still
// during the copy, the copy waits, and goes on when they do.
func TestPitfall08ATimeThatIsNotReachedYet(t *testing.T) {
	t.Parallel()
	s := testserver.OwnMongod(t, mongod.Options{Nodes: 3})
	r := aCopy(t, s, 600)
	r.script = func(ctx context.Context) error {
		if err := r.awaitReads(ctx, 100); err != nil {
			return err
		}
		thaw := freeze(t, s.Real, 2)
		defer thaw()
		alone := s.DB.Collection("docs", options.Collection().SetWriteConcern(writeconcern.W1()))
		for slot := range 50 {
			if _, err := alone.UpdateOne(ctx, bson.D{{Key: "_id", Value: idOf(slot*10, 0)}}, bson.D{{Key: "$set", Value: r.load.stamp(7).fields()}}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second): // reads time out meanwhile
		}
		return nil
	}
	r.check(t)
}

// TestPitfall09EveryRangeResumes: a copy of _ids of all types that crashes again and
// again, each time after a few documents, goes on in each range where it was.
func TestPitfall09EveryRangeResumes(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 400)
	r.lives.Slow, r.lives.Crashes, r.lives.Steps, r.lives.Once, r.rules.Once = 0, 40, 60, true, true
	r.source.SnapshotChunkBytes, r.source.SnapshotParallelism, r.config.SaveInterval = 1024, 4, -1
	r.check(t)
	if _, reads := r.lives.Recorder.Deliveries(); reads > 400 {
		t.Errorf("%d documents were copied, and there are 400", reads)
	}
}

// TestPitfall10TheFilterHoldsForTheCopy: the pipeline of the stream applies to each copied
// document, those of the first chunk too.
func TestPitfall10TheFilterHoldsForTheCopy(t *testing.T) {
	t.Parallel()
	s := testserver.Mongod(t)
	var docs []any
	for i := range 300 {
		docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "open", Value: i%3 == 0}, {Key: "secret", Value: "x"}})
	}
	if _, err := s.DB.Collection("docs").InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	src, err := changestream.New(s.Client, &changestream.Options{
		Database: s.DB.Name(), Collections: []string{"docs"}, SnapshotChunkBytes: 1024,
		Pipeline: changestream.Pipeline{
			{{Key: "$match", Value: bson.D{{Key: "fullDocument.open", Value: true}}}},
			{{Key: "$project", Value: bson.D{{Key: "fullDocument.secret", Value: 0}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	dest, ctx := &rigatonitest.Destination{}, t.Context()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- rigatoni.Run(ctx, rigatoni.Config{Name: "p", Source: src, Destination: dest, Store: memstore.New(), Snapshot: "initial"})
	}()
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := dest.Wait(within, 100); err != nil {
		t.Fatal(err)
	}
	for i := 300; i < 306; i++ {
		if _, err := s.DB.Collection("docs").InsertOne(ctx, bson.D{{Key: "_id", Value: i}, {Key: "open", Value: i%3 == 0}, {Key: "secret", Value: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := dest.Wait(within, 102)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, ev := range events {
		if n := ev.DocumentKey().Lookup("_id").Int32(); n%3 != 0 || ev.FullDocument().Lookup("secret").Type != 0 {
			t.Errorf("delivered: %s", ev.Raw)
		}
	}
	if len(events) != 102 {
		t.Errorf("%d events, want 100 documents and 2 inserts", len(events))
	}
}

// TestPitfall11APrimaryMoves: a step-down neither begins the copy again nor loses any of
// it.
func TestPitfall11APrimaryMoves(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.OwnMongod(t, mongod.Options{}), 800)
	r.script = func(ctx context.Context) error {
		for _, n := range []int{100, 400} {
			if err := r.awaitReads(ctx, n); err != nil {
				return err
			}
			if err := r.server.StepDown(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	r.check(t)
	if _, reads := r.lives.Recorder.Deliveries(); reads > 800 {
		t.Errorf("%d documents were copied, and there are 800", reads)
	}
}

// TestPitfall12ChunksAreBoundedInBytes: where documents of a megabyte follow thousands of
// small ones, no reply is larger than the server's limit, and what does not fit into one
// is in the next.
func TestPitfall12ChunksAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.OwnMongod(t, mongod.Options{OplogMB: 500}), 3000)
	r.load.Collections[0].Large, r.load.Collections[0].LargeSize = 40, 20
	r.source.SnapshotChunkBytes, r.lives.Slow = 4<<20, 0
	r.check(t)
}

// TestPitfall13ARestartLosesNoProgress: after a crash in the middle of the copy, what the
// checkpoint has is not copied again.
func TestPitfall13ARestartLosesNoProgress(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 1000)
	r.lives.Crashes, r.lives.Steps, r.lives.Once, r.rules.Once = 3, 700, false, false
	r.config.SaveInterval = -1
	r.check(t)
	// Each crash repeats one batch at most, of 20 events, and nobody knows which.
	if _, reads := r.lives.Recorder.Deliveries(); reads > 1000+3*20 {
		t.Errorf("%d documents were copied, and there are 1000", reads)
	}
}

// TestPitfall14WhatCantBeCopiedIsRefused: a capped collection, a view and a time-series
// collection are refused by name, when the stream is opened.
func TestPitfall14WhatCantBeCopiedIsRefused(t *testing.T) {
	t.Parallel()
	s := testserver.Mongod(t)
	ctx := t.Context()
	for name, o := range map[string]*options.CreateCollectionOptionsBuilder{
		"capped": options.CreateCollection().SetCapped(true).SetSizeInBytes(1 << 20),
		"series": options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t")),
	} {
		if err := s.DB.CreateCollection(ctx, name, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DB.CreateView(ctx, "view", "docs", mongo.Pipeline{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"capped", "series", "view"} {
		src, err := changestream.New(s.Client, &changestream.Options{Database: s.DB.Name(), Collections: []string{"docs", name}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = src.Open(ctx, "", rigatoni.Start{Snapshot: true})
		if !errors.Is(err, changestream.ErrRefused) || !contains(err, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func contains(err error, word string) bool {
	return err != nil && strings.Contains(err.Error(), word)
}

// TestPitfall15CollectionsThatComeAndGo: what is created, dropped, recreated or renamed
// during the copy arrives in order, and is copied under its new name.
func TestPitfall15CollectionsThatComeAndGo(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 300)
	for _, name := range []string{"dropped", "recreated", "renamed", "onto", "target"} {
		r.load.Collections = append(r.load.Collections, Collection{Name: name, Docs: 150, Size: 7})
	}
	w := &writer{load: &r.load}
	r.script = func(ctx context.Context) error {
		if err := r.awaitReads(ctx, 60); err != nil {
			return err
		}
		db := r.server.DB
		steps := []func() error{
			func() error { return db.Collection("dropped").Drop(ctx) },
			func() error { return db.Collection("recreated").Drop(ctx) },
			func() error { return r.set(ctx, "recreated", 1) },
			func() error { return w.rename(ctx, "renamed", "elsewhere") },
			func() error { return r.set(ctx, "renamed", 1) },
			func() error { return w.rename(ctx, "onto", "target") },
			func() error { return r.set(ctx, "created", 1) },
			func() error { return w.rename(ctx, "docs", "moved") },
			func() error { return r.set(ctx, "moved", idOf(200, 0)) },
		}
		for i, step := range steps {
			if err := errors.Join(step(), r.awaitReads(ctx, 60+i*10)); err != nil {
				return err
			}
		}
		return nil
	}
	r.check(t)
}

// TestPitfall16Collations: a collection whose _id index sorts by a collation is copied
// whole, whatever is written meanwhile.
func TestPitfall16Collations(t *testing.T) {
	t.Parallel()
	r := aCopy(t, testserver.Mongod(t), 500)
	r.load.Collections[0].Collation = &options.Collation{Locale: "de", Strength: 1, NumericOrdering: true}
	r.load.Writers, r.rules.Loose = 2, map[string]bool{"docs": true}
	r.check(t)
}

// TestPitfall09EveryDocumentResumes: a copy that stopped after any document, whatever its
// _id, goes on with the next one.
func TestPitfall09EveryDocumentResumes(t *testing.T) {
	t.Parallel()
	s := testserver.Mongod(t)
	var docs []any
	for slot := range 40 {
		docs = append(docs, stampOf(int64(slot+1), 5).document(idOf(slot, slot)))
	}
	if _, err := s.DB.Collection("docs").InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	src, err := changestream.New(s.Client, &changestream.Options{Database: s.DB.Name(), Collections: []string{"docs"}})
	if err != nil {
		t.Fatal(err)
	}
	all := readAll(t, src, rigatoni.Start{Snapshot: true})
	if len(all) != len(docs) {
		t.Fatalf("%d documents were copied of %d", len(all), len(docs))
	}
	for i, ev := range all {
		pos, err := rigatoni.PositionAfter(ev)
		if err != nil {
			t.Fatal(err)
		}
		cp := state.Checkpoint{Token: pos.Token, ClusterTime: pos.ClusterTime, Extra: map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(pos.Snapshot)}}
		if rest := readAll(t, src, rigatoni.Start{Checkpoint: &cp}); len(rest) != len(docs)-1-i {
			t.Errorf("after %v, the %dth of %d documents, %d are copied", ev.DocumentKey(), i+1, len(docs), len(rest))
		}
	}
}

// readAll returns the documents that a stream copies.
func readAll(t *testing.T, src *changestream.Source, start rigatoni.Start) (reads []rigatoni.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := src.Open(ctx, "", start)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close(ctx)
	for stream.Position().Snapshot != "" {
		events, _, err := stream.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			if ev.IsSnapshot() {
				reads = append(reads, ev)
			}
		}
	}
	return reads
}
