package filestore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// SaveBatch saves many keys with few flushes: those that are in place share one of
// the whole file system (syncfs), and those whose files are made or grow share it and
// one of the directory. Where the file system isn't known to keep its word about
// syncfs (see the package's documentation), the files are flushed each by itself, many
// at a time.
//
// A flush that fails fails every save that shared it.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	var todo []int
	for i := range items {
		if errs[i] == nil {
			todo = append(todo, i)
		}
	}
	// Every batch takes its turns in the same order: two can't wait for each other.
	slices.SortFunc(todo, func(i, j int) int { return cmp.Compare(items[i].Key, items[j].Key) })
	for len(todo) > 0 {
		n := s.atOnce(items, todo)
		s.saveTogether(ctx, items, todo[:n], errs)
		todo = todo[n:]
	}
	for i, err := range errs {
		errs[i] = s.fail("save", items[i].Key, err)
	}
	return errs
}

// atOnce is how many of the items can be saved together: a save without a lease holds
// a lock file open until it is flushed, and so does every save the file itself, if
// it is to be flushed by itself.
func (s *Store) atOnce(items []state.Item, todo []int) int {
	open := 0
	for n, i := range todo {
		if items[i].Fence.IsZero() || s.flusher.all == nil {
			open++
		}
		if open > s.idle.maxOpen {
			return n
		}
	}
	return len(todo)
}

func (s *Store) saveTogether(ctx context.Context, items []state.Item, todo []int, errs []error) {
	var turns []*pendingSave
	for _, i := range todo {
		t, err := s.startSave(ctx, items[i].Key, items[i].Fence, items[i].Fence.IsZero())
		if errs[i] = err; err == nil {
			t.item = i
			turns = append(turns, t)
		}
	}
	// A key whose file must be opened for the batch is only kept open if all can be.
	if s.flusher.all != nil && len(turns) > s.idle.maxOpen {
		s.writeAndClose(items, turns)
	} else {
		inParallel(processors(len(turns)), len(turns), func(n int) { turns[n].write(items[turns[n].item].Checkpoint) })
	}
	s.commitAll(turns)
	for _, t := range turns {
		errs[t.item] = t.end()
	}
}

// writeAndClose closes what was closed before, but for the last file of each
// processor, one of which the flush needs.
func (s *Store) writeAndClose(items []state.Item, turns []*pendingSave) {
	workers := processors(len(turns))
	lasts := make(chan *change, workers)
	for range workers {
		lasts <- nil
	}
	inParallel(workers, len(turns), func(n int) {
		t := turns[n]
		t.closes = t.closed
		t.write(items[t.item].Checkpoint)
		if t.change != nil && t.closes {
			if last := <-lasts; last != nil {
				last.rest()
			}
			lasts <- t.change
		}
	})
}

func (s *Store) commitAll(turns []*pendingSave) {
	var changes []*change
	for _, t := range turns {
		if t.change != nil && t.change.err == nil {
			changes = append(changes, t.change)
		}
	}
	if len(changes) > 0 {
		s.commit(changes)
	}
}

// A pendingSave is a save that has the exclusive use of its key until it ends.
type pendingSave struct {
	s        *Store
	e        *entry
	fence    state.Fence
	unfenced bool
	item     int     // in a batch, which item it is
	closed   bool    // the key's files were closed before
	closes   bool    // and are to be closed again
	change   *change // nil: nothing was written
	err      error
}

// startSave waits for the exclusive use of the key, and for its lock if the save is
// without a lease.
func (s *Store) startSave(ctx context.Context, key string, f state.Fence, unfenced bool) (*pendingSave, error) {
	var e *entry
	var err error
	if unfenced {
		e, err = s.enter(ctx, key)
	} else {
		e, err = s.owned(ctx, key, f)
	}
	if err != nil {
		return nil, err
	}
	t := &pendingSave{s: s, e: e, fence: f, unfenced: unfenced, closed: e.openFiles() == 0}
	if unfenced {
		if err := s.lock(ctx, e); err != nil {
			return nil, errors.Join(err, s.leave(e))
		}
	}
	return t, nil
}

// write begins the change to cp.
func (t *pendingSave) write(cp state.Checkpoint) {
	if t.unfenced {
		if t.err = t.e.refresh(t.s); t.err != nil {
			return
		}
	}
	k := t.e.file
	rec, err := record.Admit(k.rec, t.fence, cp, time.Now())
	if err != nil {
		t.err = err
		return
	}
	rec.Checkpoint = rec.Checkpoint.Clone()
	if t.unfenced && k.rec.Epoch > 0 {
		t.change, t.err = k.beginReplacement(rec) // a checkpoint set by hand
	} else {
		t.change, t.err = k.begin(rec)
	}
}

// end ends the use of the key, and returns the error of the save. After an error
// without a lease it discards what is in memory.
func (t *pendingSave) end() error {
	err := t.err
	if t.change != nil {
		err = t.change.err
	}
	if t.unfenced {
		if err != nil {
			err = errors.Join(err, t.e.forgetFile())
		}
		err = errors.Join(err, t.e.lock.unlock())
	}
	if t.closes {
		err = errors.Join(err, t.e.rest())
	}
	return errors.Join(err, t.s.leave(t.e))
}

// save is a batch of one.
func (s *Store) save(ctx context.Context, key string, f state.Fence, unfenced bool, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return err
	}
	t, err := s.startSave(ctx, key, f, unfenced)
	if err != nil {
		return err
	}
	if t.write(cp); t.change != nil {
		s.commit([]*change{t.change})
	}
	return t.end()
}
