package filestore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// The floor is what the disk takes for a page, written in place and flushed, or for
// many pages, written in place and flushed with one syncfs. Both are measured in turn
// in the same run, because a disk is not as fast now as a minute ago. Run them one at a
// time, with as many rounds as a median needs:
//
//	go test -run xxx -bench 'Save$' -benchtime 5000x ./stores/filestore

// BenchmarkSave is one stream that is saved again and again.
func BenchmarkSave(b *testing.B) {
	b.Run("leased", func(b *testing.B) {
		s := benchStore(b)
		save := leasedSave(b, s, "k")
		besideFloor(b, newFloor(b, s.dir), save)
	})
	b.Run("unleased", func(b *testing.B) {
		s := benchStore(b)
		cp := plain(b, 1)
		must(b, s.Save(b.Context(), "k", cp)) // makes the file
		besideFloor(b, newFloor(b, s.dir), func() error { return s.Save(b.Context(), "k", cp) })
	})
}

// BenchmarkStreams is one save in a store of many leased streams, another one each time.
func BenchmarkStreams(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			s, items := benchStreams(b, n, true)
			r := rand.New(rand.NewPCG(1, 2))
			besideFloor(b, newFloor(b, s.dir), func() error {
				it := &items[r.IntN(n)]
				it.Checkpoint.Sequence++
				return s.SaveFenced(b.Context(), it.Key, it.Fence, it.Checkpoint)
			})
		})
	}
}

// BenchmarkBatch is many streams that are saved at once, beside as many writes and one
// syncfs.
func BenchmarkBatch(b *testing.B) {
	for _, leased := range []bool{true, false} {
		for _, n := range []int{1, 10, 100, 1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("leased=%t/streams=%d", leased, n), func(b *testing.B) {
				s, items := benchStreams(b, n, leased)
				besideFloor(b, batchFloor(b, s, n), func() error {
					for i := range items {
						if leased {
							items[i].Checkpoint.Sequence++
						}
					}
					for _, err := range s.SaveBatch(b.Context(), items) {
						if err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
	}
}

// BenchmarkConcurrent is many goroutines, each with a stream of its own, beside as many
// that write and flush a page each. The times are of one save among the others.
func BenchmarkConcurrent(b *testing.B) {
	for _, n := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			s := benchStore(b)
			saves, floors := make([]func() error, n), make([]func() error, n)
			for i := range n {
				saves[i] = leasedSave(b, s, fmt.Sprintf("k%d", i))
				floors[i] = newFloor(b, b.TempDir())
			}
			var ours, floor times
			var took, floorTook time.Duration
			for b.Loop() {
				floorTook += floor.all(b, floors)
				took += ours.all(b, saves)
			}
			report(b, &ours, &floor)
			b.ReportMetric(float64(len(ours.d))/took.Seconds(), "saves/s")
			b.ReportMetric(float64(len(floor.d))/floorTook.Seconds(), "floor-saves/s")
			b.ReportMetric(took.Seconds()/floorTook.Seconds(), "ratio")
		})
	}
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "state"), nil)
	must(b, err)
	b.Cleanup(func() { must(b, s.Close()) })
	return s
}

func leasedSave(b *testing.B, s *Store, key string) func() error {
	b.Helper()
	g, err := s.Acquire(b.Context(), key, request("bench"))
	must(b, err)
	cp := numbered(b, 1)
	return func() error {
		cp.Sequence++
		return s.SaveFenced(b.Context(), key, g.Fence, cp)
	}
}

// benchStreams is a store of n streams.
func benchStreams(b *testing.B, n int, leased bool) (*Store, []state.Item) {
	b.Helper()
	if n > 10_000 && testing.Short() {
		b.Skip("takes a minute to set up")
	}
	s := benchStore(b)
	items := make([]state.Item, n)
	for i := range items {
		items[i] = state.Item{Key: fmt.Sprintf("stream-%06d", i), Checkpoint: plain(b, 1)}
	}
	for _, err := range s.SaveBatch(b.Context(), items) {
		must(b, err)
	}
	if leased {
		inParallel(256, n, func(i int) {
			g, err := s.Acquire(b.Context(), items[i].Key, request("bench"))
			must(b, err)
			items[i].Fence, items[i].Checkpoint = g.Fence, numbered(b, 1)
		})
	}
	return s, items
}

