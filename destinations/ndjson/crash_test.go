package ndjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// mended is what Attach leaves of a file that a crash left so, of which the
// first synced bytes were flushed before the checkpoint.
func mended(t *testing.T, text string, synced int) (got, log string) {
	t.Helper()
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, name(1, 1)), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	a := rigatoni.Opening{Fence: state.Fence{Epoch: 1, Nonce: "n"}}
	if synced >= 0 {
		a.Saved = fmt.Appendf(nil, `{"file":"%s","size":%d}`, name(1, 1), synced)
	}
	s := attach(t, d, a)
	got = read(t, dir, name(1, 1))
	if end := fmt.Sprintf(`{"file":"%s","size":%d}`, name(1, 1), len(got)); string(doSync(t, s)) != end {
		t.Errorf("the new place isn't the end of what was flushed: %s", end)
	}
	return got, out.String()
}

func TestAFileCutAnywhereKeepsItsWholeLines(t *testing.T) {
	lines := strings.SplitAfter(want(t, false, batch(t, 1, 3, 3)), "\n")[:3]
	text, synced := strings.Join(lines, ""), len(lines[0])
	for end := synced; end <= len(text); end++ {
		whole := strings.LastIndexByte(text[:end], '\n') + 1
		for _, from := range []int{synced, 0, -1} {
			if from != synced && end%10 != 0 {
				continue
			}
			got, log := mended(t, text[:end], from)
			if got != text[:whole] {
				t.Fatalf("cut at %d: %d bytes are left, want %d", end, len(got), whole)
			}
			if says := fmt.Sprintf("at=%d bytes=%d", whole, end-whole); end > whole && !strings.Contains(log, says) || end == whole && log != "" || strings.Contains(log, "fullDocument") {
				t.Fatalf("cut at %d, the log says %q, want %q", end, log, says)
			}
		}
	}
}

func TestZerosInTheTail(t *testing.T) {
	lines := strings.SplitAfter(want(t, false, batch(t, 1, 5, 100)), "\n")[:5]
	text := strings.Join(lines, "")
	two := len(lines[0]) + len(lines[1])
	// A block that was never written, anywhere: what is before it stays, and whole
	// lines after it go.
	for at := len(lines[0]); at < len(text); at += 7 {
		for _, n := range []int{1, 64, 600} {
			torn := []byte(text)
			clear(torn[at:min(at+n, len(torn))])
			whole := strings.LastIndexByte(text[:at], '\n') + 1
			if got, _ := mended(t, string(torn), len(lines[0])); got != text[:whole] {
				t.Fatalf("%d zeros at %d: %d bytes are left, want %d", n, at, len(got), whole)
			}
		}
	}
	for what, tail := range map[string]string{
		"zeros alone":            strings.Repeat("\x00", 10000),
		"more zeros than memory": strings.Repeat("\x00", 3<<20),
		"zeros and a line":       strings.Repeat("\x00", 4096) + lines[4],
		"zeros, a line break":    "\x00\x00\n" + lines[4],
		"an empty line":          "\n" + lines[4],
		"a number":               "5\n" + lines[4],
		"two lines in one":       strings.TrimSuffix(lines[3], "\n") + lines[4],
		"the end of a line":      lines[3][50:] + lines[4],
		"a long torn line":       `{"a":"` + strings.Repeat("x", 1<<20),
	} {
		if got, _ := mended(t, text[:two]+tail, two); got != text[:two] {
			t.Errorf("%s: %d bytes are left, want %d", what, len(got), two)
		}
		if got, _ := mended(t, tail, -1); got != "" {
			t.Errorf("%s alone: %d bytes are left", what, len(got))
		}
	}
	long := `{"a":"` + strings.Repeat("x", 1<<20) + "\"}\n"
	if got, _ := mended(t, long+long+lines[0], 0); got != long+long+lines[0] {
		t.Error("long whole lines are cut")
	}
}

func TestOnlyTheTailIsTouched(t *testing.T) {
	dir := tempDir(t)
	line := want(t, false, batch(t, 1, 1, 0))
	const torn = "torn"
	write := func(n, text string) {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := strings.Replace(name(7, 1), "shop", "shop2", 1)
	write(name(5, 9), line+torn)                // before the checkpoint's file
	write(name(6, 1), line+torn)                // so too
	write(name(6, 2), torn+"\n"+line+line+torn) // the checkpoint's, flushed so far
	write(name(6, 3), line+torn)
	write(name(7, 1), torn)
	write(name(9, 1), line+torn) // a later owner's
	write(other, torn)           // another key's
	saved := json.RawMessage(fmt.Sprintf(`{"file":"%s","size":%d}`, name(6, 2), len(torn)+1+len(line)))
	var log bytes.Buffer
	d := openFiles(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 8, Nonce: "n"}, Saved: saved})
	for n, text := range map[string]string{
		name(5, 9): line + torn, name(6, 1): line + torn, name(6, 2): torn + "\n" + line + line,
		name(6, 3): line, name(7, 1): "", name(9, 1): line + torn, other: torn,
	} {
		if got := read(t, dir, n); got != text {
			t.Errorf("%s is %q, want %q", n, got, text)
		}
	}

	// A store that has lost its epochs begins at 1 again: the order of names
	// says little then, and the present epoch's files are looked at too.
	write(name(1, 1), line+torn)
	write(name(6, 3), line+torn)
	write(name(6, 2), torn+"\n"+line+torn)
	attach(t, d, rigatoni.Opening{Fence: state.Fence{Epoch: 2, Nonce: "n"}, Saved: saved})
	for n, text := range map[string]string{name(1, 1): line, name(6, 2): torn + "\n" + line, name(6, 3): line, name(5, 9): line + torn} {
		if got := read(t, dir, n); got != text {
			t.Errorf("epochs lost: %s is %q, want %q", n, got, text)
		}
	}
}

