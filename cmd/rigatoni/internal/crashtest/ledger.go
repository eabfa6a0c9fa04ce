package crashtest

import (
	"fmt"
	"slices"
	"sort"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A record of what arrives checks each line, and compares all with what was written.
type record interface {
	// begin records the start of a process, with the checkpoints in the store, and
	// returns how much they cover.
	begin(checkpoints map[string]state.Checkpoint) (covered int)
	arrive(file string, line []byte)
	tally() counts
	// complete reports whether all that was written has arrived.
	complete(written map[Doc][]Change) bool
	// compare adds to the faults what is lost, and what was never written.
	compare(written map[Doc][]Change) (lost, madeUp int)
	wrong() *faults
}

// counts are of what arrived.
type counts struct {
	arrived int // changes and copied documents, each counted once
	twice   int // lines that are repeats
	lines   int // all lines; of a copy, those of its documents

	copied          int // documents that were copied
	changes, inCopy int // of the changes written: those that arrived as such, and those that the copy has
}

// A ledger records what arrives of a stream that copies nothing.
type ledger struct {
	seed    uint64
	oneEach bool
	streams map[string]*book
	docs    map[Doc][]Change // the first arrival of each change, in order
	last    map[Doc]int      // the version that each document is at

	arrived int // changes, each counted once
	twice   int // lines that are repeats
	lines   int
	faults  faults
}

// A book has the events of one stream.
type book struct {
	seen []resumetoken.Token // of every event that arrived, in order, each once
	next int                 // where in seen the running process is
}

// faults are counted, and the first few of each kind described.
type faults struct {
	n     int
	words []string
	full  int // the most words
}

// roomFor is how many faults of a kind are described.
const roomFor = 10

// kind makes room for faults of another kind.
func (f *faults) kind() { f.full = len(f.words) + roomFor }

func (f *faults) add(format string, args ...any) {
	f.n++
	if len(f.words) < f.full {
		f.words = append(f.words, fmt.Sprintf(format, args...))
	}
}

func newLedger(seed uint64, oneEach bool) *ledger {
	return &ledger{
		seed: seed, oneEach: oneEach, faults: faults{full: roomFor},
		streams: map[string]*book{}, docs: map[Doc][]Change{}, last: map[Doc]int{},
	}
}

func (l *ledger) tally() counts {
	return counts{arrived: l.arrived, twice: l.twice, lines: l.lines, changes: l.arrived}
}

func (l *ledger) wrong() *faults { return &l.faults }

func (l *ledger) complete(written map[Doc][]Change) bool {
	n := 0
	for _, changes := range written {
		n += len(changes)
	}
	return l.arrived >= n
}

func (l *ledger) book(coll string) *book {
	if !l.oneEach {
		coll = ""
	}
	b := l.streams[coll]
	if b == nil {
		b = &book{}
		l.streams[coll] = b
	}
	return b
}

// begin records the start of a process, with the checkpoints in the store, by
// stream. It returns the number of events, over all streams, that they cover: those
// that this process must not deliver again.
func (l *ledger) begin(checkpoints map[string]state.Checkpoint) (kept int) {
	for name, cp := range checkpoints {
		l.book(name) // it may have delivered nothing yet
		b := l.streams[name]
		b.next = sort.Search(len(b.seen), func(i int) bool { return l.after(b.seen[i], cp.Token) })
		kept += b.next
	}
	for name, b := range l.streams {
		if _, ok := checkpoints[name]; !ok && len(b.seen) > 0 {
			l.faults.add("stream %q has delivered events and has no checkpoint", name)
		}
	}
	return kept
}

// after reports whether a is later in the stream than b.
func (l *ledger) after(a, b resumetoken.Token) bool {
	order, ok := resumetoken.Compare(a, b)
	if !ok {
		l.faults.add("two resume tokens of one stream don't compare")
	}
	return order > 0
}

// arrive records a line.
func (l *ledger) arrive(file string, line []byte) {
	l.lines++
	a, err := parse(line)
	if err != nil {
		l.faults.add("a line of %s is no change event: %v", file, err)
		return
	}
	b := l.book(a.what.Doc.Coll)
	if b.next < len(b.seen) {
		// This process still repeats what an earlier one delivered.
		l.twice++
		if a.token != b.seen[b.next] {
			l.faults.add("%s is out of order: what follows the checkpoint must be redelivered in the same order", a.what)
			b.next = max(b.next, slices.Index(b.seen, a.token))
		}
		b.next++
		return
	}
	if n := len(b.seen); n > 0 && !l.after(a.token, b.seen[n-1]) {
		l.early(b, a)
		return
	}
	b.seen = append(b.seen, a.token)
	b.next = len(b.seen)
	l.enter(a)
}

// early records an event that is before the last one of its stream.
func (l *ledger) early(b *book, a arrival) {
	i := sort.Search(len(b.seen), func(i int) bool { return !l.after(a.token, b.seen[i]) })
	if b.seen[i] == a.token {
		l.twice++
		l.faults.add("%s was redelivered although no process was started in between", a.what)
		return
	}
	l.faults.add("%s arrived out of order", a.what)
	b.seen = slices.Insert(b.seen, i, a.token)
	b.next = len(b.seen)
	l.enter(a)
}

// enter records a change that arrived for the first time.
func (l *ledger) enter(a arrival) {
	c := a.what
	if c.Op == 0 {
		l.faults.add("an event of another kind arrived in %q", c.Doc.Coll)
		return
	}
	l.arrived++
	if c.Op == Delete {
		c.Version = l.last[c.Doc] + 1
	} else if want := c.cents(l.seed); a.cents != want {
		l.faults.add("%s arrived with other contents: cents %d instead of %d", c, a.cents, want)
	}
	if c.Version != l.last[c.Doc]+1 {
		l.faults.add("%s arrived when the document was at version %d", c, l.last[c.Doc])
	}
	l.last[c.Doc] = c.Version
	l.docs[c.Doc] = append(l.docs[c.Doc], c)
}

// compare compares what arrived with what was written. Lost and made-up changes
// are counted as a multiset, so that one that is lost doesn't make every later
// one of its document look wrong; the order was checked on arrival.
func (l *ledger) compare(written map[Doc][]Change) (lost, madeUp int) {
	// The event of a delete doesn't have the version, and a document has one delete.
	same := func(c Change) Change {
		if c.Op == Delete {
			c.Version = 0
		}
		return c
	}
	l.faults.kind()
	for doc, changes := range written {
		arrived := map[Change]int{}
		for _, c := range l.docs[doc] {
			arrived[same(c)]++
		}
		for _, c := range changes {
			if arrived[same(c)]--; arrived[same(c)] >= 0 {
				continue
			}
			lost++
			l.faults.add("%s was written and never arrived", c)
		}
	}
	l.faults.kind()
	for doc, changes := range l.docs {
		left := map[Change]int{}
		for _, c := range written[doc] {
			left[same(c)]++
		}
		for _, c := range changes {
			if left[same(c)]--; left[same(c)] < 0 {
				madeUp++
				l.faults.add("%s arrived and was never written", c)
			}
		}
	}
	return lost, madeUp
}
