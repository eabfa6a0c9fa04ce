package snapcheck

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// newCopy is a trial whose pipelines copy what exists. How much they read, deliver and
// save at once is random.
func newCopy(t *testing.T, s *testserver.Server, docs int) *trial {
	t.Helper()
	r := newTrial(t, s, docs)
	rng := rand.New(rand.NewPCG(r.load.Seed, 2000))
	r.config.Snapshot = "initial"
	r.config.SaveInterval = oneOf(rng, -1, 20*time.Millisecond, 200*time.Millisecond)
	r.config.MaxBatchEvents = oneOf(rng, 1, 30, 1000)
	r.config.MaxInFlightBytes = oneOf(rng, 1, 16<<10, 256<<10) // so that the copy is as slow as the destination
	r.source.SnapshotParallelism = 1 + rng.IntN(5)
	r.source.SnapshotChunkBytes = oneOf(rng, 1024, 8<<10, 64<<10)
	r.source.BatchSize = oneOf(rng, 20, 4000)
	t.Logf("save interval %v, %d events in a batch, %d chunks of %d bytes at once, %d events in a reply",
		r.config.SaveInterval, r.config.MaxBatchEvents, r.source.SnapshotParallelism, r.source.SnapshotChunkBytes, r.source.BatchSize)
	return r
}

func oneOf[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// within selects the five collections by name: what is renamed away leaves the stream.
func (r *trial) within() {
	names := map[string]bool{}
	for _, c := range r.load.Collections {
		names[c.Name] = true
		r.source.Collections = append(r.source.Collections, c.Name)
	}
	r.rules.Watched = func(coll string) bool { return names[coll] }
}

func (r *trial) check(t *testing.T) {
	t.Helper()
	if f := r.run(t); !f.None() {
		t.Error(f)
	}
}

// docsVar is how many documents the large collection of each trial has.
const docsVar = "RIGATONI_SNAPSHOT_DOCS"

// TestCopyIntoFunction: into a function each document's versions only go forward between
// two crashes, none is lost, none comes back, and the end is what the server has.
func TestCopyIntoFunction(t *testing.T) {
	parallel(t)
	newCopy(t, testserver.Mongod(t), campaign.Size(t, docsVar, 100_000, 1500)).check(t)
}

// TestCopyIntoTransactions: into a transactional destination all is applied exactly
// once, in the order of the stream.
func TestCopyIntoTransactions(t *testing.T) {
	parallel(t)
	r := newCopy(t, testserver.Mongod(t), campaign.Size(t, docsVar, 50_000, 1500))
	r.lives.Once, r.rules.Once = true, true
	r.check(t)
}

// TestCopyOfCollections: so it is where the collections are named, and some are renamed
// away.
func TestCopyOfCollections(t *testing.T) {
	parallel(t)
	r := newCopy(t, testserver.Mongod(t), campaign.Size(t, docsVar, 50_000, 1000))
	r.within()
	r.lives.Once, r.rules.Once = true, true
	// What comes back into the stream after the copy has no events of its documents.
	r.load.Upheaval, r.load.OneWay = r.load.Upheaval/2, true
	r.check(t)
}

// TestCopyInLanes: with several lanes the order of each document's versions holds.
func TestCopyInLanes(t *testing.T) {
	parallel(t)
	r := newCopy(t, testserver.Mongod(t), campaign.Size(t, docsVar, 50_000, 1000))
	r.config.Concurrency, r.rules.Lanes, r.lives.Recorder.Lanes = 4, true, true
	r.check(t)
}

// TestCopyAndKills: so it is where the processes are killed.
func TestCopyAndKills(t *testing.T) {
	parallel(t)
	docs := campaign.Size(t, docsVar, 1_000_000, 1500)
	r := newCopy(t, testserver.OwnMongod(t, mongod.Options{OplogMB: 2000}), docs)
	kills, within := 4, time.Second
	if campaign.Full(t) {
		kills, within = 40, 10*time.Second
		r.lives.Slow, r.source.SnapshotChunkBytes, r.config.MaxBatchEvents, r.config.MaxInFlightBytes = 20_000, 1<<20, 1000, 8<<20
		r.load.Upheaval = 5 * time.Second
	}
	r.killed(t, kills, within)
	r.check(t)
}

// TestCopyAndFailovers: so it is where primaries step down, and die.
func TestCopyAndFailovers(t *testing.T) {
	parallel(t)
	r := newCopy(t, testserver.OwnMongod(t, mongod.Options{Nodes: 3}), campaign.Size(t, docsVar, 50_000, 1500))
	r.lives.Crashes, r.lives.Slow = 2, 500
	// A failover may come just as a stream is opened.
	r.lives.Restart, r.lives.Ended = true, func(err error) { t.Log(err) }
	r.meanwhile = func(ctx context.Context) {
		for i := 0; ctx.Err() == nil; i++ {
			if err := failover(ctx, r.server.Real, i); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
		}
	}
	r.atLeast = 8 * time.Second
	r.check(t)
}

// failover is a step-down, or the death of the primary, one after the other.
func failover(ctx context.Context, s *mongod.Server, i int) error {
	if i%2 == 0 {
		return s.StepDown(ctx)
	}
	primary, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	if err := primary.Kill(); err != nil {
		return fmt.Errorf("kill the primary: %w", err)
	}
	if _, err := s.Primary(ctx); err != nil {
		return err
	}
	return primary.Start(context.WithoutCancel(ctx))
}

// TestCopyOfCollectionsThatAreCreated: a collection that is created just as the copy
// begins arrives with all its documents: the list has it, or the stream.
func TestCopyOfCollectionsThatAreCreated(t *testing.T) {
	parallel(t)
	r := aCopy(t, testserver.Mongod(t), 300)
	r.script = func(ctx context.Context) error {
		for i := range 60 {
			for id := range 3 {
				if err := r.set(ctx, fmt.Sprintf("created%d", i), id); err != nil {
					return err
				}
			}
		}
		return nil
	}
	r.check(t)
}

// TestCopyWhileCollectionsAreRenamed: documents of a collection that has been renamed
// again and again arrive all the same, whatever name it had when they were read.
func TestCopyWhileCollectionsAreRenamed(t *testing.T) {
	parallel(t)
	r := aCopy(t, testserver.Mongod(t), 1000)
	r.lives.Slow = 1000
	w := &writer{load: &r.load}
	r.script = func(ctx context.Context) error {
		names := []string{"docs", "here", "there"}
		for i := range 60 {
			if err := w.rename(ctx, names[i%3], names[(i+1)%3]); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(15 * time.Millisecond):
			}
		}
		return nil
	}
	r.check(t)
}