// newFloor is a bare write and flush of one page of a file of two.
func newFloor(b *testing.B, dir string) func() error {
	b.Helper()
	f, err := openFile(filepath.Join(dir, "floor"), os.O_RDWR|os.O_CREATE)
	must(b, err)
	b.Cleanup(func() { must(b, f.Close()) })
	page := make([]byte, slotUnit)
	for i := range int64(2) {
		_, err = f.WriteAt(page, i*slotUnit)
		must(b, err)
	}
	must(b, f.Sync())
	n := 0
	return func() error {
		n++
		page[0] = byte(n)
		if _, err := f.WriteAt(page, int64(n%2)*slotUnit); err != nil {
			return err
		}
		return f.Datasync()
	}
}

// batchFloor is a bare write to each of n files and one syncfs. Of many files it opens
// each when it is its turn, because a process may not have them all open.
func batchFloor(b *testing.B, s *Store, n int) func() error {
	b.Helper()
	if s.flusher.syncer == nil {
		b.Skip("the file system of the temporary directory isn't one whose syncfs is used")
	}
	dir, page := b.TempDir(), make([]byte, slotUnit)
	files := make([]file, n)
	open := func(i int) file {
		if files[i] != nil {
			return files[i]
		}
		f, err := openFile(fmt.Sprintf("%s/%d", dir, i), os.O_RDWR|os.O_CREATE)
		must(b, err)
		if n <= s.idle.maxOpen {
			files[i] = f
		}
		return f
	}
	write := func(i int, at int64) {
		f := open(i)
		_, err := f.WriteAt(page, at)
		must(b, err)
		if files[i] == nil {
			must(b, f.Close())
		}
	}
	for i := range n {
		write(i, 0)
		write(i, slotUnit)
	}
	must(b, s.flusher.syncer.SyncFS())
	b.Cleanup(func() {
		for _, f := range files {
			if f != nil {
				must(b, f.Close())
			}
		}
	})
	round := int64(0)
	return func() error {
		round++
		for i := range n {
			write(i, round%2*slotUnit)
		}
		return s.flusher.syncer.SyncFS()
	}
}

type times struct {
	mu sync.Mutex
	d  []time.Duration
}

func (t *times) one(b *testing.B, do func() error) {
	began := time.Now()
	if err := do(); err != nil {
		b.Error(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.d = append(t.d, time.Since(began))
}

// all has each do its work a few times, all at once, and says how long all took.
func (t *times) all(b *testing.B, each []func() error) time.Duration {
	const rounds = 20
	began := time.Now()
	var wg sync.WaitGroup
	for _, do := range each {
		wg.Go(func() {
			for range rounds {
				t.one(b, do)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// besideFloor does a floor write beside every save, each of them first in turn, and
// reports both: what a round takes says nothing.
func besideFloor(b *testing.B, floor, save func() error) {
	var ours, floors times
	for n := 0; b.Loop(); n++ {
		if n%2 == 0 {
			floors.one(b, floor)
			ours.one(b, save)
		} else {
			ours.one(b, save)
			floors.one(b, floor)
		}
	}
	report(b, &ours, &floors)
}

func report(b *testing.B, ours, floor *times) {
	slices.Sort(ours.d)
	slices.Sort(floor.d)
	half, tail := len(ours.d)/2, len(ours.d)*99/100
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours.d[half])/1e3, "p50-µs")
	b.ReportMetric(float64(ours.d[tail])/1e3, "p99-µs")
	b.ReportMetric(float64(floor.d[half])/1e3, "floor-p50-µs")
	b.ReportMetric(float64(floor.d[tail])/1e3, "floor-p99-µs")
	b.ReportMetric(float64(ours.d[half])/float64(floor.d[half]), "ratio")
}

func BenchmarkLoad(b *testing.B) {
	for _, size := range []int{0, 100 << 10} {
		b.Run(fmt.Sprintf("token=%d", size+100), func(b *testing.B) {
			s := benchStore(b)
			must(b, s.Save(b.Context(), "k", numberedOf(b, 1, size)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Load(b.Context(), "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
