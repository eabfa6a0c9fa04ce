package ndjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A world has one directory, one store with one checkpoint, a consumer that takes
// finished files, and processes that own the stream one after the other. Each
// process can be frozen, killed, or lose its power before any operation on the
// disk; frozen ones go on whenever it is worst.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	disk *disk
	o    Options
	dir  string
	bin  string // where the consumer moves files

	saved   json.RawMessage // the checkpoint
	covered int             // events that it covers
	any     bool            // there is a checkpoint
	owner   *life           // has the lease
	epochs  uint64          // the next epoch; it goes back where the store is restored
	restore bool            // it is, now and then
	replace bool            // the owner is frozen between Sync and the save
	clean   bool            // the stream was stopped at its end

	lives    []*life
	eager    bool // the consumer takes a file as soon as it has its name
	faults   int  // one of this many operations fails; 0: none
	trace    []string
	problems []string
}

const worldEvents = 40

func newWorld(t *testing.T, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	root := tempDir(t)
	w := &world{t: t, rng: rng, dir: filepath.Join(root, "out"), bin: filepath.Join(root, "bin"), eager: rng.IntN(2) == 0}
	grave := filepath.Join(root, "grave")
	for _, dir := range []string{w.bin, grave} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.disk = newDisk(grave)
	w.o = Options{MaxFileBytes: []int64{-1, 1, 2000, 5000}[rng.IntN(4)], MaxFileAge: -1, Logger: quiet}
	w.restore = rng.IntN(2) == 0
	if rng.IntN(2) == 0 {
		w.faults = 30
		w.disk.fault = w.maybe
	}
	return w
}

func (w *world) maybe(_, _ string, size int) (int, error) {
	if w.rng.IntN(w.faults) != 0 {
		return 0, nil
	}
	return w.rng.IntN(size + 1), syscall.EIO
}

func (w *world) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
	w.trace = append(w.trace, "PROBLEM")
}

// A life is a process that believes that it owns the stream.
type life struct {
	w      *world
	p      *process
	files  *Files
	fence  state.Fence
	paused chan bool // true: before an operation; false: it has ended
	resume chan struct{}
	ended  bool
}

// begin starts the next owner. The one before is fenced from here on.
func (w *world) begin() *life {
	if w.epochs++; w.restore && w.rng.IntN(3) == 0 {
		w.epochs = 1 + w.rng.Uint64N(w.epochs)
	}
	l := &life{w: w, p: &process{disk: w.disk}, fence: state.Fence{Epoch: w.epochs, Nonce: fmt.Sprint(len(w.lives))}, paused: make(chan bool), resume: make(chan struct{})}
	files, err := Open(w.dir, &w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	files.fs = l.p
	l.files, w.owner = files, l
	l.p.before = func(op, path string) {
		l.pause()
		w.trace = append(w.trace, fmt.Sprintf("%v: %s %s", l, op, filepath.Base(path)))
	}
	l.p.after = w.consume
	w.lives = append(w.lives, l)
	go func() {
		<-l.resume
		l.live()
		l.ended = true
		l.paused <- false
	}()
	return l
}

func (l *life) isOwner() bool { return l.w.owner == l }

func (l *life) String() string { return l.fence.Nonce + "/" + fmt.Sprint(l.fence.Epoch) }

// pause lets the others go on.
func (l *life) pause() {
	if !l.p.dead {
		l.paused <- true
		<-l.resume
	}
}

// run lets a life do one operation.
func (l *life) run() {
	if !l.ended {
		l.resume <- struct{}{}
		<-l.paused
	}
}

// kill ends the process where it stands.
func (l *life) kill() {
	if l.ended {
		return
	}
	l.p.kill()
	l.run() // every operation fails now, so that it comes to its end
}

// live is what a pipeline does: sessions, one after the other, until the stream is
// at its end, or the process dies or is fenced.
func (l *life) live() {
	for !l.p.dead && l.isOwner() {
		if l.session() {
			return
		}
	}
}

// session reports whether the life is over.
func (l *life) session() (over bool) {
	w := l.w
	o := rigatoni.Opening{Key: "shop", Fence: l.fence, FirstStart: !w.any, Saved: w.saved}
	delivered := w.covered
	l.pause() // between loading the checkpoint and opening
	opened, err := l.files.Open(w.t.Context(), o)
	if err != nil {
		var refused *rigatoni.OutputError
		if errors.As(err, &refused) {
			if l.isOwner() {
				w.problem("%v, the owner, is refused: %v", l, err)
			}
			return true
		}
		if !errors.Is(err, syscall.EIO) && !errors.Is(err, errDead) && l.isOwner() {
			w.problem("opening: %v", err)
			return true
		}
		return false // again
	}
	s := opened.(*sink)
	w.trace = append(w.trace, fmt.Sprintf("%v: opened as %d", l, s.owned.generation))
	if !w.any { // the pipeline saves where it begins
		l.pause()
		if l.p.dead || !l.isOwner() {
			_ = s.Close()
			return true
		}
		w.any = true
	}
	for {
		switch n := w.rng.IntN(20); {
		case l.p.dead:
			return true
		case n == 2 && l.isOwner():
			w.removeUncovered(s)
		case n == 0: // something else goes wrong, and the stream goes back
			_ = s.Close()
			return false
		case n < 8 || delivered == worldEvents:
			if !l.save(s, delivered) {
				_ = s.Close()
				return !l.isOwner()
			}
			if delivered == worldEvents {
				err := s.Close()
				if err != nil {
					return false
				}
				w.clean = w.clean || l.isOwner() && !l.p.dead
				return true
			}
		default:
			delivered = l.deliver(s, delivered, min(worldEvents, delivered+1+w.rng.IntN(6)))
		}
	}
}

// removeUncovered removes unfinished files that the checkpoint covers nothing of. (What
// it covers is restored from the open file, unless the process dies before that: then it
// is missing.)
func (w *world) removeUncovered(s *sink) {
	open, _ := filepath.Glob(filepath.Join(w.dir, "*"))
	covered, _ := parseSaved(w.saved, s.stem)
	for _, path := range open {
		n, finished, ok := parseName(filepath.Base(path))
		if !ok || finished || slices.ContainsFunc(covered, func(e extent) bool { return e.name == n }) {
			continue
		}
		if w.rng.IntN(2) == 0 {
			w.trace = append(w.trace, "removed "+filepath.Base(path))
			_ = w.disk.remove(path) // a fault, perhaps
		}
	}
}

func (l *life) save(s *sink, delivered int) bool {
	doc, err := s.Sync(l.w.t.Context())
	if err != nil {
		return false
	}
	l.w.replace = l.isOwner() && l.w.rng.IntN(10) == 0
	l.pause()
	if l.p.dead || !l.isOwner() {
		return false // fenced
	}
	l.w.saved, l.w.covered = doc, delivered
	l.w.trace = append(l.w.trace, fmt.Sprintf("%v: saved %s", l, doc))
	l.pause()
	return s.Committed(l.w.t.Context(), doc) == nil
}

// deliver delivers events, with a few attempts.
func (l *life) deliver(s *sink, from, last int) int {
	for range 5 {
		err := s.Deliver(l.w.t.Context(), batch(l.w.t, from+1, last, 100))
		if err == nil {
			return last
		}
		var p *rigatoni.PartialError
		if errors.As(err, &p) {
			from += p.Delivered
		}
	}
	return from
}

// consume is called after each operation.
func (w *world) consume() {
	if w.eager {
		w.take()
	}
}

// take moves the finished files away.
func (w *world) take() {
	fault := w.disk.fault
	w.disk.fault = nil
	defer func() { w.disk.fault = fault }()
	entries, _ := filepath.Glob(filepath.Join(w.dir, "*.ndjson"))
	for _, path := range entries {
		if err := w.disk.rename(path, filepath.Join(w.bin, filepath.Base(path))); err != nil {
			w.t.Error(err)
		}
	}
}

// check reads what consumers have seen.
func (w *world) check(when string) {
	var paths []string
	for _, dir := range []string{w.bin, w.dir} {
		found, _ := filepath.Glob(filepath.Join(dir, "*.ndjson"))
		paths = append(paths, found...)
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	next := 1
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var ev struct{ FullDocument struct{ N int } }
			if err := json.Unmarshal([]byte(line), &ev); err != nil || !strings.HasSuffix(line, "\n") {
				w.problem("%s: %s has a broken line %q: %v", when, filepath.Base(path), line, err)
				return
			}
			if ev.FullDocument.N != next {
				w.problem("%s: %s has event %d where event %d is next", when, filepath.Base(path), ev.FullDocument.N, next)
				return
			}
			next++
		}
	}
	if next-1 > w.covered {
		w.problem("%s: %d events are finished, and the checkpoint covers %d", when, next-1, w.covered)
	}
	if w.clean && next-1 < worldEvents {
		w.problem("%s: after a clean stop, event %d is in no finished file", when, next)
	}
}

