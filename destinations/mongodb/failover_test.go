package mongodb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A replica set whose primary steps down, is killed and is frozen, under two pipelines that are
// also stopped and started: the rows of a function in the transaction are there once, in order,
// and a mirror is what its source is, document by document and byte by byte.
func TestFailovers(t *testing.T) {
	t.Parallel()
	seed := campaign.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	target := mongod.OwnForTest(t, mongod.Options{Nodes: 3})
	l := lab{target.URI(), "copy", connect(t, target.URI(), nil)}
	must(t, insist(t, func() error { return l.client.Database("copy").CreateCollection(t.Context(), "rows") }))

	appended := rigatonitest.NewSource()
	w := newWriter(t, newLab(t), rand.New(rand.NewPCG(seed, 1)))
	pipelines := []func() (stop func()){
		func() func() {
			d, err := mongodb.OpenTx(l.client, insert(rows(l.client, "copy"), "rows"), &mongodb.TxOptions{Checkpoints: "copy.checkpoints"})
			must(t, err)
			return startPipeline(t, rigatoni.Config{Name: "rows", Source: appended, Destination: d})
		},
		func() func() {
			d, err := mongodb.New(l.client, &mongodb.Options{Target: "copy_{database}.{collection}", Checkpoints: "copy.checkpoints"})
			must(t, err)
			return startPipeline(t, rigatoni.Config{Name: "mirror", Source: w.source(), Destination: d})
		},
	}
	stops := make([]func(), len(pipelines))
	for i, start := range pipelines {
		stops[i] = start()
	}
	rounds, written := 4, 0
	if campaign.Full(t) {
		rounds = 40
	}
	for round := range rounds {
		var wg sync.WaitGroup
		wg.Go(func() { trouble(t, target, round) })
		for range 200 {
			written++
			appended.Append(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: int32(written)}, {Key: "n", Value: int32(written)}}))
			w.write()
		}
		wg.Wait()
		i := rng.IntN(len(pipelines))
		stops[i]()
		stops[i] = pipelines[i]()
	}
	wantRows(t, l, written)
	w.wantMirror(l)
	for _, stop := range stops {
		stop()
	}
}

// trouble makes the primary another one.
func trouble(t *testing.T, s *mongod.Server, round int) {
	ctx := t.Context()
	if round%3 == 0 {
		must(t, s.StepDown(ctx))
		return
	}
	primary, err := s.Primary(ctx)
	must(t, err)
	if round%3 == 1 {
		must(t, primary.Kill())
	} else {
		must(t, primary.Pause())
	}
	_, err = s.Primary(ctx)
	must(t, err)
	if round%3 == 1 {
		must(t, primary.Start(ctx))
	} else {
		must(t, primary.Resume())
	}
}

// startPipeline starts a pipeline as a supervisor does, and waits until it streams.
func startPipeline(t *testing.T, c rigatoni.Config) (stop func()) {
	t.Helper()
	c.MaxBatchEvents, c.RetryMin, c.RetryMax, c.Logger = 50, time.Millisecond, 50*time.Millisecond, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	ended, streams := make(chan error, 1), make(chan bool, 1000)
	go func() {
		for {
			p, err := rigatoni.New(c)
			if err != nil {
				ended <- err
				return
			}
			go func() {
				if p.Wait(ctx) == nil {
					streams <- true
				}
			}()
			err = p.Run(ctx)
			if ctx.Err() != nil || err == nil {
				ended <- err
				return
			}
			t.Logf("%s: started again after %v", c.Name, err)
		}
	}()
	select {
	case <-streams:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s doesn't stream", c.Name)
	}
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, rigatoni.ErrUndelivered) && !errors.Is(err, rigatoni.ErrUnsaved) && !errors.Is(err, context.Canceled) {
			t.Logf("%s ended: %v", c.Name, err)
		}
	}
}

// insist repeats what may succeed later, for a minute.
func insist(t *testing.T, f func() error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// eventually waits until what is wrong is nothing.
func eventually(t *testing.T, wrong func() string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		switch what := wrong(); {
		case what == "":
			return
		case time.Now().After(deadline):
			t.Fatal(what)
		}
	}
}

