package filestore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A change makes a record the one in force. It is begun (written), flushed and
// settled, one step after the other, so that many changes can share their flushes.
// When it fails, the file has the old record or the new one, and its keyFile the old
// one.
type change struct {
	k           *keyFile
	rec         record.Record
	began       uint64   // what flusher.began said before anything was written
	mark        mark     // in place: what the slot holds now
	replacement *newFile // nil: in place
	err         error
}

// A newFile will replace a key's file, and leaves it unchanged until then.
type newFile struct {
	temp  string
	f     file // nil: closed to make room
	info  fs.FileInfo
	marks [2]mark
	slot  int
	old   file // the one that it replaces, until that is flushed; nil: not held
}

// letGo closes the file that was replaced. What that says doesn't matter: nothing in it
// is needed any more.
func (n *newFile) letGo() {
	if n.old != nil {
		_ = n.old.Close()
		n.old = nil
	}
}

// save makes rec the record in force: in place with one flush where it can, and
// otherwise as replace does.
func (k *keyFile) save(rec record.Record) error { return k.commit(k.begin(rec)) }

// replace writes rec into both slots of a new file and puts it in place of the
// old one. Then neither damage to the last line nor a process that has the old file
// open can bring back what the old one held.
func (k *keyFile) replace(rec record.Record) error { return k.commit(k.beginReplacement(rec)) }

func (k *keyFile) commit(c *change, err error) error {
	if err != nil {
		return err
	}
	k.s.commit([]*change{c})
	return c.err
}

// begin writes a slot in place where it can, and otherwise a new file.
func (k *keyFile) begin(rec record.Record) (*change, error) {
	line := borrow(k.slot)
	defer giveBack(line)
	text, m, err := appendLine((*line)[:0], k.last().generation+1, k.quoted, &rec)
	if err != nil {
		return nil, err
	}
	if len(text) >= k.slot || !k.ready() || !k.untouched() {
		return k.beginReplacement(rec)
	}
	c := &change{k: k, rec: rec, began: k.s.flusher.began(), mark: m}
	k.tried = m
	if _, err := k.f.WriteAt(pad(text, k.slot), int64(k.next)*int64(k.slot)); err != nil {
		c.fail(named(err, k.path))
		return nil, c.err
	}
	// After rm, or an editor's rename, what was written has no name; an editor that
	// writes in place may have changed its length. To ask now takes a quarter of what
	// it takes after the flush, for which the processor has gone to sleep, and says as
	// much: it may be removed at any time.
	same, size, err := k.s.sys.Look(k.path, k.info)
	switch {
	case same && size == int64(2*k.slot):
		return c, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		c.fail(err)
		return nil, c.err
	}
	if err := k.drop(); err != nil {
		return nil, err
	}
	return k.beginReplacement(rec)
}

// beginReplacement writes a file beside the one that it will replace. When it fails, nothing
// is left.
func (k *keyFile) beginReplacement(rec record.Record) (*change, error) {
	if err := k.checkOurs(); err != nil {
		return nil, err
	}
	text, marks, err := k.twoSlots(&rec)
	if err != nil {
		return nil, err
	}
	c := &change{k: k, rec: rec, began: k.s.flusher.began()}
	c.replacement = &newFile{temp: k.tempName(), marks: marks, slot: len(text) / 2}
	if c.replacement.f, err = k.s.sys.Open(c.replacement.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
		return nil, unavailable(err)
	}
	if _, err = c.replacement.f.WriteAt(text, 0); err == nil {
		c.replacement.info, err = c.replacement.f.Stat()
	}
	if err != nil {
		c.fail(err)
		return nil, c.err
	}
	return c, nil
}

// twoSlots is the contents of a file with rec in both slots.
func (k *keyFile) twoSlots(rec *record.Record) (text []byte, marks [2]mark, err error) {
	g := k.last().generation
	// The second line is the longer one, if its generation has a digit more.
	second, m2, err := appendLine(nil, g+2, k.quoted, rec)
	if err != nil {
		return nil, marks, err
	}
	first, m1, err := appendLine(nil, g+1, k.quoted, rec)
	if err != nil {
		return nil, marks, err
	}
	n, err := slotLen(len(second))
	if err != nil {
		return nil, marks, err
	}
	return append(pad(first, n), pad(second, n)...), [2]mark{m1, m2}, nil
}

func (k *keyFile) tempName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.TrimSuffix(k.path, dataSuffix) + "." + hex.EncodeToString(b[:]) + tempSuffix
}

