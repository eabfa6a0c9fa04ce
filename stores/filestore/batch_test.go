package filestore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
)

func batchKey(i int) string { return fmt.Sprintf("k%04d", i) }

// batch is a save of n keys. Those of grants are leased.
func batch(t *testing.T, n, sequence int, grants []state.Grant) []state.Item {
	t.Helper()
	items := make([]state.Item, n)
	for i := range items {
		items[i] = state.Item{Key: batchKey(i), Checkpoint: plain(t, sequence)}
		if i < len(grants) {
			items[i].Fence, items[i].Checkpoint = grants[i].Fence, numberedOf(t, sequence, 0)
		}
	}
	return items
}

func saveAll(t *testing.T, s *Store, items []state.Item) {
	t.Helper()
	for i, err := range s.SaveBatch(t.Context(), items) {
		if err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
	}
}

// count is how often each kind of call was made.
func count(calls []string) map[string]int {
	n := make(map[string]int)
	for _, c := range calls {
		op, _, _ := strings.Cut(c, " ")
		n[op]++
	}
	return n
}

// A batch shares its flushes: one for what is made or grows and one for its names, one
// for what is written in place. Then one file is flushed, for the device.
func TestBatchFlushes(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	const n, leased = 4 * manyFiles, 3 * manyFiles
	var grants []state.Grant
	for _, step := range []struct {
		what string
		do   func()
		want map[string]int
	}{
		{"files are made", func() { saveAll(t, s, batch(t, n, 1, nil)) },
			map[string]int{"syncfs": 1, "fdatasync": 1, "fsync": 1, "rename": n}},
		{"in place", func() { saveAll(t, s, batch(t, n, 2, nil)) },
			map[string]int{"syncfs": 1, "fdatasync": 1, "fsync": 0, "rename": 0}},
		{"leases", func() {
			for i := range leased {
				grants = append(grants, acquire(t, s, batchKey(i), "first"))
			}
		}, map[string]int{"syncfs": 0, "fsync": 2 * leased, "rename": leased}},
		{"both kinds, in place", func() { saveAll(t, s, batch(t, n, 3, grants)) },
			map[string]int{"syncfs": 1, "fdatasync": 1, "fsync": 0, "rename": 0}},
		{"some grow", func() {
			items := batch(t, n, 4, grants)
			for i := range manyFiles {
				items[i*2].Checkpoint = numberedOf(t, 4, 9000)
			}
			saveAll(t, s, items)
		}, map[string]int{"syncfs": 1, "fdatasync": 1, "fsync": 1, "rename": manyFiles}},
		{"few are flushed each by itself", func() { saveAll(t, s, batch(t, 3, 5, grants)) },
			map[string]int{"syncfs": 0, "fdatasync": 3, "fsync": 0, "rename": 0}},
	} {
		sys.arm(0, nil, false)
		step.do()
		got := count(sys.trace())
		for op, want := range step.want {
			if got[op] != want {
				t.Errorf("%s: %d calls of %s, want %d", step.what, got[op], op, want)
			}
		}
		// What is renamed is flushed before, and its name after.
		calls := sys.trace()
		last := func(op string) int {
			at := -1
			for i, c := range calls {
				if strings.HasPrefix(c, op+" ") {
					at = i
				}
			}
			return at
		}
		first := slices.IndexFunc(calls, func(c string) bool { return strings.HasPrefix(c, "rename ") })
		if got["syncfs"] > 0 && first >= 0 && (last("syncfs") > first || last("fdatasync") > first || last("fsync") < last("rename")) {
			t.Errorf("%s: the flushes are in the wrong order: %q", step.what, calls[first-3:])
		}
	}
	fresh, _ := openTest(t, s.dir)
	for i := range n {
		want := numbered(t, 4)
		switch {
		case i < 3:
			want = numbered(t, 5)
		case i%2 == 0 && i < 2*manyFiles:
			want = numberedOf(t, 4, 9000)
		}
		wantToken(t, fresh, batchKey(i), want)
	}
}

// With few files open at a time, a batch is as well saved, and closes what it opened.
func TestBatchOfMoreThanMayBeOpen(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	s.idle.maxOpen = manyFiles + 4
	const n, leased = 8 * manyFiles, 3 * manyFiles
	saveAll(t, s, batch(t, n, 1, nil))
	var grants []state.Grant
	for i := range leased {
		grants = append(grants, acquire(t, s, batchKey(i), "first"))
	}
	for round := 2; round < 5; round++ {
		open := s.idle.files
		sys.arm(0, nil, false)
		saveAll(t, s, batch(t, n, round, grants))
		if calls := count(sys.trace()); calls["rename"] > 0 || calls["syncfs"] == 0 {
			t.Errorf("round %d: %d files are replaced, %d flushes of the file system", round, calls["rename"], calls["syncfs"])
		}
		// Those that were open before, and of as many again the locks and what is written.
		if most := open + peak(sys.trace()); most > 3*s.idle.maxOpen+2*processors(n) {
			t.Errorf("round %d: at most %d files are open, and %d may be when nothing is saved", round, most, s.idle.maxOpen)
		}
		if s.idle.files > s.idle.maxOpen {
			t.Errorf("round %d: %d files are open, %d may be", round, s.idle.files, s.idle.maxOpen)
		}
		for i := range n {
			wantToken(t, s, batchKey(i), numbered(t, round))
		}
	}
}

