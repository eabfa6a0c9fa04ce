package filestore

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A life is a process that saves, clears, acquires and releases many keys at random,
// until it is killed. Before every call it says what it is about to do, and after it
// how it went:
//
//	begin KEY OPERATION NUMBER SIZE
//	done KEY EPOCH
//	failed KEY ERROR
//
// A ledger, in the process that kills it, follows what the keys must hold by then.
type life struct {
	Seed   uint64
	Prefix string // of its keys
	First  int    // the number of its first checkpoint, above all before
	Tokens int    // none is longer than this; 0: any
}

// lifeVar has a life, in JSON.
const lifeVar = "FILESTORE_TEST_LIFE"

func lifeOfChild(s *Store, out io.Writer) error {
	l := living{s: s, out: out, ctx: context.Background()}
	if err := json.Unmarshal([]byte(os.Getenv(lifeVar)), &l.life); err != nil {
		return fmt.Errorf("%s: %w", lifeVar, err)
	}
	l.number.Store(int64(l.life.First))
	var wg sync.WaitGroup
	for i, work := range []func(*worker){(*worker).leased, (*worker).leased, (*worker).plain, (*worker).ordered, (*worker).batch} {
		w := &worker{living: &l, r: rand.New(rand.NewPCG(l.life.Seed, uint64(i))), id: i, fences: map[string]state.Fence{}}
		wg.Go(func() {
			for w.failures < maxFailures {
				work(w)
			}
		})
	}
	wg.Wait() // the file system is gone; whoever killed it will kill this process too
	return nil
}

// maxFailures is how often in a row a worker fails before it gives up.
const maxFailures = 20

type living struct {
	life   life
	s      *Store
	ctx    context.Context
	out    io.Writer
	number atomic.Int64
}

// A worker calls the store for its own keys, one call at a time.
type worker struct {
	living   *living
	id       int
	r        *rand.Rand
	fences   map[string]state.Fence
	failures int // in a row
}

func (w *worker) key(kind string, of int) string {
	return fmt.Sprintf("%s%s/%d.%d", w.living.life.Prefix, kind, w.id, w.r.IntN(of))
}

// A call is one of a worker's, to one key.
type call struct {
	key, op string
	n, size int
}

func (c call) String() string { return fmt.Sprintf("begin %s %s %d %d\n", c.key, c.op, c.n, c.size) }

// checkpoint is what the call saves. The same call gives the same checkpoint, here and
// where it is looked for.
func (c call) checkpoint(t testing.TB) state.Checkpoint {
	if strings.HasPrefix(c.op, "plain") {
		cp := plain(t, c.n)
		cp.Token = numberedOf(t, c.n, c.size).Token
		return cp
	}
	return numberedOf(t, c.n, c.size)
}

// next draws a new checkpoint for a call: most take a few sectors, some are larger than a
// slot, and a few take many pages.
func (w *worker) next(key, op string) call {
	size := w.r.IntN(1000)
	switch n := w.r.IntN(100); {
	case n < 1:
		size = w.r.IntN(200_000)
	case n < 10:
		size = w.r.IntN(16_000)
	case n < 25:
		size = w.r.IntN(4000)
	}
	if w.living.life.Tokens > 0 {
		size = min(size, w.living.life.Tokens)
	}
	return call{key, op, int(w.living.number.Add(1)), size}
}

// do makes a call, and says so before and after.
func (w *worker) do(c call, call func() error) bool {
	w.say(c.String())
	err := call()
	w.say(w.outcome(c.key, err))
	return w.count(err)
}

func (w *worker) say(text string) {
	if _, err := io.WriteString(w.living.out, text); err != nil {
		os.Exit(1) // whoever listens is dead
	}
}

func (w *worker) outcome(key string, err error) string {
	if err != nil {
		return fmt.Sprintf("failed %s %s\n", key, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return fmt.Sprintf("done %s %d\n", key, w.fences[key].Epoch)
}

func (w *worker) count(err error) bool {
	if err != nil {
		w.failures++
		return false
	}
	w.failures = 0
	return true
}

// unleased does one of the calls that need no lease.
func (w *worker) unleased(key, save string) {
	switch n := w.r.IntN(100); {
	case n < 90:
		w.save(w.next(key, save))
	case n < 98:
		w.do(call{key: key, op: "clear"}, func() error { return w.living.s.Clear(w.living.ctx, key) })
	default:
		w.do(call{key: key, op: "forget"}, func() error { return w.living.s.Forget(w.living.ctx, key) })
	}
}

func (w *worker) save(c call) {
	w.do(c, func() error { return w.living.s.Save(w.living.ctx, c.key, c.checkpoint(new(testing.T))) })
}

func (w *worker) plain()   { w.unleased(w.key("plain", 3), "plain-save") }
func (w *worker) ordered() { w.unleased(w.key("ordered", 3), "save") }

// leased saves under a lease, and now and then sets the checkpoint of a key by hand that
// has had a lease.
func (w *worker) leased() {
	key := w.key("leased", 3)
	fence := w.fences[key]
	switch n := w.r.IntN(100); {
	case fence.IsZero() && n < 15:
		w.unleased(key, "save")
	case fence.IsZero():
		w.acquire(key)
	case n < 86:
		c := w.next(key, "save-fenced")
		w.do(c, func() error { return w.living.s.SaveFenced(w.living.ctx, key, fence, c.checkpoint(new(testing.T))) })
	case n < 90:
		w.do(call{key: key, op: "clear-fenced"}, func() error { return w.living.s.ClearFenced(w.living.ctx, key, fence) })
	case n < 94:
		w.do(call{key: key, op: "renew"}, func() error { return w.living.s.Renew(w.living.ctx, key, fence, time.Minute) })
	default:
		delete(w.fences, key)
		w.do(call{key: key, op: "release"}, func() error { return w.living.s.Release(w.living.ctx, key, fence) })
	}
}

func (w *worker) acquire(key string) {
	w.do(call{key: key, op: "acquire"}, func() error {
		g, err := w.living.s.Acquire(w.living.ctx, key, request("a life"))
		if err == nil {
			w.fences[key] = g.Fence
		}
		return err
	})
}

const batchKeys = 80

// batch saves many keys in one call, of which one in four has a lease.
func (w *worker) batch() {
	var begun strings.Builder
	var items []state.Item
	for i := range batchKeys {
		key := fmt.Sprintf("%sbatch/%d", w.living.life.Prefix, i)
		if i%4 == 0 && w.fences[key].IsZero() {
			if w.acquire(key); w.fences[key].IsZero() {
				return
			}
		}
		if w.r.IntN(3) == 0 {
			continue
		}
		c := w.next(key, "save")
		if i%4 == 0 {
			c.op = "save-fenced"
		}
		begun.WriteString(c.String())
		items = append(items, state.Item{Key: key, Fence: w.fences[key], Checkpoint: c.checkpoint(new(testing.T))})
	}
	w.say(begun.String())
	var ended strings.Builder
	for i, err := range state.SaveBatch(w.living.ctx, w.living.s, items) {
		ended.WriteString(w.outcome(items[i].Key, err))
		w.count(err)
	}
	w.say(ended.String())
}

// openQuietly opens a store whose warnings nobody reads: the ledger looks for damage
// itself.
func openQuietly(dir string) (*Store, error) {
	return Open(dir, &Options{Logger: slog.New(slog.DiscardHandler)})
}
