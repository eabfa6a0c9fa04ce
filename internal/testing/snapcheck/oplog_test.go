package snapcheck

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

// oplogVar is for about how many seconds the oplog holds under the copy: with 120 it
// holds two minutes, and the copy takes twelve.
const oplogVar = "RIGATONI_SNAPSHOT_OPLOG"

// TestCopyOutlivesTheOplog: a copy into a slow destination takes many times as long as
// the oplog reaches back, is killed twice after the oplog has lost its beginning, and
// ends without lost history. The oplog always reaches back to the checkpoint.
func TestCopyOutlivesTheOplog(t *testing.T) {
	if !campaign.Full(t) {
		t.Skip("it takes two minutes: with " + campaign.Var + "=full only")
	}
	const oplogMB, pace, times = 32, 200, 6 // events in a second; the copy lasts that many times as long as the oplog
	hold := campaign.Size(t, oplogVar, 15, 15)
	r := aCopy(t, testserver.OwnMongod(t, mongod.Options{OplogMB: oplogMB, SyncDelay: 1}), hold*pace*times)
	r.load.Writers, r.load.Pause = 2, 40*time.Millisecond
	r.lives.Slow, r.config.SaveInterval = pace, 100*time.Millisecond
	// What has been read and not delivered holds the checkpoint back: a few seconds of it.
	r.source.SnapshotChunkBytes, r.config.MaxInFlightBytes = 32<<10, 64<<10
	r.meanwhile = func(ctx context.Context) {
		fillOplog(ctx, t, r.server.Client.Database("elsewhere").Collection("fill"), time.Duration(hold)*time.Second/oplogMB)
	}
	w := &oplogWatch{t: t, server: r.server}
	r.killed(t, 2, 0)
	r.processes.saved = w.look
	r.check(t)
	t.Logf("the oplog held at most %v, and was replaced whole %d times while the copy ran, which took %v; the shortest runway was %v",
		w.held, w.turns, w.took.Round(time.Second), w.runway)
	if w.turns < times-2 || w.took < (times-1)*w.held {
		t.Errorf("the copy took %v, and the oplog held %v: too long for this test to prove anything", w.took, w.held)
	}
}

// fillOplog writes a megabyte every so often, out of the scope of the stream.
func fillOplog(ctx context.Context, t *testing.T, coll *mongo.Collection, every time.Duration) {
	const parts = 4
	doc := bson.D{{Key: "fill", Value: strings.Repeat("x", 1<<20/parts)}}
	tick := time.NewTicker(every / parts)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := coll.InsertOne(ctx, doc); err != nil && ctx.Err() == nil {
			t.Errorf("fill the oplog: %v", err)
			return
		}
	}
}

// An oplogWatch compares the checkpoints of a copy with what the oplog has.
type oplogWatch struct {
	t      *testing.T
	server *testserver.Server

	began time.Time      // when the first checkpoint was seen
	mark  bson.Timestamp // the newest entry when the oplog was last replaced; at first the copy's beginning
	turns int            // how often the oplog was replaced whole
	took  time.Duration  // the copy, once it has ended

	held, runway time.Duration // the longest and the shortest, since the oplog lost the beginning
	lost         bool          // it was said that the runway is 0
}

// look reports whether the n-th process is to be killed: the first once the oplog has
// lost the beginning of the copy, the second after two more oplogs.
func (w *oplogWatch) look(n int, cp state.Checkpoint) (kill bool) {
	w.t.Helper()
	oldest, newest := w.server.OplogTime(w.t, 1), w.server.OplogTime(w.t, -1)
	if w.began.IsZero() {
		w.began, w.mark = time.Now(), cp.ClusterTime
	}
	if cp.Extra[rigatoni.ExtraSnapshot] == nil {
		if w.took == 0 {
			w.took = time.Since(w.began)
		}
		return true
	}
	if oldest.After(w.mark) {
		w.turns, w.mark = w.turns+1, newest
	}
	if w.turns > 0 {
		w.measure(oldest, newest, cp.ClusterTime)
	}
	return w.turns > 2*n
}

func (w *oplogWatch) measure(oldest, newest, saved bson.Timestamp) {
	w.t.Helper()
	w.held = max(w.held, seconds(oldest, newest))
	if r := seconds(oldest, saved); w.runway == 0 || r < w.runway {
		w.runway = r
	}
	if !saved.After(oldest) && !w.lost {
		w.lost = true
		w.t.Errorf("the checkpoint is at %v, and the oplog begins at %v: the copy could not be resumed", saved, oldest)
	}
}

// seconds is the time from one cluster time to another.
func seconds(from, to bson.Timestamp) time.Duration {
	return time.Duration(int64(to.T)-int64(from.T)) * time.Second
}
