package ndjson

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A taker is a consumer that takes finished files away as soon as it can, and knows the
// last name that it has seen.
type taker struct {
	last  string
	lines string
}

func (c *taker) take(t *testing.T, dir string) {
	t.Helper()
	for _, n := range names(t, dir) {
		if !strings.HasSuffix(n, suffix) {
			continue
		}
		if n <= c.last {
			t.Errorf("%s is finished after %s", n, c.last)
		}
		c.last = n
		c.lines += read(t, dir, n)
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamesGrowWhateverTheEpochDoes: a store that was restored, lost or exchanged begins
// with lower epochs, or the same ones, and one without leases has none. Each owner is
// another process.
func TestNamesGrowWhateverTheEpochDoes(t *testing.T) {
	for _, epochs := range [][]int{{7, 1, 2, 3}, {7, 7, 7}, {7, 6, 8, 9, 1}, {7, 0, 0, 7, 1}, {0, 0, 1, 1, 0}, {0, 5, 0, 2}, {12, 3, 2, 1}} {
		dir := tempDir(t)
		var consumer taker
		o := rigatoni.Opening{FirstStart: true}
		for i, epoch := range epochs {
			d := openFiles(t, dir, Options{MaxFileBytes: 1})
			if o.Fence = (state.Fence{}); epoch > 0 {
				o.Fence = state.Fence{Epoch: uint64(epoch), Nonce: fmt.Sprint(i)}
			}
			s := openSink(t, d, o)
			deliver(t, s, batch(t, 3*i+1, 3*i+2, 0))
			o.Saved, o.FirstStart = commit(t, s), false
			consumer.take(t, dir)
			deliver(t, s, batch(t, 3*i+3, 3*i+3, 0))
			o.Saved = commit(t, s)
			deliver(t, s, batch(t, 90, 91, 0)) // is taken back
			closeSink(t, s)
			if i%2 == 0 {
				consumer.take(t, dir)
			}
		}
		closeSink(t, openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(99), Saved: o.Saved}))
		consumer.take(t, dir)
		if consumer.lines != want(t, extjson.Relaxed, batch(t, 1, 3*len(epochs), 0)) {
			t.Errorf("%v: the consumer has %d lines, want %d", epochs, strings.Count(consumer.lines, "\n"), 3*len(epochs))
		}
	}
}

// TestNamesGrowWhenTheCheckpointIsLost, and an operator accepts the output.
func TestNamesGrowWhenTheCheckpointIsLost(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 1})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(7), FirstStart: true})
	deliver(t, s, batch(t, 1, 3, 0))
	commit(t, s)
	closeSink(t, s)
	var consumer taker
	consumer.take(t, dir)
	for epoch := 1; epoch < 4; epoch++ { // it is lost three times
		o := rigatoni.Opening{Key: "shop", Fence: fence(epoch), FirstStart: true}
		d := openFiles(t, dir, Options{MaxFileBytes: 1})
		o.AcceptOutput = refused(t, d, o, rigatoni.ErrOutputExists).Accept
		s := openSink(t, d, o)
		deliver(t, s, batch(t, 1, 3, 0))
		commit(t, s)
		closeSink(t, s)
		consumer.take(t, dir)
	}
	if want := "shop-0000000010-000002.ndjson"; consumer.last < want {
		t.Errorf("the last file is %s, want %s or later", consumer.last, want)
	}
}

// TestNoTwoOwnersHaveOneGeneration, also if they know nothing of one another: the store
// was restored while one of them was frozen.
func TestNoTwoOwnersHaveOneGeneration(t *testing.T) {
	dir := tempDir(t)
	seen := map[uint64]int{}
	for i := range 3 {
		s := openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: state.Fence{Epoch: 7, Nonce: fmt.Sprint(i)}})
		seen[s.owned.generation]++
	}
	if len(seen) != 3 {
		t.Errorf("the generations of 3 owners are %v", seen)
	}
}

// TestAGenerationThatWasAnothers is not claimed again, although its claim was removed: an
// owner that was frozen after it had read the directory doesn't know of it.
func TestAGenerationThatWasAnothers(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	for epoch := 5; epoch < 8; epoch++ {
		closeSink(t, openSink(t, d, rigatoni.Opening{Fence: fence(epoch)}))
	}
	if n, err := d.claim("shop", 6); err != nil || n != 8 {
		t.Errorf("the generation is %d, %v, want 8", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, claimName("shop", 6))); err == nil {
		t.Error("a claim is left behind")
	}
}

