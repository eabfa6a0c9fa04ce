package filestore

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// A simNode is a file of a simFS. What a write changes is in the page cache, now,
// until a flush brings it to the disk; what a crash leaves of it is anyone's guess.
//
// The slices are never written to once they are here, so that copies of a disk share
// them.
type simNode struct {
	id   int
	now  []byte
	disk []byte

	// Changes are counted. gone of them are on the disk, or lost; since are the
	// contents after each of the others. dirty says by which of them a sector, and
	// resized by which of them the length, was changed.
	gone    int
	since   [][]byte
	dirty   map[int]span
	resized span

	errs errSeq

	locks map[*simFile]bool // true: exclusive
}

// A span is the first and the last change of something; 0 for none.
type span struct{ first, last int }

func (s span) with(change int) span {
	if s.first == 0 {
		s.first = change
	}
	s.last = change
	return s
}

// after is what is left of a span once all changes up to one are on the disk.
func (s span) after(change int) span {
	if s.last <= change {
		return span{}
	}
	s.first = max(s.first, change+1)
	return s
}

// clone is the file without whoever has it open.
func (n *simNode) clone() *simNode {
	c := *n
	c.since, c.dirty, c.locks = slices.Clone(n.since), maps.Clone(n.dirty), nil
	return &c
}

func (n *simNode) isDirty() bool { return len(n.since) > 0 }

// last is the number of the last change.
func (n *simNode) last() int { return n.gone + len(n.since) }

// at is the contents after a change.
func (n *simNode) at(change int) []byte { return n.since[change-n.gone-1] }

// change makes text the contents. The bytes from..to were written.
func (n *simNode) change(text []byte, from, to int) {
	n.since = append(n.since, text)
	if n.dirty == nil {
		n.dirty = make(map[int]span)
	}
	for s := from / sector; s*sector < to; s++ {
		n.dirty[s] = n.dirty[s].with(n.last())
	}
	if len(text) != len(n.now) || to > len(n.disk) {
		n.resized = n.resized.with(n.last())
	}
	n.now = text
}

func (n *simNode) write(b []byte, off int) {
	text := make([]byte, max(len(n.now), off+len(b)))
	copy(text, n.now)
	copy(text[off:], b)
	n.change(text, off, off+len(b))
}

func (n *simNode) truncate(size int) {
	text := make([]byte, size)
	copy(text, n.now)
	n.change(text, 0, 0)
}

// flush brings the changes up to one to the disk.
func (n *simNode) flush(change int) {
	if change <= n.gone {
		return
	}
	n.disk = n.flushed(change)
	n.since = n.since[change-n.gone:]
	n.gone = change
	n.resized = n.resized.after(change)
	for s, when := range n.dirty {
		if n.dirty[s] = when.after(change); n.dirty[s].last == 0 {
			delete(n.dirty, s)
		}
	}
}

// flushed is what the disk holds after a flush. It is not what the page cache has:
// it also has what a flush that failed has discarded, which never reaches the disk.
func (n *simNode) flushed(change int) []byte {
	now, size := n.at(change), len(n.disk)
	if first := n.resized.first; first > 0 && first <= change {
		size = len(now)
	}
	text := make([]byte, size)
	copy(text, n.disk)
	for s, when := range n.dirty {
		if when.first <= change {
			copySector(text, now, s)
		}
	}
	return text
}

// copySector copies as much of a sector as both texts have.
func copySector(to, from []byte, s int) {
	if at := s * sector; at < len(to) && at < len(from) {
		copy(to[at:min(at+sector, len(to))], from[at:])
	}
}

// afterCrash is what the disk may hold after a power cut: each sector that wasn't
// flushed as it was, or as any of the writes since have left it, and the length too.
func (n *simNode) afterCrash(r *rand.Rand) []byte {
	const none, all, newest = 0, 1, 2 // and beyond: anything
	how := r.IntN(6)
	switch {
	case !n.isDirty() || how == none:
		return n.disk
	case how == all:
		return n.flushed(n.last())
	}
	size := len(n.disk)
	if change := n.draw(r, n.resized); change > 0 {
		size = len(n.at(change))
	}
	text := make([]byte, size)
	copy(text, n.disk)
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		when := n.dirty[s]
		if how == newest {
			when.first = n.last()
		}
		if change := n.draw(r, when); change > 0 {
			if at := s * sector; at < size {
				clear(text[at:min(at+sector, size)])
			}
			copySector(text, n.at(change), s)
		}
	}
	return text
}

// draw is one of the changes since the first of a span, or 0 for none.
func (n *simNode) draw(r *rand.Rand, when span) int {
	if when.first == 0 {
		return 0
	}
	change := when.first - 1 + r.IntN(n.last()-when.first+2)
	if change < when.first {
		return 0
	}
	return change
}

