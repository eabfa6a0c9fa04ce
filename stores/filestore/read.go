package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// The advice in the error of a file that can't be read.
const (
	adviceDamaged = "restore a good copy, or remove the file and start at the time of the last output (--start TIME): " + firstStart
	adviceEdited  = "undo the change, or " + adviceDamaged
	firstStart    = "a first start without a time begins at the present, and skips what was written since then"
)

var errLink = errors.New("it is a symbolic link")

// A found is the content of a file of which at least one slot is intact.
type content struct {
	rec   record.Record
	slots [2]slot
	force int // the slot in force
	slot  int // the length of a slot
	info  fs.FileInfo
	// bad is the error of the other slot, nil if it is intact.
	bad error
}

func (f *content) marks() [2]mark { return [2]mark{f.slots[0].mark, f.slots[1].mark} }

// corrupt returns the error of a file that can't be read.
func corrupt(path, what, advice string) error {
	return fmt.Errorf("%w: %s %s; %s", state.ErrCorrupt, path, what, advice)
}

// unavailable is the error for a call to the system that failed: ErrRefused where it
// will fail until a person changes something. (A full disk may empty itself.)
func unavailable(err error) error {
	switch {
	case err == nil || errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrRefused):
		return err
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", state.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
}

// readFile reads a whole file. A file that isn't there is an fs.ErrNotExist, and all
// that can be said without looking at its contents is an ErrCorrupt or ErrUnavailable.
func readFile(sys fsys, path string) (text []byte, info fs.FileInfo, err error) {
	f, err := sys.Open(path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	case errors.Is(err, errLink):
		return nil, nil, corrupt(path, "is a symbolic link", "replace it by the file itself, or remove it")
	case err != nil:
		return nil, nil, unavailable(err)
	}
	defer func() { err = errors.Join(err, unavailable(f.Close())) }()
	if info, err = f.Stat(); err != nil {
		return nil, nil, unavailable(err)
	}
	switch {
	case info.IsDir():
		return nil, nil, corrupt(path, "is a directory", "remove it")
	case !info.Mode().IsRegular():
		return nil, nil, corrupt(path, "is not a regular file", "remove it")
	case info.Size() > 2*maxSlot:
		return nil, nil, corrupt(path, "is too large to be a checkpoint", adviceDamaged)
	}
	text = make([]byte, info.Size())
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, unavailable(err)
	}
	return text[:n], info, nil
}

// judge says which of a file's two records is in force, or why none is.
func judge(path, key string, text []byte) (content, error) {
	switch {
	case len(text) == 0:
		return content{}, corrupt(path, "is empty", adviceDamaged)
	case len(text)%(2*slotUnit) != 0:
		what := fmt.Sprintf("has %d bytes, which is no length of a checkpoint file: it was edited, or cut short", len(text))
		return content{}, corrupt(path, what, adviceEdited)
	}
	n := len(text) / 2
	f := content{slot: n, slots: [2]slot{readSlot(text[:n]), readSlot(text[n:])}}
	if err := f.choose(path); err != nil {
		return content{}, err
	}
	rec, owner, err := f.slots[f.force].parse()
	switch {
	case err != nil:
		return content{}, fmt.Errorf("%w (line %d of %s)", err, f.force+1, path)
	case owner != key:
		return content{}, corrupt(path, fmt.Sprintf("holds the checkpoint of another key, %q", owner), adviceDamaged)
	}
	f.rec = rec
	return f, nil
}

// choose finds the slot in force.
func (f *content) choose(path string) error {
	a, b := &f.slots[0], &f.slots[1]
	switch {
	case a.err == nil && b.err == nil:
		if a.mark.generation == b.mark.generation {
			return corrupt(path, fmt.Sprintf("was edited: both of its lines have generation %d", a.mark.generation), adviceEdited)
		}
		if b.mark.generation > a.mark.generation {
			f.force = 1
		}
		return nil
	case a.err != nil && b.err != nil:
		return bothBad(path, a, b)
	case a.err != nil:
		f.force = 1
	}
	bad := &f.slots[1-f.force]
	what := fmt.Sprintf("line %d %v", 2-f.force, bad.err)
	if bad.edited && bad.mark.generation > f.slots[f.force].mark.generation {
		return corrupt(path, "was edited or damaged: "+what, adviceEdited)
	}
	f.bad = errors.New(what)
	return nil
}

func bothBad(path string, a, b *slot) error {
	what := fmt.Sprintf("line 1 %v, line 2 %v", a.err, b.err)
	if a.edited || b.edited {
		return corrupt(path, "was edited or damaged: "+what, adviceEdited)
	}
	return corrupt(path, "is damaged: "+what, adviceDamaged)
}

// How long a reader without the lock keeps reading a file that seems damaged,
// and how long the damage must stay the same until it is believed. The owner's write
// of a slot takes microseconds, but may be interrupted in the middle of it.
const (
	readPatience = time.Second
	readPause    = 2 * time.Millisecond
)

// readShared reads a key's file without its lock. Its owner may be writing just
// now, so what seems to be damaged is read again until it is the same twice.
func (s *Store) readShared(ctx context.Context, key, path string) (content, error) {
	var last []byte
	for start := time.Now(); ; {
		text, info, err := readFile(s.sys, path)
		if err != nil {
			return content{}, s.absent(err)
		}
		f, err := judge(path, key, text)
		f.info = info
		if err == nil && f.bad == nil {
			return f, nil
		}
		if last != nil && bytes.Equal(last, text) || time.Since(start) > readPatience {
			s.warn(key, path, f.bad)
			return f, err
		}
		last = text
		if err := s.pause(ctx, readPause); err != nil {
			return content{}, err
		}
	}
}

// absent makes an fs.ErrNotExist an ErrNotFound, if the directory is still the one
// that was opened: a volume that isn't mounted must not look like a first start.
func (s *Store) absent(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.checkDir(); err != nil {
		return err
	}
	return state.ErrNotFound
}

func (s *Store) checkDir() error {
	info, err := s.sys.Stat(s.dir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return unavailable(err)
	case err != nil || !os.SameFile(info, s.dirInfo):
		return fmt.Errorf("%w: the directory %s has been %w; put it back", state.ErrUnavailable, s.dir, state.ErrReplaced)
	}
	return nil
}

// warn logs that the last save of a key is lost and the one before is used.
func (s *Store) warn(key, path string, bad error) {
	if bad != nil {
		s.log.Warn("checkpoint file is damaged in one of its two lines, using the other",
			"key", key, "path", path, "damage", bad.Error())
	}
}

// pause waits until d has passed, ctx is done or the store is closed.
func (s *Store) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return state.ErrClosed
	}
}