// TestAnOwnerKeepsItsGeneration when its stream goes back to the checkpoint.
func TestAnOwnerKeepsItsGeneration(t *testing.T) {
	for _, epoch := range []int{3, 9} { // after 7
		dir := tempDir(t)
		put(t, dir, name(7, 1), text(t, 1, 1))
		d := openFiles(t, dir, Options{})
		o := rigatoni.Opening{Fence: fence(epoch), Saved: savedDoc(name(7, 1), len(text(t, 1, 1)), 1, "")}
		first := openSink(t, d, o)
		deliver(t, first, batch(t, 2, 2, 0))
		closeSink(t, first)
		again := openSink(t, d, o)
		if first.owned.generation != again.owned.generation {
			t.Errorf("epoch %d: the generation is %d, and then %d", epoch, first.owned.generation, again.owned.generation)
		}
		wantNames(t, dir, name(7, 1)) // its own unfinished file is not left behind
	}
}

// TestAnOlderOwnerDoesNotTouchANewerOnes, wherever its epoch is: it was frozen while it
// opened the directory.
func TestAnOlderOwnerDoesNotTouchANewerOnes(t *testing.T) {
	for _, epochs := range [][2]int{{8, 7}, {3, 7}, {3, 2}} { // of the new owner and the old one, after 5
		dir := tempDir(t)
		put(t, dir, name(5, 1), text(t, 1, 1))
		saved := savedDoc(name(5, 1), len(text(t, 1, 1)), 1, "")
		owner := openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: state.Fence{Epoch: uint64(epochs[0]), Nonce: "new"}, Saved: saved})
		deliver(t, owner, batch(t, 2, 2, 0))
		doSync(t, owner)
		frozen := openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: state.Fence{Epoch: uint64(epochs[1]), Nonce: "old"}, Saved: saved})
		deliver(t, frozen, batch(t, 2, 2, 0))
		if _, err := owner.Sync(t.Context()); err != nil {
			if epochs[1] > epochs[0] {
				continue // it can't be known, and nothing is lost: the owner finds it
			}
			t.Errorf("%v: %v", epochs, err)
		}
	}
}

// TestOutputOfTheVersionBefore is read on: markers, and files of several epochs.
func TestOutputOfTheVersionBefore(t *testing.T) {
	dir := tempDir(t)
	one := len(text(t, 1, 1))
	put(t, dir, name(6, 4), text(t, 1, 1))
	put(t, dir, open(7, 1), text(t, 2, 2))
	put(t, dir, open(7, 2), text(t, 3, 4))
	put(t, dir, markerName("shop", 6), fmt.Sprintf(`{"file":%q,"size":%d,"files":9,"at":"2026-11-29T18:00:00Z","clusterTime":{"T":1,"I":2}}`, name(6, 4), one))
	saved := savedDoc(name(7, 2), one, 11, fmt.Sprintf(`[{"number":1,"size":%d}]`, one))
	s := openSink(t, openFiles(t, dir, Options{}), rigatoni.Opening{Fence: fence(8), Saved: saved})
	deliver(t, s, batch(t, 4, 4, 3))
	commit(t, s)
	closeSink(t, s)
	wantNames(t, dir, name(6, 4), name(7, 1), name(7, 2), name(8, 1))
	if readAll(t, dir) != text(t, 1, 4) {
		t.Error("the files aren't what was delivered")
	}
}

// TestTheMillionthFile sorts behind those before it, and is named in checkpoints beside
// them.
func TestTheMillionthFile(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{MaxFileBytes: 1})
	s := openSink(t, d, rigatoni.Opening{Fence: fence(1), FirstStart: true})
	s.number = maxNumber - 1
	deliver(t, s, batch(t, 1, 5, 0))
	saved := doSync(t, s) // killed
	s.closed = true
	got := names(t, dir)
	if !slices.IsSorted(got) || len(got) != 5 {
		t.Errorf("the files are %v", got)
	}
	for i, n := range got {
		if read(t, dir, n) != want(t, extjson.Relaxed, batch(t, i+1, i+1, 0)) {
			t.Errorf("%s is not the %d. file", n, i+1)
		}
	}
	s.cur.file.Close()
	o := rigatoni.Opening{Fence: fence(2), Saved: saved}
	s = openSink(t, openFiles(t, dir, Options{MaxFileBytes: 1}), o)
	deliver(t, s, batch(t, 6, 6, 0))
	commit(t, s)
	closeSink(t, s)
	if got := names(t, dir); !slices.IsSorted(got) || len(got) != 6 || strings.Contains(strings.Join(got, ""), openSuffix) {
		t.Errorf("after a restart, the files are %v", got)
	}
	if readAll(t, dir) != want(t, extjson.Relaxed, batch(t, 1, 6, 0)) {
		t.Error("sorted by name, the events are not in their order")
	}
}