// TestAFileThatIsStillWrittenIsNotCut: without a lease a second owner must not
// cut the line that the first is writing.
func TestAFileThatIsStillWrittenIsNotCut(t *testing.T) {
	dir := tempDir(t)
	d := openFiles(t, dir, Options{})
	first := attach(t, d, rigatoni.Opening{})
	deliver(t, first, batch(t, 1, 1, 0))
	if _, err := first.cur.Write([]byte("half a line")); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir, name(0, 1))
	attach(t, d, rigatoni.Opening{})
	if read(t, dir, name(0, 1)) != before {
		t.Error("it was cut")
	}
	first.Close()
	attach(t, d, rigatoni.Opening{})
	if read(t, dir, name(0, 1)) != want(t, false, batch(t, 1, 1, 0)) {
		t.Error("once it is closed, it is not mended")
	}
}

// TestNothingIsLost runs many lives of a stream: deliveries and checkpoints with
// faults, ended by a kill, a power cut, a rewind, or a clean stop. After each
// start, every line is whole, and every event that a checkpoint covers is there;
// and read in the order of the names, each event once, they are in order.
func TestNothingIsLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		newCampaign(t, rng).run()
		if t.Failed() {
			return
		}
	}
}

type campaign struct {
	t     *testing.T
	rng   *rand.Rand
	d     *Files
	disk  *disk
	epoch uint64

	covered int // events that the checkpoint covers
	saved   json.RawMessage
	first   bool
}

const campaignEvents = 60

func newCampaign(t *testing.T, rng *rand.Rand) *campaign {
	o := Options{MaxFileBytes: []int64{-1, 1, 2000, 10000}[rng.IntN(4)]}
	d := openFiles(t, filepath.Join(tempDir(t), "out"), o)
	return &campaign{t: t, rng: rng, d: d, disk: d.fs.(*disk), first: true}
}

func (c *campaign) run() {
	for c.covered < campaignEvents && !c.t.Failed() {
		c.epoch++
		for again := true; again && !c.t.Failed(); {
			again = c.life()
		}
	}
	c.check("at the end")
}

// maybe fails an operation now and then.
func (c *campaign) maybe(op, _ string, size int) (int, error) {
	odds := map[string]int{"write": 8, "truncate": 4, "sync": 12, "syncDir": 12, "create": 12, "close": 20, "open": 12}[op]
	if c.rng.IntN(odds) != 0 {
		return 0, nil
	}
	return c.rng.IntN(size + 1), syscall.EIO
}

// life attaches and delivers until it ends, and tells whether the same epoch
// goes back to the checkpoint.
func (c *campaign) life() (rewind bool) {
	dest, err := c.d.Open(c.t.Context(), rigatoni.Opening{Key: "shop", Fence: state.Fence{Epoch: c.epoch, Nonce: "n"}, FirstStart: c.first, Saved: c.saved})
	if err != nil {
		if !errors.Is(err, syscall.EIO) {
			c.t.Errorf("attaching: %v", err)
		}
		c.disk.fault = nil // it would be tried again
		return true
	}
	s := dest.(*stream)
	c.first = false // the pipeline saves where it begins
	c.check("after attaching")
	if c.rng.IntN(4) != 0 {
		c.disk.fault = c.maybe
	}
	delivered := c.covered
	for {
		switch n := c.rng.IntN(20); {
		case n == 0:
			s.Close() // killed
			c.disk.fault = nil
			return false
		case n == 1:
			s.Close()
			c.disk.cutPower(c.t, c.rng)
			return false
		case n < 6 || delivered == campaignEvents:
			doc, err := s.Sync(c.t.Context())
			if err != nil {
				s.Close()
				c.disk.fault = nil
				return c.rng.IntN(4) != 0
			}
			c.covered, c.saved = delivered, doc
			if delivered == campaignEvents {
				s.Close()
				c.disk.cutPower(c.t, c.rng)
				return false
			}
		default:
			last := min(campaignEvents, delivered+1+c.rng.IntN(8))
			delivered = c.deliver(s, delivered, last)
		}
	}
}

// deliver delivers the events after from, a few attempts long.
func (c *campaign) deliver(s *stream, from, last int) int {
	for range 5 {
		b := batch(c.t, from+1, last, 100)
		err := s.Deliver(c.t.Context(), b)
		if err == nil {
			return last
		}
		if p, ok := err.(*rigatoni.PartialError); ok {
			from += p.Delivered
		}
	}
	return from
}

func (c *campaign) check(when string) {
	next := 1
	for _, n := range names(c.t, c.d.dir) {
		text := read(c.t, c.d.dir, n)
		for line := range strings.Lines(text) {
			var ev struct {
				ID struct {
					Data string `json:"_data"`
				} `json:"_id"`
				FullDocument struct{ N int }
			}
			if err := json.Unmarshal([]byte(line), &ev); err != nil || !strings.HasSuffix(line, "\n") || ev.ID.Data != token(ev.FullDocument.N) {
				c.t.Errorf("%s: %s has a broken line %q: %v", when, n, line, err)
				return
			}
			if ev.FullDocument.N > next {
				c.t.Errorf("%s: event %d stands in %s before event %d", when, ev.FullDocument.N, n, next)
				return
			}
			if ev.FullDocument.N == next {
				next++
			}
		}
	}
	if next <= c.covered {
		c.t.Errorf("%s: event %d is not there, and the checkpoint covers %d", when, next, c.covered)
	}
}
