package filestore

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The floor is what the disk takes for one page, written in place and flushed. Both are
// measured in turn in the same run, because a disk is not as fast now as a minute ago.
//
//	go test -bench Save -benchtime 5000x ./stores/filestore

// BenchmarkSave reports a save beside its floor: ratio is the median of one over that
// of the other.
func BenchmarkSave(b *testing.B) {
	b.Run("leased", func(b *testing.B) {
		s := benchStore(b)
		g, err := s.Acquire(b.Context(), "k", request("bench"))
		must(b, err)
		n := 0
		cp := place(b, 1)
		besideFloor(b, s.dir, func() error {
			n++
			cp.Sequence = uint64(n)
			return s.SaveFenced(b.Context(), "k", g.Fence, cp)
		})
	})
	b.Run("unleased", func(b *testing.B) {
		s := benchStore(b)
		cp := plain(b, 1)
		besideFloor(b, s.dir, func() error { return s.Save(b.Context(), "k", cp) })
	})
	b.Run("floor", func(b *testing.B) {
		floor := newFloor(b, b.TempDir())
		for b.Loop() {
			must(b, floor())
		}
	})
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "state"), nil)
	must(b, err)
	b.Cleanup(func() { must(b, s.Close()) })
	return s
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

// besideFloor does a floor write beside every save, each of them first in turn, and
// reports both: what a round takes says nothing.
func besideFloor(b *testing.B, dir string, save func() error) {
	floor := newFloor(b, dir)
	var floors, saves []time.Duration
	timed := func(times *[]time.Duration, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		*times = append(*times, time.Since(began))
	}
	must(b, save()) // makes the file
	for n := 0; b.Loop(); n++ {
		if n%2 == 0 {
			timed(&floors, floor)
			timed(&saves, save)
		} else {
			timed(&saves, save)
			timed(&floors, floor)
		}
	}
	slices.Sort(floors)
	slices.Sort(saves)
	half, tail := len(saves)/2, len(saves)*99/100
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(saves[half])/1e3, "p50-µs")
	b.ReportMetric(float64(saves[tail])/1e3, "p99-µs")
	b.ReportMetric(float64(floors[half])/1e3, "floor-p50-µs")
	b.ReportMetric(float64(floors[tail])/1e3, "floor-p99-µs")
	b.ReportMetric(float64(saves[half])/float64(floors[half]), "ratio")
}

func BenchmarkLoad(b *testing.B) {
	for _, size := range []int{0, 100 << 10} {
		b.Run(fmt.Sprintf("token=%d", size+100), func(b *testing.B) {
			s := benchStore(b)
			must(b, s.Save(b.Context(), "k", placeOf(b, 1, size)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Load(b.Context(), "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
