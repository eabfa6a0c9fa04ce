package filestore

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// From manyFiles of one batch on, one flush of the whole file system is quicker than
// one of each file. What others have written to the file system is then waited for as
// well, so it isn't done for fewer.
const manyFiles = 16

// The number of concurrent callers above which they share a flush of the file system.
// Below it each flushes its own file: the kernel combines simultaneous flushes of the
// device, and no caller waits for a flush that began before its write.
const manyCallers = 64

// A flusher makes writes durable, many of them with one flush where it can.
type flusher struct {
	syncer syncer  // nil: files are flushed each by itself
	all    *shared // nil like syncer
	dir    *shared // of the directory

	callers int64 // manyCallers, but in tests
	alone   atomic.Int64
}

func newFlusher(sys fsys, dir string) (*flusher, error) {
	fl := &flusher{callers: manyCallers, dir: &shared{flush: func(file) error { return sys.SyncDir(dir) }}}
	var err error
	fl.syncer, err = sys.OpenSyncer(dir)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		fl.syncer = nil
	case err != nil:
		return nil, err
	default:
		fl.all = &shared{flush: fl.syncAll}
	}
	return fl, nil
}

func (fl *flusher) close() error {
	if fl.syncer == nil {
		return nil
	}
	return fl.syncer.Close()
}

// syncAll flushes the file system, and then one of the files that were written: xfs
// writes no journal where only contents have changed, and then sends the device no
// flush, but for a file it always does.
func (fl *flusher) syncAll(f file) error {
	if err := fl.syncer.SyncFS(); err != nil {
		return err
	}
	return f.Datasync()
}

// began is to be called before anything is written that all is to vouch for.
func (fl *flusher) began() uint64 {
	if fl.all == nil {
		return 0
	}
	return fl.all.began()
}

// one flushes a file, by do, or with many others if many want it now.
func (fl *flusher) one(f file, do func() error, began uint64) error {
	alone := fl.alone.Add(1)
	if fl.all != nil && (alone > fl.callers || fl.all.busy()) {
		fl.alone.Add(-1)
		return fl.all.join(f, began)
	}
	defer fl.alone.Add(-1)
	return do()
}

// A shared flush serves all who asked for it before it began.
type shared struct {
	// flush gets the file of one of them.
	flush func(file) error

	mu       sync.Mutex
	next     *round // the waiters for the next flush, nil for none
	running  bool
	failures uint64 // flushes that failed
	last     error  // how the last of them did
}

// A round is one flush, and those whom it serves. One of them does it.
type round struct {
	f     file
	lead  chan struct{} // signals one of them to flush
	done  chan struct{}
	err   error
	ended uint64 // shared.failures when it was done
}

// began is called before the write that is to be flushed, and its result is passed to
// join. The system reports a failed write once, to the next flush. So a flush that
// fails invalidates every write that began before it ended, also those that wait for
// the next one.
func (s *shared) began() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures
}

func (s *shared) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// join waits for a flush that begins after the call, and does it itself if no other
// caller does.
func (s *shared) join(f file, began uint64) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &round{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	r := s.next
	r.f = f
	lead := !s.running
	s.running = true
	s.mu.Unlock()

	if !lead {
		select {
		case <-r.done:
		case <-r.lead:
			lead = true
		}
	}
	if lead {
		s.run(r)
	}
	if r.err == nil && r.ended != began {
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("a shared flush failed meanwhile: %w", s.last)
	}
	return r.err
}

// run does the flush of a round, and hands over to the next.
func (s *shared) run(r *round) {
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	r.err = s.flush(r.f)

	s.mu.Lock()
	defer s.mu.Unlock()
	if r.err != nil {
		s.failures++
		s.last = r.err
	}
	r.ended = s.failures
	close(r.done)
	if s.next == nil {
		s.running = false
		return
	}
	s.next.lead <- struct{}{}
}

// processors is on how many processors something is done for n files.
func processors(n int) int {
	const enough = 64 // for the work to be worth another goroutine
	return min(runtime.GOMAXPROCS(0), n/enough+1)
}

// inParallel calls do with 0 to n-1, up to a fixed number at a time.
func inParallel(workers, n int, do func(int)) {
	var next atomic.Int64
	work := func() {
		for i := next.Add(1); i <= int64(n); i = next.Add(1) {
			do(int(i - 1))
		}
	}
	var others sync.WaitGroup
	for range min(workers, n) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}