// TestCopyAmongTransactions: all of a transaction is before a copied document or after it.
func TestCopyAmongTransactions(t *testing.T) {
	parallel(t)
	r := newCopy(t, testserver.Mongod(t), 800)
	r.load.Transactions, r.load.Upheaval = true, 0
	// Most transactions are in several replies.
	r.source.BatchSize, r.config.MaxInFlightBytes, r.lives.Slow, r.source.SnapshotChunkBytes = 3, 1, 800, 1024
	r.lives.Crashes, r.lives.Once, r.rules.Once = 0, true, true
	r.check(t)
}

// TestCopyOfTinyCollections: a copy that is over at once is in order with what is written
// in that moment.
func TestCopyOfTinyCollections(t *testing.T) {
	parallel(t)
	for range campaign.Size(t, "RIGATONI_SNAPSHOT_TINY", 20, 2) {
		t.Run("", func(t *testing.T) {
			r := aCopy(t, testserver.OwnMongod(t, mongod.Options{}), 4)
			r.script = func(ctx context.Context) error {
				for r.lives.Recorder.Runs() == 0 { // the stream is open, and nothing is copied yet
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-time.After(100 * time.Microsecond):
					}
				}
				for i := range 40 {
					if err := r.set(ctx, "docs", idOf(i%4, 0)); err != nil {
						return err
					}
				}
				return nil
			}
			r.check(t)
		})
	}
}