// peak is how many more files were open than before at one moment.
func peak(calls []string) (most int) {
	open := 0
	for _, c := range calls {
		switch op, _, _ := strings.Cut(c, " "); op {
		case "open":
			open++
		case "close":
			open--
		}
		most = max(most, open)
	}
	return most
}

// One item's failure is no other's, and each has its own answer.
func TestBatchAnswers(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	const n = 2 * manyFiles
	g := acquire(t, s, batchKey(0), "first")
	must(t, s.SaveFenced(t.Context(), batchKey(0), g.Fence, numbered(t, 9)))
	acquire(t, other, batchKey(1), "second")
	must(t, s.Save(t.Context(), batchKey(2), plain(t, 1)))
	must(t, damage(s.path(batchKey(2)), 3))
	items := batch(t, n, 3, nil)
	items[0].Fence, items[0].Checkpoint = g.Fence, numbered(t, 3)
	items[3].Fence = state.Fence{Epoch: 7, Nonce: "of long ago"}
	items[4].Checkpoint = state.Checkpoint{}
	items[6].Key = items[5].Key
	errs := s.SaveBatch(t.Context(), items)
	for i, target := range []error{state.ErrStale, state.ErrLeaseHeld, state.ErrCorrupt, state.ErrFenced, state.ErrInvalid, state.ErrInvalid, state.ErrInvalid} {
		var se *state.Error
		if want(t, errs[i], target); !errors.As(errs[i], &se) || se.Key != items[i].Key || se.Op != "save" {
			t.Errorf("item %d: %#v", i, errs[i])
		}
	}
	for i := 7; i < n; i++ {
		must(t, errs[i])
		wantToken(t, s, batchKey(i), numbered(t, 3))
	}
	wantToken(t, s, batchKey(0), numbered(t, 9))
	must(t, s.Save(t.Context(), batchKey(5), plain(t, 1))) // every key is free again
}

// A flush that fails fails all that shared it, and is not repeated: the files are
// written again.
func TestBatchFlushFails(t *testing.T) {
	for _, op := range []string{"syncfs", "fdatasync", "fsync"} {
		t.Run(op, func(t *testing.T) {
			sys := &faultFS{}
			s, _ := openOn(t, sys, t.TempDir())
			const n = 2 * manyFiles
			items := batch(t, n, 1, nil)
			saveAll(t, s, items)
			inPlace := n
			if op == "fsync" { // that of the directory
				inPlace = 0
				for i := range items {
					items[i].Checkpoint = numberedOf(t, 1, 9000)
				}
			}
			for i := range items {
				items[i].Checkpoint.Sequence = 2
			}
			sys.err, sys.failOp = syscall.EIO, op
			for i, err := range s.SaveBatch(t.Context(), items) {
				want(t, err, state.ErrUnavailable, op)
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("item %d: %v", i, err)
				}
			}
			sys.failOp = ""
			if temps := tempFiles(t, s.dir); len(temps) > 0 {
				t.Errorf("%d temporary files are left", len(temps))
			}
			sys.arm(0, nil, false)
			saveAll(t, s, items)
			if got := count(sys.trace())["rename"]; got < inPlace {
				t.Errorf("after %s failed, %d of %d files are replaced", op, got, n)
			}
			for i := range n {
				wantToken(t, s, batchKey(i), items[i].Checkpoint)
			}
		})
	}
}

// Batches with the same keys, in any order, don't wait for each other in a circle; nor
// do they for single saves.
func TestBatchesDontWaitInACircle(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	other, _ := openTest(t, s.dir)
	const n, rounds = 2 * manyFiles, 10
	inParallel(4, 4, func(worker int) {
		items := batch(t, n, worker+1, nil)
		if worker%2 == 1 {
			slices.Reverse(items)
		}
		on := []*Store{s, s, other, other}[worker]
		for range rounds {
			for _, err := range on.SaveBatch(t.Context(), items) {
				if err != nil {
					t.Error(err)
				}
			}
			if err := on.Save(t.Context(), batchKey(worker), plain(t, 1)); err != nil {
				t.Error(err)
			}
		}
	})
}

// When too many files are open, those that nobody uses are closed.
func TestTooManyOpenFiles(t *testing.T) {
	sys := &faultFS{}
	s, _ := openOn(t, sys, t.TempDir())
	for i := range 5 {
		must(t, s.Save(t.Context(), batchKey(i), plain(t, 1)))
	}
	sys.arm(1, syscall.EMFILE, false)
	must(t, s.Save(t.Context(), "new", plain(t, 1)))
	if len(sys.hits) == 0 || s.idle.open.Len() != 1 {
		t.Errorf("%q failed, %d keys have files open", sys.hits, s.idle.open.Len())
	}
	sys.arm(1, syscall.EMFILE, true)
	want(t, s.Save(t.Context(), "newer", plain(t, 1)), state.ErrUnavailable, filepath.Join(s.dir, "newer.lock"), "ulimit -n")
	sys.disarm()
	must(t, s.Save(t.Context(), "newer", plain(t, 1)))
}
