package filestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

var ctx = context.Background()

// A history is a random series of calls to two stores that share a directory of a
// simFS. At the points at which a call has changed something, the power is cut a few
// times over, each time with another outcome, and what is left is opened and compared
// with what was acknowledged. One of those points, with the power cut there or all
// processes killed, is where the history goes on: its next life.
type history struct {
	t      *testing.T
	r      *rand.Rand
	m      *simFS
	stores [2]*Store
	faults bool // calls fail at random
	rarely int  // the power is cut at one in this many points, at random
	crowd  bool // many callers at a time

	mu   sync.Mutex // guards the four
	keys []*simKey  // what they may hold
	n    int        // the last checkpoint that was made
	log  []string
	life int

	// These are guarded by m.mu, while the machine runs.
	pending []moment
	next    moment
	moments int
	changed bool // since the last moment
	calls   []string

	failIn   int  // calls until one fails
	failFor  int  // and how many fail then
	failSync bool // of flushes alone
	gathered bool // the crowd makes its calls

	failed atomic.Int64

	// read are the records in files that have been read already: the contents of one
	// are never written to, and most files are the same after the next crash.
	read map[*byte]record.Record
	cuts int
}

// A moment is a machine after a crash, and what its keys may hold: may and next in turn.
type moment struct {
	m    *simFS
	may  [][]record.Record
	what string
}

func newHistory(t *testing.T, seed uint64, keys int) *history {
	h := &history{t: t, r: rand.New(rand.NewPCG(seed, 1)), rarely: 1}
	h.faults = h.r.IntN(2) == 0
	names := []string{"a", "b", "C/d", "e", strings.Repeat("long", 60)}
	for n := len(names); n < keys; n++ {
		names = append(names, fmt.Sprint("k", n))
	}
	for i, name := range names {
		k := &simKey{name: name, leased: i%2 == 0, may: []record.Record{{}}}
		if i == 3 || i == 4 {
			k.store = 1
		}
		h.keys = append(h.keys, k)
	}
	m := newSimFS(rand.New(rand.NewPCG(seed, 2)))
	m.syncFSUnsupported = h.r.IntN(4) == 0
	h.boot(m)
	return h
}

// boot starts both stores on a machine.
func (h *history) boot(m *simFS) {
	h.m, h.next, h.moments, h.calls, h.read = m, moment{}, 0, nil, make(map[*byte]record.Record)
	m.before = h.before
	for i := range h.stores {
		h.open(i)
	}
}

func (h *history) open(i int) {
	s, err := open(h.m, simStore, &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.fail("open: %v", err)
	}
	if h.r.IntN(2) == 0 {
		s.idle.maxOpen = 1 + h.r.IntN(3)
	}
	s.flusher.callers = 16 // fewer are enough for them to share flushes
	h.stores[i] = s
}

// before is asked before every call of the stores.
func (h *history) before(op, path string, changes bool) syscall.Errno {
	if changes && h.changed && h.m.r.IntN(h.rarely) == 0 {
		h.crash(fmt.Sprintf("before call %d, %s %s", len(h.calls)+1, op, path))
	}
	h.changed = h.changed || changes
	h.calls = append(h.calls, op+" "+path)
	if !h.fails(op) {
		return 0
	}
	h.failed.Add(1)
	h.calls[len(h.calls)-1] += " FAILS"
	return []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT}[h.m.r.IntN(3)]
}

func (h *history) fails(op string) bool {
	switch {
	case h.gathered && h.faults:
		return h.m.r.IntN(200) == 0 || op == "syncfs" && h.m.r.IntN(4) == 0
	case h.failFor == 0 || h.failSync && !strings.Contains(op, "sync"):
		return false
	case h.failIn > 0:
		h.failIn--
		return false
	}
	h.failFor--
	return true
}

// crash notes how the machine may come back if it stops now.
func (h *history) crash(when string) {
	h.changed = false
	may := h.snapshot()
	outcomes := 1
	if h.m.isDirty() {
		outcomes = 3
	}
	for range outcomes {
		r := rand.New(rand.NewPCG(h.m.r.Uint64(), 3))
		at := moment{h.m.cut(r), may, when}
		h.pending = append(h.pending, at)
		h.moments++
		if h.m.r.IntN(h.moments) != 0 {
			continue
		}
		h.next = moment{at.m.kill(r), may, "the power cut " + when}
		if h.m.r.IntN(3) == 0 {
			h.next = moment{h.m.kill(r), may, "killed " + when}
		}
	}
}

// snapshot is what each key may hold just now.
func (h *history) snapshot() [][]record.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	may := make([][]record.Record, 0, 2*len(h.keys))
	for _, k := range h.keys {
		may = append(may, k.may, k.next)
	}
	return may
}

// checkCrashes opens what is left after each of the crashes that were noted.
func (h *history) checkCrashes() {
	h.m.mu.Lock()
	pending := h.pending
	h.pending = nil
	h.m.mu.Unlock()
	for _, at := range pending {
		h.cuts++
		h.check(at)
	}
}

// check opens a machine after a crash, and returns what it holds.
func (h *history) check(at moment) (found []record.Record) {
	s, err := open(at.m, simStore, &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.fail("the power cut %s: open: %v", at.what, err)
	}
	defer s.Close()
	for i, k := range h.keys {
		rec, err := h.recordOf(s, at.m, k.name)
		may, next := at.may[2*i], at.may[2*i+1]
		if err != nil || !slices.ContainsFunc(may, like(rec)) && !slices.ContainsFunc(next, like(rec)) {
			h.fail("lost: the power cut %s: the key %.9q has %s (%v), of %s or, not acknowledged, %s\nof this key:\n%s\nof all:", at.what, k.name,
				brief(rec), err, briefs(may), briefs(next), h.about(k))
		}
		found = append(found, rec)
	}
	for name := range at.m.dir.now {
		if strings.HasSuffix(name, tempSuffix) {
			h.fail("the power cut %s: %s is left, after the sweep", at.what, name)
		}
	}
	return found
}

