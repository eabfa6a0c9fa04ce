package filestore

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Those who come while a flush is under way share the next one, and none is served by
// one that began before they came.
func TestSharedFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flushes, gate := 0, make(chan struct{})
		s := &shared{flush: func(file) error {
			flushes++
			<-gate
			return nil
		}}
		var served atomic.Int64
		join := func(n int) {
			for range n {
				go func() {
					if err := s.join(nil, s.began()); err != nil {
						t.Error(err)
					}
					served.Add(1)
				}()
			}
			synctest.Wait()
		}
		for _, step := range []struct {
			come    int
			ends    bool
			flushes int
			served  int64
		}{
			{come: 1, flushes: 1},
			{come: 5, flushes: 1},
			{ends: true, flushes: 2, served: 1},
			{come: 3, flushes: 2, served: 1},
			{ends: true, flushes: 3, served: 6},
			{ends: true, flushes: 3, served: 9},
			{come: 1, flushes: 4, served: 9},
			{ends: true, flushes: 4, served: 10},
		} {
			if step.ends {
				gate <- struct{}{}
				synctest.Wait()
			}
			join(step.come)
			if flushes != step.flushes || served.Load() != step.served {
				t.Fatalf("%+v: %d flushes, %d served", step, flushes, served.Load())
			}
		}
		if s.busy() {
			t.Error("it is busy with nothing")
		}
	})
}

// A flush that fails is told of once by the system, and may have been about any write
// that was begun before it ended.
func TestSharedFlushFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan error)
		s := &shared{flush: func(file) error { return <-gate }}
		errs := make([]error, 4)
		var all sync.WaitGroup
		join := func(i int, began uint64) {
			all.Go(func() { errs[i] = s.join(nil, began) })
			synctest.Wait()
		}
		join(0, s.began())
		join(1, s.began()) // waits for the next one
		early := s.began() // writes, and asks only when the failure is over
		gate <- syscall.EIO
		synctest.Wait()
		join(2, early)
		join(3, s.began())
		gate <- nil
		synctest.Wait()
		gate <- nil
		all.Wait()
		for i, want := range []error{syscall.EIO, syscall.EIO, syscall.EIO, nil} {
			if !errors.Is(errs[i], want) {
				t.Errorf("%d: %v, want %v", i, errs[i], want)
			}
		}
	})
}

// One goroutine for each stream, more of them than are flushed each by itself: they
// share flushes, and all are saved.
func TestManyGoroutinesShareFlushes(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	const many, rounds = 8 * manyFiles, 5
	grants := make([]state.Grant, many)
	for i := range grants {
		grants[i] = acquire(t, s, batchKey(i), "first")
	}
	sys.arm(0, nil, false)
	inParallel(many, many, func(i int) {
		for n := range rounds {
			if err := s.SaveFenced(t.Context(), batchKey(i), grants[i].Fence, place(t, n+1)); err != nil {
				t.Error(err)
			}
		}
	})
	calls := count(sys.trace())
	if calls["syncfs"] == 0 || calls["syncfs"]+calls["fdatasync"] > many*rounds*3/4 {
		t.Errorf("%d saves took %d flushes of the file system and %d of files", many*rounds, calls["syncfs"], calls["fdatasync"])
	}
	for i := range many {
		wantToken(t, s, batchKey(i), place(t, rounds))
	}
}
