package filestore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// SaveBatch saves many keys with few flushes: those that are in place share one of
// the whole file system (syncfs), and those whose files are made or grow share it and
// one of the directory. Where the file system isn't known to keep its word about
// syncfs (see the package's documentation), the files are flushed each by itself, many
// at a time.
//
// A flush that fails fails every save that shared it.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := state.CheckBatch(items)
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
	turns := make([]*turn, len(todo))
	for n, i := range todo {
		turns[n], errs[i] = s.turn(ctx, items[i].Key, items[i].Fence, items[i].Fence.IsZero())
	}
	// Of many files only the last one of each processor stays open.
	closing := len(todo) > s.idle.maxOpen && s.flusher.all != nil
	workers := processors(len(todo))
	lasts := make(chan *change, workers)
	for range workers {
		lasts <- nil
	}
	inParallel(workers, len(todo), func(n int) {
		t := turns[n]
		if t == nil {
			return
		}
		t.write(items[todo[n]].Checkpoint)
		if closing && t.change != nil {
			if last := <-lasts; last != nil {
				last.rest()
			}
			lasts <- t.change
		}
	})
	var changes []*change
	for _, t := range turns {
		if t != nil && t.change != nil && t.change.err == nil {
			changes = append(changes, t.change)
		}
	}
	if len(changes) > 0 {
		s.commit(changes)
	}
	for n, t := range turns {
		if t != nil {
			errs[todo[n]] = t.end()
		}
	}
}

// A turn is a save's right to write: the key is its own until it ends.
type turn struct {
	s        *Store
	e        *entry
	fence    state.Fence
	unfenced bool
	change   *change // nil: nothing was written
	err      error
}

// turn waits for the key's turn, and for its lock if the save is without a lease.
func (s *Store) turn(ctx context.Context, key string, f state.Fence, unfenced bool) (*turn, error) {
	t := &turn{s: s, fence: f, unfenced: unfenced}
	var err error
	if !unfenced {
		t.e, err = s.owned(ctx, key, f)
	} else if t.e, err = s.enter(ctx, key); err == nil {
		if err = s.lock(ctx, t.e); err != nil {
			err = errors.Join(err, s.leave(t.e))
		}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// write begins the change to cp.
func (t *turn) write(cp state.Checkpoint) {
	if t.unfenced {
		if t.err = t.e.refresh(t.s); t.err != nil {
			return
		}
	}
	k := t.e.file
	rec, err := state.Admit(k.rec, t.fence, cp, time.Now())
	if err != nil {
		t.err = err
		return
	}
	rec.Checkpoint = rec.Checkpoint.Clone()
	if t.unfenced && k.rec.Epoch > 0 {
		t.change, t.err = k.beginAnew(rec) // a place set by hand
	} else {
		t.change, t.err = k.begin(rec)
	}
}

// end gives the key free, and returns how the save went. After an error without a
// lease, nothing that was in memory is trusted.
func (t *turn) end() error {
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
	return errors.Join(err, t.s.leave(t.e))
}

// save is a batch of one.
func (s *Store) save(ctx context.Context, key string, f state.Fence, unfenced bool, cp state.Checkpoint) error {
	if err := state.CheckSave(key, cp); err != nil {
		return err
	}
	t, err := s.turn(ctx, key, f, unfenced)
	if err != nil {
		return err
	}
	if t.write(cp); t.change != nil {
		s.commit([]*change{t.change})
	}
	return t.end()
}