// commit flushes and settles changes, and leaves in each how it went.
func (s *Store) commit(cs []*change) {
	s.flush(cs)
	renamed := s.flusher.dir.began()
	holdReplaced(cs)
	s.each(cs, func(c *change) {
		switch {
		case c.err != nil:
		case c.replacement == nil:
			c.settle()
		default:
			c.rename()
		}
	})
	var replacing []*change
	for _, c := range cs {
		if c.replacement != nil && c.err == nil {
			replacing = append(replacing, c)
		}
	}
	if len(replacing) == 0 {
		return
	}
	err := s.flusher.dir.join(nil, renamed)
	for _, c := range replacing {
		c.adopt(err)
	}
}

// holdReplaced keeps the files that are about to lose their names open until that is
// flushed, so that what they take isn't freed before. A great batch doesn't: it would
// take too many descriptors, and has written all that it writes.
func holdReplaced(cs []*change) {
	if !renameOpen || len(cs) > manyFiles {
		return
	}
	for _, c := range cs {
		if c.replacement != nil && c.err == nil {
			c.replacement.old = c.k.hold()
		}
	}
}

// flush makes durable what the changes have written.
func (s *Store) flush(cs []*change) {
	var open file
	closed, began := false, cs[0].began
	for _, c := range cs {
		began = min(began, c.began)
		if f := c.file(); f != nil {
			open = f
		} else {
			closed = true
		}
	}
	if !closed && (s.flusher.all == nil || len(cs) < manyFiles) {
		inParallel(manyFiles, len(cs), func(i int) { cs[i].flush() })
		return
	}
	if err := s.flusher.all.join(open, began); err != nil {
		for _, c := range cs {
			c.fail(err)
		}
	}
}

// each does something with every change, on all processors if they are many.
func (s *Store) each(cs []*change, do func(*change)) {
	inParallel(processors(len(cs)), len(cs), func(i int) { do(cs[i]) })
}

func (c *change) file() file {
	if c.replacement != nil {
		return c.replacement.f
	}
	return c.k.f
}

// flush flushes what this change has written. Of a file that keeps its length,
// fdatasync flushes the contents and nothing else.
func (c *change) flush() {
	f := c.file()
	do := f.Sync
	if c.replacement == nil {
		do = func() error { return named(f.Datasync(), c.k.path) }
	}
	if err := c.k.s.flusher.one(f, do, c.began); err != nil {
		c.fail(err)
	}
}

// rest closes the file until it is needed again.
func (c *change) rest() {
	var err error
	if c.replacement == nil {
		err = c.k.rest()
	} else {
		err = c.replacement.f.Close()
		c.replacement.f = nil
	}
	if err != nil {
		c.fail(err)
	}
}

// fail ends a change that could not be written or flushed. What is in the file is not
// known then; a new one is discarded.
func (c *change) fail(err error) {
	if c.replacement == nil {
		c.k.failed = true
		c.err = errors.Join(unavailable(err), c.k.drop())
		return
	}
	if c.replacement.f != nil {
		err = errors.Join(err, c.replacement.f.Close())
	}
	c.err = unavailable(errors.Join(err, c.k.s.sys.Remove(c.replacement.temp)))
}

// settle makes what was written in place the record in force.
func (c *change) settle() {
	k := c.k
	k.rec, k.marks[k.next] = c.rec, c.mark
	k.next = 1 - k.next
}

// rename puts the new file in place, and closes the one that it replaces.
func (c *change) rename() {
	if err := c.renameFile(); err != nil {
		c.replacement.letGo()
		c.fail(err)
		return
	}
	k := c.k
	// Until the directory is flushed, either file may be there after a crash.
	k.known, k.marks, k.info, k.failed = true, c.replacement.marks, c.replacement.info, true
}

func (c *change) renameFile() error {
	k, n := c.k, c.replacement
	if renameOpen {
		if err := k.s.sys.Rename(n.temp, k.path); err != nil {
			return err
		}
		// What closing the old one says doesn't matter: nothing in it is needed.
		_ = k.drop()
		return nil
	}
	if n.f != nil {
		f := n.f
		n.f = nil
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := k.drop(); err != nil {
		return err
	}
	return k.s.sys.Rename(n.temp, k.path)
}

// adopt makes the new file the key's own, once its name is flushed.
func (c *change) adopt(err error) {
	k, n := c.k, c.replacement
	n.letGo()
	if err != nil {
		if n.f != nil {
			err = errors.Join(err, n.f.Close())
		}
		c.err = unavailable(err)
		return
	}
	k.f, k.flushed, k.slot, k.next, k.rec, k.failed = n.f, true, n.slot, 0, c.rec, false
	k.checked = time.Now()
}

// Memory for lines, which only the moment of a write needs.
var lines = sync.Pool{New: func() any { b := make([]byte, 0, slotUnit); return &b }}

// borrow returns memory of length n.
func borrow(n int) *[]byte {
	b := lines.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

// giveBack keeps no memory that only a rare large token takes.
func giveBack(b *[]byte) {
	const large = 1 << 20
	if cap(*b) <= large {
		lines.Put(b)
	}
}
