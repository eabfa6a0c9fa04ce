package filestore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A keyFile is one key's file in the hands of its only writer: whoever calls its
// methods holds the key's lock.
//
// A slot is overwritten only when the other is known to be flushed. That is known
// of a file that this keyFile has written itself, all of it, and whose every flush
// succeeded; f is open exactly then. Any other file (one just opened, or one whose
// flush failed) is not overwritten and not flushed but replaced, by the next save.
type keyFile struct {
	s         *Store
	key, path string
	quoted    string // the key in JSON

	rec   state.Record // the record in force
	known bool         // there is a file, and it is ours
	marks [2]mark      // what its slots hold
	info  fs.FileInfo  // which file it is

	f    file // nil: the next save replaces the file
	slot int  // the length of its slots
	next int  // the slot to overwrite

	tried   mark      // what a write that wasn't acknowledged may have left in a slot
	failed  bool      // such a write has changed the file
	checked time.Time // when the file was last seen to hold its marks
	buf     []byte    // for writing
	text    []byte    // for reading
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

// save makes rec the record in force: in place with one flush where it can, and
// otherwise as replace does. When it fails, the file has the old record or rec, and
// k the old one.
func (k *keyFile) save(rec state.Record) error {
	line, m, err := appendLine(k.buf[:0], k.last().generation+1, k.quoted, &rec)
	if err != nil {
		return err
	}
	k.buf = line
	if k.f == nil || len(line) >= k.slot || !k.untouched() {
		return k.replace(rec)
	}
	k.buf = pad(line, k.slot)
	defer k.shed()
	return k.overwrite(rec, k.buf, m)
}

// shed gives back the memory that only a rare large token takes.
func (k *keyFile) shed() {
	const large = 1 << 20
	if k.slot > large {
		k.buf, k.text = nil, nil
	}
}

// checkEvery is how long the open file is trusted to hold what was written there.
const checkEvery = time.Second

// untouched tells whether nobody else has written to the open file. It is about
// people, and editors that write in place: other processes keep to the lock. Reading
// the file takes a tenth of the time of a save, so it isn't done for each of them; a
// change of its length is seen with every one, by overwrite.
func (k *keyFile) untouched() bool {
	return time.Since(k.checked) < checkEvery || k.sameMarks()
}

// sameMarks tells whether the slots of the open file hold what was written there.
func (k *keyFile) sameMarks() bool {
	if len(k.text) != 2*k.slot+1 {
		k.text = make([]byte, 2*k.slot+1) // to see that there is no more
	}
	if n, err := k.f.ReadAt(k.text, 0); n != 2*k.slot || !errors.Is(err, io.EOF) {
		return false
	}
	a, b := readSlot(k.text[:k.slot]), readSlot(k.text[k.slot:2*k.slot])
	if a.err != nil || b.err != nil || [2]mark{a.mark, b.mark} != k.marks {
		return false
	}
	k.checked = time.Now()
	return true
}

// overwrite writes a slot in place and flushes it.
func (k *keyFile) overwrite(rec state.Record, text []byte, m mark) error {
	k.tried = m
	_, err := k.f.WriteAt(text, int64(k.next)*int64(k.slot))
	if err == nil {
		err = k.f.Datasync()
	}
	if err != nil {
		k.failed = true
		return errors.Join(unavailable(named(err, k.path)), k.drop())
	}
	// After rm, or an editor's rename, the file that was just written has no name; an
	// editor that writes in place may have changed its length.
	same, size, err := k.s.sys.Look(k.path, k.info)
	switch {
	case same && size == int64(2*k.slot):
		k.rec, k.marks[k.next] = rec, m
		k.next = 1 - k.next
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		k.failed = true
		return errors.Join(unavailable(err), k.drop())
	}
	return errors.Join(k.drop(), k.replace(rec))
}

// named puts the path into an error of a file that was opened under its temporary name.
func named(err error, path string) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		e.Path = path
	}
	return err
}

// drop closes the file, so that the next save replaces it.
func (k *keyFile) drop() error {
	if k.f == nil {
		return nil
	}
	err := k.f.Close()
	k.f = nil
	return unavailable(err)
}

// replace writes rec into both slots of a new file and puts it into the place of the
// old one. What the old one held is then beyond the reach of any damage to the last
// line, and of whoever has it open.
func (k *keyFile) replace(rec state.Record) error {
	if err := k.checkOurs(); err != nil {
		return err
	}
	text, marks, err := k.twoSlots(&rec)
	if err != nil {
		return err
	}
	temp := k.tempName()
	f, info, err := k.writeTemp(temp, text)
	if err != nil {
		return unavailable(err)
	}
	if err := k.rename(temp, &f); err != nil {
		return unavailable(err)
	}
	k.known, k.marks, k.info, k.failed = true, marks, info, true
	if err := k.s.sys.SyncDir(k.s.dir); err != nil {
		return unavailable(errors.Join(err, f.Close()))
	}
	k.f, k.slot, k.next, k.rec, k.failed, k.checked = f, len(text)/2, 0, rec, false, time.Now()
	return nil
}

// twoSlots is the contents of a file with rec in both slots.
func (k *keyFile) twoSlots(rec *state.Record) (text []byte, marks [2]mark, err error) {
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

// writeTemp writes and flushes a file beside the one that it will replace. When it
// fails, nothing is left.
func (k *keyFile) writeTemp(temp string, text []byte) (file, fs.FileInfo, error) {
	f, err := k.s.sys.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, nil, err
	}
	var info fs.FileInfo
	if _, err = f.WriteAt(text, 0); err == nil {
		if err = f.Sync(); err == nil {
			info, err = f.Stat()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close(), k.s.sys.Remove(temp))
	}
	return f, info, nil
}

// rename puts the new file in place, and closes the one that it replaces.
func (k *keyFile) rename(temp string, f *file) error {
	if !renameOpen {
		if err := errors.Join((*f).Close(), k.drop()); err != nil {
			return errors.Join(err, k.s.sys.Remove(temp))
		}
	}
	if err := k.s.sys.Rename(temp, k.path); err != nil {
		if renameOpen {
			err = errors.Join(err, (*f).Close())
		}
		return errors.Join(err, k.s.sys.Remove(temp))
	}
	if renameOpen {
		// What closing the old one says doesn't matter: nothing in it is needed.
		_ = k.drop()
		return nil
	}
	opened, err := k.s.sys.Open(k.path, os.O_RDWR)
	*f = opened
	return err
}

// remove takes the file away.
func (k *keyFile) remove() error {
	if err := k.checkOurs(); err != nil {
		return err
	}
	err := k.drop()
	if k.known {
		if e := k.s.sys.Remove(k.path); e != nil && !errors.Is(e, fs.ErrNotExist) {
			return errors.Join(err, unavailable(e))
		}
	}
	k.known, k.marks, k.rec = false, [2]mark{}, state.Record{}
	return errors.Join(err, unavailable(k.s.sys.SyncDir(k.s.dir)))
}

// checkOurs tells whether the file may be replaced. If it is gone, it may: what is in
// memory is the truth. If somebody has put another in its place, or changed it, they
// meant something by it, and it is refused.
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
		return state.ErrFenced
	}
	return corrupt(k.path, "has been replaced by another record of the key while this process was its owner",
		"end the process, and it goes on from that record when it starts again")
}

func (k *keyFile) checkGone() error {
	if err := k.s.checkDir(); err != nil {
		return err
	}
	k.s.log.Warn("the file of a checkpoint has been removed while its owner lives; it is written anew",
		"key", k.key, "path", k.path)
	return nil
}
