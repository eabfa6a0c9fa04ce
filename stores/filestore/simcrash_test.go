package filestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A history is a random series of calls to two stores that share a directory of a
// simFS. At every point at which a call has changed something, the power is cut a few
// times over, each time with another outcome, and what is left is opened and compared
// with what was acknowledged. One of those points, with the power cut there or all
// processes killed, is where the history goes on.
type history struct {
	t      *testing.T
	r      *rand.Rand
	m      *simFS
	stores [2]*Store
	faults bool // calls fail at random
	many   bool // keys, so that batches share their flushes

	mu   sync.Mutex // guards what keys may hold
	keys []*simKey

	// These are guarded by m.mu, while the machine runs.
	pending []moment
	next    moment
	moments int
	changed bool // since the last moment
	failIn  int  // calls until one fails
	failFor int  // and how many fail then
	failed  int
	calls   []string

	// read are the records in files that have been read already: the contents of one
	// are never written to, and most files are the same after the next crash.
	read map[*byte]state.Record

	n     int // the last place that was made
	cuts  int
	saves int
	life  int
	log   []string
}

// A simKey is a key, and all that its record may be. While a call is under way, it may
// also be what the call makes of it.
type simKey struct {
	name      string
	store     int
	leased    bool // it is mostly written under a lease
	may, next []state.Record
	fences    []state.Fence
}

// A moment is a machine after a crash, and what its keys may hold: may and next in turn.
type moment struct {
	m    *simFS
	may  [][]state.Record
	what string
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, r: rand.New(rand.NewPCG(seed, 1))}
	h.faults = h.r.IntN(2) == 0
	h.many = h.r.IntN(4) == 0
	names := []string{"a", "b", "C/d", "e", strings.Repeat("long", 60)}
	if h.many {
		for n := range manyFiles {
			names = append(names, fmt.Sprint("k", n))
		}
	}
	for i, name := range names {
		store := 0
		if i == 3 || i == 4 {
			store = 1
		}
		h.keys = append(h.keys, &simKey{name: name, store: store, leased: i%2 == 0, may: []state.Record{{}}})
	}
	h.boot(newSimFS(rand.New(rand.NewPCG(seed, 2))))
	h.m.syncFSUnsupported = h.r.IntN(4) == 0
	return h
}

// boot starts both stores on a machine.
func (h *history) boot(m *simFS) {
	h.m, h.next, h.moments, h.calls, h.read = m, moment{}, 0, nil, make(map[*byte]state.Record)
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
	h.stores[i] = s
}

