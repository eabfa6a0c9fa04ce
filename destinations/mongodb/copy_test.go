package mongodb_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// The documents that exist are copied while others are written, through stops of the pipeline; and
// a second copy deletes what is in the mirror and not in the source. Here both are databases of one
// deployment.
func TestCopy(t *testing.T) {
	t.Parallel()
	seed := campaign.Seed(t)
	l := newLab(t)
	w := newWriter(t, l, rand.New(rand.NewPCG(seed, 0)))
	for range 300 {
		w.write()
	}
	o := &mongodb.Options{Target: "copy_{database}.{collection}", Checkpoints: "points_of_" + l.db + ".checkpoints"}
	t.Cleanup(func() {
		for _, db := range []string{"copy_" + l.db, "points_of_" + l.db} {
			must(t, l.client.Database(db).Drop(context.WithoutCancel(t.Context())))
		}
	})
	d, err := mongodb.New(l.client, o)
	must(t, err)
	source := func() rigatoni.Source {
		s, err := changestream.New(l.client, &changestream.Options{Database: l.db, FullDocument: "updateLookup", SnapshotChunkBytes: 1024, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		return s
	}
	start := func() (stop func()) {
		return startPipeline(t, rigatoni.Config{Name: "copy", Source: source(), Destination: d, Snapshot: "initial"})
	}
	run := func() {
		stop := start()
		for range 3 {
			for range 50 {
				w.write()
			}
			stop()
			w.write()
			stop = start()
		}
		w.wantMirror(l)
		stop()
	}
	run()
	// As if deletes had been lost.
	stale := l.client.Database("copy_" + l.db).Collection(name(0))
	_, err = stale.InsertMany(t.Context(), []any{numbered("stale", 1), numbered(int32(-7), 1), numbered(bson.D{{Key: "x", Value: "y"}}, 1)})
	must(t, err)
	cp, err := d.Checkpoints().Load(t.Context(), "copy")
	must(t, err)
	cp, err = changestream.RequestSnapshot(cp, rigatoni.Namespace{DB: l.db, Coll: name(0)})
	must(t, err)
	cp.Sequence = 0
	must(t, d.Checkpoints().Save(t.Context(), "copy", cp))
	run()
}