// recordOf is the record in a key's file, which Load agrees with.
func (h *history) recordOf(s *Store, m *simFS, key string) (record.Record, error) {
	var text *byte
	if n := m.dir.now[stem(key)+dataSuffix]; n != nil && len(n.now) > 0 {
		text = &n.now[0]
	}
	if rec, ok := h.read[text]; ok && text != nil {
		return rec, nil
	}
	f, err := s.readShared(ctx, key, s.path(key))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return f.rec, err
	}
	cp, err := s.Load(ctx, key)
	want, wantErr := f.rec.Load()
	if !errors.Is(err, wantErr) || !cp.Equal(want) {
		return f.rec, fmt.Errorf("Load says %d (%w), its file %s", cp.Sequence, err, brief(f.rec))
	}
	if text != nil {
		h.read[text] = f.rec
	}
	return f.rec, nil
}

// about is what has happened to a key.
func (h *history) about(k *simKey) string {
	var lines []string
	for _, line := range h.log {
		if name := fmt.Sprintf("%.9q ", k.name); strings.HasPrefix(line, name) || !strings.HasPrefix(line, `"`) {
			lines = append(lines, line)
		}
	}
	for _, line := range h.calls {
		if strings.Contains(line, "/"+stem(k.name)+".") || strings.HasSuffix(line, simStore) || strings.HasSuffix(line, "FAILS") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// fail ends the test, with what led to it.
func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Errorf("life %d: %s\n%s\nthe last calls:\n%s", h.life, fmt.Sprintf(format, args...),
		strings.Join(h.log[max(0, len(h.log)-30):], "\n"), strings.Join(h.calls[max(0, len(h.calls)-40):], "\n"))
	h.t.FailNow()
}

// die ends a life, and begins the next one at a moment of it.
func (h *history) die() {
	if h.next.m == nil {
		h.crash("in the end")
	}
	h.shutDown()
	at := h.next
	h.life++
	h.log = append(h.log, at.what)
	for i, k := range h.keys {
		k.may, k.next = distinct(append(slices.Clone(at.may[2*i]), at.may[2*i+1]...)), nil
	}
	found := h.check(moment{at.m.kill(h.r), at.may, "as in " + at.what})
	// After a kill the page cache is still there, and the kernel may yet tell of what
	// has failed before. Else what the disk has is all that there is.
	if !strings.HasPrefix(at.what, "killed") {
		h.failed.Store(0)
		for i, k := range h.keys {
			k.may = found[i : i+1]
		}
	}
	h.boot(at.m)
}

// shutDown stops the machine and closes its stores.
func (h *history) shutDown() {
	h.m.mu.Lock()
	h.m.dead = true
	h.m.mu.Unlock()
	for _, s := range h.stores {
		s.Close()
	}
}

// simPatienceVar is for how many seconds a simulated campaign goes on.
const simPatienceVar = "RIGATONI_CAMPAIGN_SIMULATED"

func simPatience(t *testing.T) time.Duration {
	return time.Duration(campaign.Size(t, simPatienceVar, 150, 2)) * time.Second
}

// simCrashes makes histories for a while. With one processor the order of goroutines,
// and with it the history, is the seed's.
func simCrashes(t *testing.T, live func(t *testing.T, seed uint64) *history) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	seed, patience := campaign.Seed(t), simPatience(t)
	start, histories, cuts, saves := time.Now(), 0, 0, 0
	for ; time.Since(start) < patience && !t.Failed(); histories++ {
		synctest.Test(t, func(t *testing.T) {
			s := seed + uint64(histories)
			defer func() {
				if t.Failed() {
					t.Logf("after %d crashes; to see it again: RIGATONI_CAMPAIGN_SEED=%d", cuts, s)
				}
			}()
			h := live(t, s)
			cuts += h.cuts
			saves += h.n
		})
	}
	t.Logf("%d histories, %d saves, %d crashes, %.0f a second", histories, saves, cuts, float64(cuts)/time.Since(start).Seconds())
}

// Random histories, with the power cut at every moment of them.
func TestSimulatedCrashes(t *testing.T) {
	simCrashes(t, func(t *testing.T, seed uint64) *history {
		if seed%4 == 0 { // enough keys for a batch to share its flush
			h := newHistory(t, seed, manyFiles+12)
			h.rarely = 20
			h.leaseMost()
			h.rarely = 4
			h.live(1+h.r.IntN(3), 1+h.r.IntN(6))
			return h
		}
		h := newHistory(t, seed, 5)
		h.live(1+h.r.IntN(8), 1+h.r.IntN(24))
		return h
	})
}

// Many callers at a time, whose saves share their flushes, on a disk that takes its time.
func TestSimulatedCrowd(t *testing.T) {
	simCrashes(t, func(t *testing.T, seed uint64) *history {
		h := newHistory(t, seed, 2*manyFiles)
		for _, k := range h.keys {
			k.store = 0 // what another process's flush has lost is beyond any program
		}
		h.rarely = 20
		h.leaseMost()
		h.crowd = true
		for range 1 + h.r.IntN(4) {
			h.gather(1+h.r.IntN(2*manyFiles), 1+h.r.IntN(6))
			h.checkCrashes()
			h.die()
		}
		h.shutDown()
		return h
	})
}