// run is the scheduler.
func (w *world) run() {
	owner := w.begin()
	for step := 0; !w.clean && len(w.problems) == 0; step++ {
		switch n := w.rng.IntN(400); {
		case step > 20_000:
			w.problem("no end after %d steps", step)
		case n == 0: // power cut
			for _, l := range w.lives {
				l.kill()
			}
			w.trace = append(w.trace, "power cut")
			w.disk.cutPower(w.t, w.rng)
			if w.faults > 0 {
				w.disk.fault = w.maybe
			}
			w.check("after a power cut")
			owner = w.begin()
		case w.replace && !owner.ended:
			frozen := owner
			w.replace, owner = false, w.begin()
			for range w.rng.IntN(10) { // it thaws before the new one begins
				frozen.run()
			}
		case n < 5 || owner.ended:
			owner.kill()
			w.trace = append(w.trace, "kill")
			w.check("after a kill")
			owner = w.begin()
		case n < 8:
			owner = w.begin() // the one before is frozen
		case n < 40:
			l := w.lives[w.rng.IntN(len(w.lives))]
			for range 1 + w.rng.IntN(15) {
				l.run()
			}
		default:
			owner.run()
		}
		if w.rng.IntN(50) == 0 {
			w.take()
		}
	}
	for _, l := range w.lives { // the frozen ones thaw
		for step := 0; !l.ended && len(w.problems) == 0; step++ {
			l.run()
		}
	}
	w.check("at the end")
	for _, l := range w.lives {
		l.kill()
	}
}

// TestExactlyOnce: whatever becomes of the processes, a consumer of finished files
// sees each event once, in order, and after a clean stop all of them.
func TestExactlyOnce(t *testing.T) {
	runs := 200
	if campaign.Full(t) {
		runs = 10_000
	}
	seed := campaign.Seed(t)
	for i := range runs {
		w := newWorld(t, seed+uint64(i))
		w.run()
		for _, p := range w.problems {
			t.Errorf("seed %d: %s\nlast operations, by epoch:\n%s", seed+uint64(i), p, strings.Join(w.trace[max(0, len(w.trace)-800):], "\n"))
		}
		if t.Failed() {
			return
		}
	}
}
