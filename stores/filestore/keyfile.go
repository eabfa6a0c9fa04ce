package filestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A keyFile is one key's file, used by its only writer: the caller of its methods holds
// the key's lock.
//
// A slot is overwritten only when the other is known to be flushed. That is known
// of a file that this keyFile has written itself, all of it, and whose every flush
// succeeded: it is flushed. Any other file (one just found, or one whose flush failed)
// is not overwritten and not flushed but replaced, by the next save.
type keyFile struct {
	s         *Store
	key, path string
	quoted    string // the key in JSON

	rec   record.Record // the record in force
	known bool          // there is a file, and it is ours
	marks [2]mark       // what its slots hold
	info  fs.FileInfo   // which file it is

	flushed bool
	f       file // nil: closed, perhaps to make room
	slot    int  // the length of its slots
	next    int  // the slot to overwrite

	tried   mark      // what a write that wasn't acknowledged may have left in a slot
	failed  bool      // such a write has changed the file
	checked time.Time // when the file was last seen to hold its marks
}

// openKeyFile reads a key's file under the key's lock. No file is no error.
func (s *Store) openKeyFile(key, path string) (*keyFile, error) {
	k := &keyFile{s: s, key: key, path: path, quoted: quote(key)}
	text, info, err := readFile(s.sys, path)
	if err != nil {
		if err = s.absent(err); errors.Is(err, state.ErrNotFound) {
			err = nil
		}
		return k, err
	}
	found, err := judge(path, key, text)
	if err != nil {
		return nil, err
	}
	s.warn(key, path, found.bad)
	k.rec, k.known, k.marks, k.info = found.rec, true, found.marks(), info
	if found.bad != nil {
		k.marks[1-found.force] = mark{}
	}
	return k, nil
}

// last is the mark of the record in force.
func (k *keyFile) last() mark {
	if k.marks[0].generation > k.marks[1].generation {
		return k.marks[0]
	}
	return k.marks[1]
}

// ready reports whether the slots may be overwritten, and opens the file for it.
func (k *keyFile) ready() bool {
	if k.flushed && k.f == nil {
		k.open()
	}
	return k.flushed
}

// open opens the file again. If it can't be opened, it is for whatever replaces it to
// say why.
func (k *keyFile) open() {
	k.flushed = false
	f, err := k.s.sys.Open(k.path, os.O_RDWR)
	if err != nil {
		return
	}
	if same, err := f.Same(k.info); err != nil || !same {
		_ = f.Close() // another writer's
		return
	}
	k.f, k.flushed = f, true
}

// current reports whether the key's file is as it was when it was last written here.
func (k *keyFile) current() bool {
	if k.f != nil {
		if same, _, err := k.s.sys.Look(k.path, k.info); err != nil || !same {
			return false
		}
	}
	return k.ready() && k.sameMarks()
}

// rest closes the file until it is needed again.
func (k *keyFile) rest() error {
	if k.f == nil {
		return nil
	}
	err := k.f.Close()
	k.f = nil
	return unavailable(err)
}

// hold returns the key's file, open, to a caller that will remove its name and close it
// after that is flushed. ext4 with data=writeback reuses freed blocks at once: after a
// power cut before the flush, the old name would be back, with the data of others.
func (k *keyFile) hold() file {
	f := k.f
	k.f, k.flushed = nil, false
	if f == nil && k.known {
		f, _ = k.s.sys.Open(k.path, os.O_RDONLY) // it is gone, or the file is replaced without this caution
	}
	return f
}

// drop closes the file for good: the next save replaces it.
func (k *keyFile) drop() error {
	k.flushed = false
	return k.rest()
}

// checkEvery is how long the open file is trusted to hold what was written there.
const checkEvery = time.Second

// untouched reports whether the open file has no writes by others, such as editors that
// write in place; other processes respect the lock. Reading the file takes a tenth of
// the time of a save, so it isn't done for each save; begin notices a change of the
// length with every save.
func (k *keyFile) untouched() bool {
	return time.Since(k.checked) < checkEvery || k.sameMarks()
}

// sameMarks reports whether the slots of the open file hold what was written there.
func (k *keyFile) sameMarks() bool {
	text := borrow(2*k.slot + 1) // to see that there is no more
	defer giveBack(text)
	if n, err := k.f.ReadAt(*text, 0); n != 2*k.slot || !errors.Is(err, io.EOF) {
		return false
	}
	a, b := readSlot((*text)[:k.slot]), readSlot((*text)[k.slot:2*k.slot])
	if a.err != nil || b.err != nil || [2]mark{a.mark, b.mark} != k.marks {
		return false
	}
	k.checked = time.Now()
	return true
}

// named puts the path into an error of a file that was opened under its temporary name.
func named(err error, path string) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		e.Path = path
	}
	return err
}

// remove takes the file away.
func (k *keyFile) remove() error {
	if err := k.checkOurs(); err != nil {
		return err
	}
	var err error
	if !renameOpen {
		err = k.drop()
	} else if old := k.hold(); old != nil {
		defer old.Close() // which has nothing to say: nothing in it is needed
	}
	removed := k.s.flusher.dir.began()
	if k.known {
		if e := k.s.sys.Remove(k.path); e != nil && !errors.Is(e, fs.ErrNotExist) {
			return errors.Join(err, unavailable(e))
		}
	}
	k.known, k.marks, k.rec = false, [2]mark{}, record.Record{}
	return errors.Join(err, unavailable(k.s.flusher.dir.join(nil, removed)))
}

// checkOurs reports whether the file may be replaced. If it is gone, it may: what is in
// memory is valid. If it was replaced or edited, that was done on purpose, and saves are
// refused.
func (k *keyFile) checkOurs() error {
	if !k.known {
		return nil // there was none a moment ago, and we have the lock
	}
	same, _, err := k.s.sys.Look(k.path, k.info)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k.checkGone()
	case err != nil:
		return unavailable(err)
	case same && k.failed:
		return nil
	}
	text, _, err := readFile(k.s.sys, k.path)
	if err != nil {
		return k.s.absent(err)
	}
	found, err := judge(k.path, k.key, text)
	if err != nil {
		return err
	}
	now := found.slots[found.force].mark
	switch {
	case now == k.last() || now == k.tried:
		return nil // a copy of ours, as editors leave it that changed nothing
	case found.rec.Fence() != k.rec.Fence():
		if err := k.checkFollowed(found.rec); err != nil {
			return err
		}
	}
	return corrupt(k.path, "was replaced by another record of the key while this process held its lease",
		"restart the process to resume from that record")
}

// checkFollowed returns ErrFenced for the record of an owner that may have followed. One
// of an older epoch, while the lock file still names this process, was put there by
// hand.
func (k *keyFile) checkFollowed(rec record.Record) error {
	h, err := k.s.holderOf(k.s.lockPath(k.key))
	switch {
	case err != nil:
		return err
	case rec.Epoch <= k.rec.Epoch && k.s.session.is(h):
		return nil
	}
	return fmt.Errorf("%w: %s was replaced by the record of another owner, of epoch %d, while this process was of epoch %d; "+
		"if no other process took over, somebody copied a file there", state.ErrFenced, k.path, rec.Epoch, k.rec.Epoch)
}

func (k *keyFile) checkGone() error {
	if err := k.s.checkDir(); err != nil {
		return err
	}
	k.s.log.Warn("checkpoint file was removed under a live lease, writing it again",
		"key", k.key, "path", k.path)
	return nil
}
