package filestore

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
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

// The system reports the failure of a flush once, and it may concern any write that
// was begun before the flush ended.
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

// More goroutines than are flushed each by itself share a flush of the file system, and
// so do those who come while there is one.
func TestManyGoroutinesShareFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone, together, gate := atomic.Int64{}, atomic.Int64{}, make(chan struct{})
		fl := &flusher{callers: manyCallers, all: &shared{flush: func(file) error {
			together.Add(1)
			<-gate
			return nil
		}}}
		one := func() error {
			alone.Add(1)
			<-gate
			return nil
		}
		flush := func(n int) {
			for range n {
				go func() {
					if err := fl.one(nil, one, fl.began()); err != nil {
						t.Error(err)
					}
				}()
			}
			synctest.Wait()
		}
		check := func(what string, wantAlone, wantTogether int64) {
			t.Helper()
			if a, n := alone.Load(), together.Load(); a != wantAlone || n != wantTogether {
				t.Fatalf("%s: %d flushes of files and %d of the file system, want %d and %d", what, a, n, wantAlone, wantTogether)
			}
		}
		flush(manyCallers)
		check("as many as are flushed each by itself", manyCallers, 0)
		flush(1)
		check("one more", manyCallers, 1)
		flush(5)
		check("and more, while there is one", manyCallers, 1)
		close(gate)
		synctest.Wait()
		check("when all are done", manyCallers, 2)
		flush(1)
		check("one alone again", manyCallers+1, 2)

		gate = make(chan struct{})
		go func() {
			if err := fl.all.join(nil, fl.began()); err != nil { // a batch
				t.Error(err)
			}
		}()
		synctest.Wait()
		flush(1)
		check("a single one beside a batch", manyCallers+1, 3)
		close(gate)
		synctest.Wait()
		check("when both are done", manyCallers+1, 4)
	})
}