// lose is a flush that fails: the pages that it didn't write are discarded, and the
// page cache, which keeps them, says that all is well.
func (n *simNode) lose(r *rand.Rand) {
	n.disk = n.afterCrash(r)
	n.gone, n.since, n.dirty, n.resized = n.last(), nil, nil, span{}
	n.errs.raise()
}

// An errSeq is how Linux keeps the errors of writing back (errseq_t): each descriptor
// that was open when it happened hears of it once. One opened later hears of it only
// if nobody has yet.
type errSeq struct {
	n    int
	seen bool
}

func (e *errSeq) raise() { e.n, e.seen = e.n+1, false }

func (e *errSeq) sample() int {
	if e.n > 0 && !e.seen {
		return e.n - 1
	}
	return e.n
}

// heard reports whether there is an error after the sample at since, and moves since
// past it.
func (e *errSeq) heard(since *int) bool {
	if *since == e.n {
		return false
	}
	*since, e.seen = e.n, true
	return true
}

// A simDir is a directory: the names as programs see them, those on the disk, and what
// lies between.
type simDir struct {
	now, disk map[string]*simNode
	ops       []simOp
	gone      int // how many changes there were before ops
}

// A simOp puts a file under a name, and takes a name away. Either name may be "".
type simOp struct {
	put, take string
	node      *simNode
}

func (o simOp) apply(names map[string]*simNode) {
	delete(names, o.take)
	if o.put != "" {
		names[o.put] = o.node
	}
}

func (o simOp) touches(p simOp) bool {
	same := func(a, b string) bool { return a != "" && a == b }
	return same(o.put, p.put) || same(o.put, p.take) || same(o.take, p.put) || same(o.take, p.take)
}

func (d *simDir) do(o simOp) {
	o.apply(d.now)
	d.ops = append(d.ops, o)
}

func (d *simDir) last() int { return d.gone + len(d.ops) }

// flush brings the changes up to one to the disk.
func (d *simDir) flush(change int) {
	for d.gone < change {
		d.ops[0].apply(d.disk)
		d.ops = d.ops[1:]
		d.gone++
	}
}

// afterCrash is what the disk may hold after a power cut: the first few changes, as a
// journal has it, or any of them as long as those of one name keep their order.
func (d *simDir) afterCrash(r *rand.Rand) map[string]*simNode {
	names := maps.Clone(d.disk)
	done := make([]bool, len(d.ops))
	first, prefix := r.IntN(len(d.ops)+1), r.IntN(2) == 0
	for i, o := range d.ops {
		done[i] = prefix && i < first || !prefix && r.IntN(2) == 0
		for j, p := range d.ops[:i] {
			done[i] = done[i] && (done[j] || !o.touches(p))
		}
		if done[i] {
			o.apply(names)
		}
	}
	return names
}

// lose is a flush that fails: of the names that were given, any may be lost. One that
// was only taken away is not yet gone; no program could take it away once more.
func (d *simDir) lose(r *rand.Rand) {
	d.disk, d.gone = d.afterCrash(r), d.last()
	d.ops = slices.DeleteFunc(d.ops, func(o simOp) bool { return o.put != "" })
	d.gone -= len(d.ops)
}

// cloneNames copies the files of a directory, each once.
func cloneNames(names map[string]*simNode, copied map[*simNode]*simNode) map[string]*simNode {
	c := make(map[string]*simNode, len(names))
	for name, n := range names {
		if copied[n] == nil {
			copied[n] = n.clone()
		}
		c[name] = copied[n]
	}
	return c
}

// clone is the directory after every process has been killed: the page cache lives on.
func (d *simDir) clone() *simDir {
	copied := make(map[*simNode]*simNode)
	c := &simDir{now: cloneNames(d.now, copied), disk: cloneNames(d.disk, copied), ops: slices.Clone(d.ops), gone: d.gone}
	for i, o := range c.ops {
		if o.node != nil && copied[o.node] == nil {
			copied[o.node] = o.node.clone()
		}
		c.ops[i].node = copied[o.node]
	}
	return c
}

// powerCut is the directory as the next start of the machine finds it.
func (d *simDir) powerCut(r *rand.Rand) *simDir {
	disk := d.afterCrash(r)
	c := &simDir{now: make(map[string]*simNode), disk: make(map[string]*simNode)}
	copied := make(map[*simNode]*simNode)
	for _, name := range slices.Sorted(maps.Keys(disk)) {
		n := disk[name]
		if copied[n] == nil {
			text := n.afterCrash(r)
			copied[n] = &simNode{id: n.id, now: text, disk: text}
		}
		c.now[name], c.disk[name] = copied[n], copied[n]
	}
	return c
}
