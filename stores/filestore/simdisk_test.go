package filestore

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// A simNode is a file of a simDisk. What a write changes is in the page cache, now,
// until a flush brings it to the disk; what a crash leaves of it is anyone's guess.
//
// The slices are never written to once they are here, so that copies of a disk share
// them.
type simNode struct {
	id   int
	now  []byte
	disk []byte

	// since are the contents after each change that isn't flushed, the last of them
	// now; dirty says which sectors, and grown from which of the changes on the
	// length, is yet to be written.
	since [][]byte
	dirty map[int]int
	grown int // counted from 1; 0: the length is on the disk

	errs errSeq

	locks map[*simFile]bool // true: exclusive
}

// clone is the file without whoever has it open.
func (n *simNode) clone() *simNode {
	c := *n
	c.since, c.dirty, c.locks = slices.Clone(n.since), maps.Clone(n.dirty), nil
	return &c
}

func (n *simNode) isDirty() bool { return n.grown > 0 || len(n.dirty) > 0 }

// change makes text the contents. The bytes from..to were written.
func (n *simNode) change(text []byte, from, to int) {
	n.since = append(n.since, text)
	if n.dirty == nil {
		n.dirty = make(map[int]int)
	}
	for s := from / sector; s*sector < to; s++ {
		if _, ok := n.dirty[s]; !ok {
			n.dirty[s] = len(n.since) - 1
		}
	}
	if n.grown == 0 && (len(text) != len(n.now) || to > len(n.disk)) {
		n.grown = len(n.since)
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

// flush brings to the disk what isn't there.
func (n *simNode) flush() { n.settle(n.flushed()) }

func (n *simNode) settle(disk []byte) { n.disk, n.since, n.dirty, n.grown = disk, nil, nil, 0 }

// flushed is what the disk would hold after a flush. It is not now: what a flush that
// failed has thrown away is in the page cache still, and never comes to the disk.
func (n *simNode) flushed() []byte {
	size := len(n.disk)
	if n.grown > 0 {
		size = len(n.now)
	}
	if len(n.dirty)*sector >= size && size == len(n.now) {
		return n.now
	}
	text := make([]byte, size)
	copy(text, n.disk)
	for s := range n.dirty {
		copySector(text, n.now, s)
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
	const none, all, lastOnly = 0, 1, 2 // and beyond: anything
	how := r.IntN(6)
	switch {
	case !n.isDirty() || how == none:
		return n.disk
	case how == all:
		return n.flushed()
	}
	size := len(n.disk)
	if n.grown > 0 {
		if i := r.IntN(len(n.since)-n.grown+2) + n.grown - 1; i < len(n.since) {
			size = len(n.since[i])
		}
	}
	text := make([]byte, size)
	copy(text, n.disk)
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		first := n.dirty[s]
		if how == lastOnly {
			first = len(n.since) - 1
		}
		if i := first + r.IntN(len(n.since)-first+1); i < len(n.since) {
			if at := s * sector; at < size {
				clear(text[at:min(at+sector, size)])
			}
			copySector(text, n.since[i], s)
		}
	}
	return text
}

// lose is a flush that fails: the pages that didn't make it are thrown away, and the
// page cache, which keeps them, says that all is well.
func (n *simNode) lose(r *rand.Rand) {
	n.settle(n.afterCrash(r))
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

// heard tells whether there is an error that whoever sampled since has not heard of.
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

func (d *simDir) flush() {
	for _, o := range d.ops {
		o.apply(d.disk)
	}
	d.ops = nil
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

// lose is a flush that fails.
func (d *simDir) lose(r *rand.Rand) { d.disk, d.ops = d.afterCrash(r), nil }

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
	c := &simDir{now: cloneNames(d.now, copied), disk: cloneNames(d.disk, copied), ops: slices.Clone(d.ops)}
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
