package ndjson

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// lasting is a store in memory that is not said to be one, so that a first start
// counts as one.
type lasting struct{ state.Leaser }

// TestInAPipeline runs a pipeline into files: through a flush that fails, a
// restart, and a checkpoint that is gone.
func TestInAPipeline(t *testing.T) {
	dir := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		files := openFiles(t, dir, Options{})
		var failing atomic.Bool
		files.fs.(*disk).fault = func(op, _ string, _ int) (int, error) {
			if op == "sync" && failing.Load() {
				return 0, syscall.EIO
			}
			return 0, nil
		}
		source := rigatonitest.NewSource()
		store := lasting{memstore.New()}
		run := func(ctx context.Context) error {
			return rigatoni.Run(ctx, rigatoni.Config{Name: "shop", Source: source, Destination: files, Store: store, Logger: quiet})
		}
		var events rigatoni.Batch
		add := func(n int) {
			for range n {
				ev := rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: int32(len(events.Events))}})
				events.Events = append(events.Events, ev)
				source.Append(ev)
			}
		}

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		add(10)
		time.Sleep(5 * time.Second) // saved
		if got := readAll(t, dir); got != want(t, extjson.Relaxed, &events) {
			t.Errorf("the files are %s", got)
		}
		failing.Store(true)
		add(10)
		time.Sleep(5 * time.Second) // the save fails, and the stream goes back
		failing.Store(false)
		add(10)
		time.Sleep(2 * time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, dir); got != want(t, extjson.Relaxed, &events) {
			t.Errorf("after a flush that failed, the files have %d lines, want %d", strings.Count(got, "\n"), len(events.Events))
		}

		add(5)
		source.End()
		if err := run(t.Context()); !errors.Is(err, rigatonitest.ErrEnd) {
			t.Fatal(err)
		}
		if got := readAll(t, dir); got != want(t, extjson.Relaxed, &events) {
			t.Errorf("after a restart, the files have %d lines, want %d", strings.Count(got, "\n"), len(events.Events))
		}
		if last := names(t, dir)[len(names(t, dir))-1]; last != name(2, 1) {
			t.Errorf("the second run writes %s", last)
		}

		if err := store.Clear(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context()); !errors.Is(err, rigatoni.ErrOutputExists) {
			t.Errorf("a checkpoint that is gone: %v", err)
		}
	})
}