func wantRows(t *testing.T, l lab, want int) {
	t.Helper()
	eventually(t, func() string {
		n, err := rows(l.client, "copy").CountDocuments(t.Context(), bson.D{})
		if err != nil || n < int64(want) {
			return fmt.Sprintf("%d rows, %v; want %d", n, err, want)
		}
		return ""
	})
	got, err := readRows(l.client, "copy")(t.Context(), "rows")
	must(t, err)
	if len(got) != want {
		t.Errorf("%d rows, want %d", len(got), want)
	}
	for i, r := range got {
		if r.N != int32(i+1) {
			t.Fatalf("row %d is of event %d", i+1, r.N)
		}
	}
}

// A writer writes to five collections: every kind of operation, every type of _id, alone and in
// transactions.
type writer struct {
	t   *testing.T
	l   lab
	rng *rand.Rand
	ids []any
	n   int32
}

const writerCollections = 5

func newWriter(t *testing.T, l lab, rng *rand.Rand) *writer {
	w := &writer{t: t, l: l, rng: rng, ids: ids()}
	for i := range writerCollections {
		must(t, l.client.Database(l.db).CreateCollection(t.Context(), name(i)))
	}
	return w
}

func name(i int) string { return fmt.Sprint("c", i) }

func (w *writer) source() rigatoni.Source {
	s, err := changestream.New(w.l.client, &changestream.Options{Database: w.l.db, FullDocument: "updateLookup", Logger: slog.New(slog.DiscardHandler)})
	must(w.t, err)
	return s
}

// write makes a change, or some in a transaction.
func (w *writer) write() {
	if w.rng.IntN(5) > 0 {
		must(w.t, w.change(w.t.Context()))
		return
	}
	session, err := w.l.client.StartSession()
	must(w.t, err)
	defer session.EndSession(w.t.Context())
	_, err = session.WithTransaction(w.t.Context(), func(ctx context.Context) (any, error) {
		for range 2 + w.rng.IntN(5) {
			if err := w.change(ctx); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	must(w.t, err)
}

func (w *writer) change(ctx context.Context) error {
	w.n++
	coll := w.l.client.Database(w.l.db).Collection(name(w.rng.IntN(writerCollections)))
	id := bson.E{Key: "_id", Value: w.ids[w.rng.IntN(len(w.ids))]}
	is := bson.D{{Key: "_id", Value: bson.D{{Key: "$eq", Value: id.Value}}}}
	switch w.rng.IntN(5) {
	case 0:
		_, err := coll.DeleteOne(ctx, is)
		return err
	case 1:
		_, err := coll.ReplaceOne(ctx, is, bson.D{id, {Key: "r", Value: w.n}}, options.Replace().SetUpsert(true))
		return err
	case 2:
		_, err := coll.UpdateOne(ctx, is, bson.D{{Key: "$push", Value: bson.D{{Key: "list", Value: w.n}}}})
		return err
	}
	_, err := coll.UpdateOne(ctx, is, bson.D{{Key: "$set", Value: bson.D{{Key: fmt.Sprint("f", w.n%7), Value: w.n}}}}, options.UpdateOne().SetUpsert(true))
	return err
}

// wantMirror waits until the mirror is what the source is.
func (w *writer) wantMirror(l lab) {
	w.t.Helper()
	for i := range writerCollections {
		want := documents(w.t, w.l.client.Database(w.l.db).Collection(name(i)))
		mirror := l.client.Database("copy_" + w.l.db).Collection(name(i))
		eventually(w.t, func() string { return difference(w.t, mirror, want) })
	}
}

func difference(t *testing.T, c *mongo.Collection, want map[string]bson.Raw) string {
	t.Helper()
	got := documents(t, c)
	for id, doc := range want {
		if !bytes.Equal(got[id], doc) {
			return fmt.Sprintf("%s: the mirror has %v, the source %v", c.Name(), got[id], doc)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%s: the mirror has %d documents, the source %d", c.Name(), len(got), len(want))
	}
	return ""
}