// before is asked before every call of the stores.
func (h *history) before(op, path string, changes bool) syscall.Errno {
	if changes && h.changed && (!h.many || h.m.r.IntN(4) == 0) {
		h.crash(fmt.Sprintf("before call %d, %s %s", len(h.calls)+1, op, path))
	}
	h.changed = h.changed || changes
	h.calls = append(h.calls, op+" "+path)
	if h.failFor == 0 {
		return 0
	}
	if h.failIn > 0 {
		h.failIn--
		return 0
	}
	h.failFor--
	h.failed++
	h.calls[len(h.calls)-1] += " FAILS"
	return []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT}[h.m.r.IntN(3)]
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
func (h *history) snapshot() [][]state.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	may := make([][]state.Record, 0, 2*len(h.keys))
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
func (h *history) check(at moment) (found []state.Record) {
	s, err := open(at.m, simStore, &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.fail("the power cut %s: open: %v", at.what, err)
	}
	defer s.Close()
	for i, k := range h.keys {
		rec, err := h.recordOf(s, at.m, k.name)
		if err != nil {
			h.fail("the power cut %s: the key %.9q: %v", at.what, k.name, err)
		}
		may, next := at.may[2*i], at.may[2*i+1]
		if !slices.ContainsFunc(may, like(rec)) && !slices.ContainsFunc(next, like(rec)) {
			h.fail("the power cut %s: the key %.9q has %s, of %s or, not acknowledged, %s", at.what, k.name,
				brief(rec), briefs(may), briefs(next))
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
func (h *history) recordOf(s *Store, m *simFS, key string) (state.Record, error) {
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

// like compares in all that a store has to keep.
func like(a state.Record) func(b state.Record) bool {
	return func(b state.Record) bool {
		return a.Status == b.Status && a.LastSequence == b.LastSequence && a.Epoch == b.Epoch && a.Nonce == b.Nonce &&
			a.Owner == b.Owner && a.Checkpoint.Equal(b.Checkpoint)
	}
}

func brief(r state.Record) string {
	place := int64(0)
	if r.Status == state.StatusSaved {
		place = r.Checkpoint.SavedAt.UnixMilli() - 1794000000000 // as placeOf makes it
	}
	return fmt.Sprintf("{place %d, sequence %d of %d, epoch %d %q}", place, r.Checkpoint.Sequence, r.LastSequence, r.Epoch, r.Nonce)
}

func briefs(rs []state.Record) string {
	var b strings.Builder
	for _, r := range rs {
		b.WriteString(brief(r))
	}
	return "[" + b.String() + "]"
}

// fail ends the test, with what led to it.
func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("life %d: %s\n%s\nthe last calls:\n%s", h.life, fmt.Sprintf(format, args...),
		strings.Join(h.log[max(0, len(h.log)-30):], "\n"), strings.Join(h.calls[max(0, len(h.calls)-40):], "\n"))
}

// An effect is what a call makes of a record if it succeeds, or why it is refused.
type effect func(state.Record) (state.Record, error)

func saving(f state.Fence, cp state.Checkpoint) effect {
	return func(r state.Record) (state.Record, error) { return state.Admit(r, f, cp, time.Time{}) }
}

func clearing(f state.Fence) effect {
	return func(r state.Record) (state.Record, error) {
		r, err := state.AdmitClear(r, f, time.Time{})
		if r.IsEmpty() {
			r = state.Record{}
		}
		return r, err
	}
}

func forgetting(state.Record) (state.Record, error) { return state.Record{}, nil }

func releasing(f state.Fence) effect {
	return func(r state.Record) (state.Record, error) { return state.AdmitRelease(r, f), nil }
}

func renewing(f state.Fence) effect {
	return func(r state.Record) (state.Record, error) {
		_, err := state.AdmitRenew(r, f, time.Minute, time.Time{})
		return r, err
	}
}

func acquiring(q state.LeaseRequest) effect {
	return func(r state.Record) (state.Record, error) {
		r, _, err := admitAcquire(r, q)
		return r, err
	}
}

// begin says that a call is about to be made.
func (h *history) begin(k *simKey, e effect) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.next = nil
	for _, r := range k.may {
		if r, err := e(r); err == nil {
			k.next = append(k.next, r)
		}
	}
}

// end takes the answer of a call.
func (h *history) end(k *simKey, e effect, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := k.next
	k.next = nil
	switch {
	case err == nil:
		k.may = distinct(next)
		if len(next) == 0 {
			h.fail("acknowledged, in whatever state the key may be: %s", briefs(k.may))
		}
	case errors.Is(err, state.ErrCorrupt) || errors.Is(err, state.ErrNotFound) || errors.Is(err, state.ErrNewer):
		h.fail("%v", err)
	case errors.Is(err, state.ErrUnavailable):
		if h.failed == 0 {
			h.fail("unavailable, and nothing has failed: %v", err)
		}
		k.may = distinct(append(slices.Clone(k.may), next...))
	default:
		// It says nothing of the disk: what was read may be in the page cache alone.
		if !slices.ContainsFunc(k.may, func(r state.Record) bool { return refuses(r, e, err) }) {
			h.fail("refused, and it shouldn't have been: %v, %s", err, briefs(k.may))
		}
	}
}

// refuses tells whether a call makes of a record that it is refused so.
func refuses(r state.Record, e effect, err error) bool {
	if errors.Is(err, state.ErrLeaseHeld) && !errors.Is(err, state.ErrFenced) {
		return r.Nonce != ""
	}
	_, want := e(r)
	for _, refusal := range []error{state.ErrFenced, state.ErrStale} {
		if errors.Is(err, refusal) && errors.Is(want, refusal) {
			return true
		}
	}
	return false
}

func distinct(rs []state.Record) (out []state.Record) {
	for _, r := range rs {
		if !slices.ContainsFunc(out, like(r)) {
			out = append(out, r)
		}
	}
	return out
}

// do makes a call, cuts the power at all its moments, and after it.
func (h *history) do(k *simKey, what string, e effect, call func(*Store) error) error {
	h.log = append(h.log, fmt.Sprintf("%d: %.9q %s", len(h.calls)+1, k.name, what))
	h.begin(k, e)
	h.arm()
	err := call(h.stores[k.store])
	h.end(k, e, err)
	h.log[len(h.log)-1] += fmt.Sprintf(" → %v, %s", err, briefs(k.may))
	h.settle()
	return err
}

// arm makes a call fail that comes soon, now and then.
func (h *history) arm() {
	h.failFor = 0
	if h.faults && h.r.IntN(6) == 0 {
		h.failIn, h.failFor = h.r.IntN(12), 1<<h.r.IntN(3)
	}
}

// settle looks at the crashes during the last call, and at those right after it.
func (h *history) settle() {
	h.failFor = 0
	h.m.mu.Lock()
	h.crash("after " + h.log[len(h.log)-1])
	h.m.mu.Unlock()
	h.checkCrashes()
}

// place makes a checkpoint that no other is equal to.
func (h *history) place() state.Checkpoint {
	h.n++
	size := h.r.IntN(400)
	switch h.r.IntN(12) {
	case 0:
		size = h.r.IntN(9000)
	case 1, 2:
		size = h.r.IntN(3500)
	}
	cp := placeOf(h.t, h.n, size)
	if h.r.IntN(8) == 0 {
		cp.Extra = map[string]json.RawMessage{"gap": json.RawMessage(fmt.Sprintf(`{"n":%d}`, h.n))}
	}
	switch h.r.IntN(10) {
	case 0:
		cp.Sequence = 0
	case 1:
		cp.Sequence = uint64(1 + h.r.IntN(h.n)) // late, most likely
	}
	return cp
}

// fence is mostly the last fence of a key, sometimes one of before.
func (h *history) fence(k *simKey) state.Fence {
	switch n := len(k.fences); {
	case n == 0:
		return state.Fence{Epoch: 1, Nonce: "nobody's"}
	case h.r.IntN(10) == 0:
		return k.fences[h.r.IntN(n)]
	default:
		return k.fences[n-1]
	}
}

var ctx = context.Background()

// step makes one random call.
func (h *history) step() {
	k := h.keys[h.r.IntN(len(h.keys))]
	f := h.fence(k)
	n := h.r.IntN(100)
	if h.many && h.r.IntN(3) == 0 {
		n = 99
	}
	switch {
	case n < 45 && k.leased == (n < 40):
		cp := h.place()
		h.saves++
		h.do(k, fmt.Sprintf("SaveFenced %d under %v", h.n, f), saving(f, cp), func(s *Store) error { return s.SaveFenced(ctx, k.name, f, cp) })
	case n < 45:
		cp := h.place()
		h.saves++
		h.do(k, fmt.Sprintf("Save %d", h.n), saving(state.Fence{}, cp), func(s *Store) error { return s.Save(ctx, k.name, cp) })
	case n < 57 && (k.leased || n == 45):
		h.acquire(k)
	case n < 60:
		h.do(k, "Renew", renewing(f), func(s *Store) error { return s.Renew(ctx, k.name, f, time.Minute) })
	case n < 64:
		h.do(k, "Release", releasing(f), func(s *Store) error { return s.Release(ctx, k.name, f) })
	case n < 67:
		h.do(k, "Clear", clearing(state.Fence{}), func(s *Store) error { return s.Clear(ctx, k.name) })
	case n < 69:
		h.do(k, "ClearFenced", clearing(f), func(s *Store) error { return s.ClearFenced(ctx, k.name, f) })
	case n < 71:
		h.do(k, "Forget", forgetting, func(s *Store) error { return s.Forget(ctx, k.name) })
	case n < 74:
		h.reopen(k.store)
	case n < 78:
		h.load(k)
	case n < 80 && h.faults:
		h.log = append(h.log, "the kernel fails to write back")
		h.m.spoil()
		h.failed++
	case n < 82:
		time.Sleep(2 * checkEvery)
	default:
		h.batch(k.store)
	}
}

func (h *history) acquire(k *simKey) {
	q := state.LeaseRequest{Owner: "o", Nonce: fmt.Sprintf("nonce%d", len(k.fences)), TTL: time.Minute}
	if n := len(k.fences); n > 0 && h.r.IntN(4) == 0 {
		q.Nonce = k.fences[n-1].Nonce
	}
	before := slices.Clone(k.may)
	var g state.Grant
	err := h.do(k, "Acquire "+q.Nonce, acquiring(q), func(s *Store) (err error) {
		g, err = s.Acquire(ctx, k.name, q)
		return err
	})
	if err != nil {
		return
	}
	if !slices.ContainsFunc(before, func(r state.Record) bool {
		_, want, err := admitAcquire(r, q)
		return err == nil && want.Fence == g.Fence && want.Checkpoint.Equal(g.Checkpoint) && want.LastSequence == g.LastSequence && want.Err == g.Err
	}) {
		h.fail("granted %+v, of %s", g, briefs(before))
	}
	k.may = slices.DeleteFunc(k.may, func(r state.Record) bool {
		cp, _ := r.Load()
		return r.Fence() != g.Fence || !cp.Equal(g.Checkpoint) || r.LastSequence != g.LastSequence
	})
	k.fences = append(k.fences, g.Fence)
}

func (h *history) load(k *simKey) {
	h.arm()
	cp, err := h.stores[k.store].Load(ctx, k.name)
	h.failFor = 0
	if errors.Is(err, state.ErrUnavailable) && h.failed > 0 {
		return
	}
	if !slices.ContainsFunc(k.may, func(r state.Record) bool {
		want, wantErr := r.Load()
		return errors.Is(err, wantErr) && cp.Equal(want)
	}) {
		h.fail("Load of %.9q says %d (%v), of %s", k.name, cp.Sequence, err, briefs(k.may))
	}
}

func (h *history) reopen(i int) {
	h.log = append(h.log, fmt.Sprintf("%d: store %d is closed and opened", len(h.calls)+1, i))
	h.arm()
	if err := h.stores[i].Close(); err != nil && h.failed == 0 {
		h.fail("close: %v", err)
	}
	h.failFor = 0
	h.open(i)
	h.settle()
}

func (h *history) batch(store int) {
	var items []state.Item
	var keys []*simKey
	for _, k := range h.keys {
		if k.store != store || h.r.IntN(16) == 0 {
			continue
		}
		it := state.Item{Key: k.name, Checkpoint: h.place()}
		if k.leased {
			it.Fence = h.fence(k)
		}
		h.saves++
		h.begin(k, saving(it.Fence, it.Checkpoint))
		items, keys = append(items, it), append(keys, k)
	}
	h.log = append(h.log, fmt.Sprintf("%d: SaveBatch of %d up to %d", len(h.calls)+1, len(items), h.n))
	h.arm()
	errs := state.SaveBatch(ctx, h.stores[store], items)
	for i, k := range keys {
		h.end(k, saving(items[i].Fence, items[i].Checkpoint), errs[i])
		h.log = append(h.log, fmt.Sprintf("   %.9q → %v, %s", k.name, errs[i], briefs(k.may)))
	}
	h.settle()
}

// die ends a life, and begins the next one at a moment of it.
func (h *history) die() {
	if h.failed > 0 {
		for _, k := range h.keys {
			h.heal(k)
		}
	}
	h.shutDown()
	at := h.next
	h.life++
	h.log = append(h.log, at.what)
	killed := strings.HasPrefix(at.what, "killed")
	for i, k := range h.keys {
		k.may, k.next = distinct(append(slices.Clone(at.may[2*i]), at.may[2*i+1]...)), nil
	}
	found := h.check(moment{at.m.kill(h.r), at.may, "as in " + at.what})
	for i, k := range h.keys {
		if !killed { // what the disk has is all that there is
			k.may = found[i : i+1]
		}
	}
	if !killed {
		h.failed = 0 // else the kernel may yet tell of what failed before
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

// heal wants the second call to succeed, whatever has failed before, once the disk is
// well.
func (h *history) heal(k *simKey) {
	faults := h.faults
	h.faults = false
	defer func() { h.faults = faults }()
	var err error
	for range 2 {
		cp := h.place()
		f := state.Fence{}
		if n := len(k.fences); n > 0 && k.leased {
			f = k.fences[n-1]
		}
		err = h.do(k, fmt.Sprintf("once more, %d", h.n), saving(f, cp), func(s *Store) error {
			if f.IsZero() {
				return s.Save(ctx, k.name, cp)
			}
			return s.SaveFenced(ctx, k.name, f, cp)
		})
		if !errors.Is(err, state.ErrUnavailable) {
			return
		}
	}
	h.fail("nothing fails any more, and still: %v", err)
}

// live is a whole history.
func (h *history) live(lives, steps int) {
	for range lives {
		for range steps {
			h.step()
		}
		h.die()
	}
	h.shutDown()
}

// Random histories, with the power cut at every moment of them.
func TestSimulatedCrashes(t *testing.T) {
	seed, patience := simCampaign(t)
	// With one processor the order of goroutines, and with it the history, is the seed's.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	start, histories, cuts, saves := time.Now(), 0, 0, 0
	for ; time.Since(start) < patience && !t.Failed(); histories++ {
		synctest.Test(t, func(t *testing.T) {
			s := seed + uint64(histories)
			defer func() {
				if t.Failed() {
					t.Logf("to see it again: RIGATONI_CAMPAIGN_SEED=%d", s)
				}
			}()
			h := newHistory(t, s)
			if h.many {
				h.live(1+h.r.IntN(3), 1+h.r.IntN(6))
			} else {
				h.live(1+h.r.IntN(8), 1+h.r.IntN(24))
			}
			cuts += h.cuts
			saves += h.saves
		})
	}
	t.Logf("%d histories, %d saves, %d crashes, %.0f a second", histories, saves, cuts, float64(cuts)/time.Since(start).Seconds())
}
