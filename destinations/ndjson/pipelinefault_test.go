package ndjson

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A running pipeline writes to files, and a consumer takes them.
type running struct {
	t        *testing.T
	files    *Files
	source   *rigatonitest.Source
	events   rigatoni.Batch
	consumer taker
	stop     func() error
}

func runPipeline(t *testing.T, files *Files) *running {
	r := &running{t: t, files: files, source: rigatonitest.NewSource()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- rigatoni.Run(ctx, rigatoni.Config{Name: "shop", Source: r.source, Destination: files, Store: lasting{memstore.New()}, Logger: quiet})
	}()
	r.stop = func() error { cancel(); return <-done }
	return r
}

func (r *running) add(n int) {
	for range n {
		ev := rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: int32(len(r.events.Events))}})
		r.events.Events = append(r.events.Events, ev)
		r.source.Append(ev)
	}
}

// end stops the pipeline, and compares what the consumer has with what was added.
func (r *running) end(when string) {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Errorf("%s: %v", when, err)
	}
	r.consumer.take(r.t, r.files.dir)
	if r.consumer.lines != want(r.t, extjson.Relaxed, &r.events) {
		r.t.Errorf("%s: the consumer has %d lines, want %d", when, strings.Count(r.consumer.lines, "\n"), len(r.events.Events))
	}
}

// TestAFullDiskIsWaitedFor by a pipeline, whatever it does at that time: nothing is lost
// or there twice when there is room again.
func TestAFullDiskIsWaitedFor(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		for _, op := range []string{"write", "create", "sync", "syncDir", "rename", "close"} {
			dir := tempDir(t)
			synctest.Test(t, func(t *testing.T) {
				files := openFiles(t, dir, Options{MaxFileBytes: 2000})
				r := runPipeline(t, files)
				r.add(10)
				time.Sleep(5 * time.Second)
				files.fs.(*disk).setFault(failOn(op, full))
				for range 3 {
					r.add(10)
					time.Sleep(time.Minute)
					r.consumer.take(t, dir)
				}
				files.fs.(*disk).setFault(nil)
				r.add(5)
				time.Sleep(2 * time.Minute) // the longest pause between two attempts
				r.end(op + ": " + full.Error())
			})
		}
	}
}

// TestOutputIsRemovedUnderAPipeline: it delivers again what the checkpoint does not
// cover, and its consumer has every event once.
func TestOutputIsRemovedUnderAPipeline(t *testing.T) {
	for what, remove := range removals {
		dir := filepath.Join(tempDir(t), "a", "out")
		synctest.Test(t, func(t *testing.T) {
			r := runPipeline(t, openFiles(t, dir, Options{}))
			r.add(10)
			time.Sleep(5 * time.Second) // saved
			r.add(10)
			synctest.Wait() // delivered
			for _, n := range names(t, dir) {
				if strings.HasSuffix(n, openSuffix) {
					remove(t, dir, filepath.Join(dir, n))
				}
			}
			r.add(10)
			time.Sleep(2 * time.Minute)
			r.end(what)
			_ = os.RemoveAll(dir + ".old")
		})
	}
}
