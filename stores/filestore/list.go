package filestore

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

// List reads every file of the directory whose name this store makes. A key whose
// file is damaged and whose name is too long to be read back from the file's has the
// key "" in its Entry; the path is in its error.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		names, err := s.listNames(ctx)
		if err != nil {
			yield(state.Entry{}, s.fail("list", "", err))
			return
		}
		for _, name := range names {
			if err := s.checkOpen(ctx); err != nil {
				yield(state.Entry{}, s.fail("list", "", err))
				return
			}
			if e, ok := s.listed(ctx, strings.TrimSuffix(name, dataSuffix), prefix); ok && !yield(e, nil) {
				return
			}
		}
	}
}

func (s *Store) listNames(ctx context.Context) ([]string, error) {
	if err := s.checkOpen(ctx); err != nil {
		return nil, err
	}
	if err := s.checkDir(); err != nil {
		return nil, err
	}
	all, err := s.sys.Names(s.dir)
	if err != nil {
		return nil, unavailable(err)
	}
	names := all[:0]
	for _, name := range all {
		if strings.HasSuffix(name, dataSuffix) {
			names = append(names, name)
		}
	}
	return names, nil
}

func (s *Store) checkOpen(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosed() {
		return state.ErrClosed
	}
	return nil
}

// listed is the entry of the key with a stem, if there is one to be listed.
func (s *Store) listed(ctx context.Context, stem, prefix string) (state.Entry, bool) {
	key, ok := unescape(stem)
	if !ok {
		begin, long := isLongStem(stem)
		if !long || !strings.HasPrefix(begin, prefix) && !strings.HasPrefix(prefix, begin) {
			return state.Entry{}, false
		}
		return s.listedLong(ctx, stem, prefix)
	}
	if !strings.HasPrefix(key, prefix) {
		return state.Entry{}, false
	}
	return s.listedKey(ctx, key)
}

// listedLong finds the key of a long stem inside the file.
func (s *Store) listedLong(ctx context.Context, name, prefix string) (state.Entry, bool) {
	path := filepath.Join(s.dir, name+dataSuffix)
	key, err := s.keyInside(ctx, name, path)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return state.Entry{}, false
	case err != nil:
		return state.Entry{LoadErr: s.fail("load", "", err)}, true
	case !strings.HasPrefix(key, prefix):
		return state.Entry{}, false
	}
	return s.listedKey(ctx, key)
}

// keyInside reads which key a file is of. That the name is this key's own is what
// tells the file from a copy of another.
func (s *Store) keyInside(ctx context.Context, name, path string) (string, error) {
	text, _, err := readFile(s.sys, path)
	if err != nil {
		return "", s.absent(err)
	}
	for _, half := range [][]byte{text[:len(text)/2], text[len(text)/2:]} {
		sl := readSlot(half)
		if sl.err != nil {
			continue
		}
		if _, key, err := sl.parse(); err == nil && stem(key) == name {
			return key, nil
		}
	}
	// No key is the empty one, so this says what is wrong.
	if _, err := s.readShared(ctx, "", path); err != nil {
		return "", err
	}
	return "", corrupt(path, "has a name that belongs to no key", adviceDamaged)
}

func (s *Store) listedKey(ctx context.Context, key string) (state.Entry, bool) {
	e := state.Entry{Key: key}
	cp, err := s.Load(ctx, key)
	owner, lockErr := s.ownerOf(key)
	e.Checkpoint, e.Owner, e.LoadErr = cp, owner, err
	if err == nil && lockErr != nil {
		e.Checkpoint, e.LoadErr = state.Checkpoint{}, s.fail("load", key, lockErr)
	}
	return e, owner != "" || !errors.Is(err, state.ErrNotFound)
}

func (s *Store) ownerOf(key string) (string, error) {
	s.mu.Lock()
	if e := s.entries[key]; e != nil && e.lease != nil {
		defer s.mu.Unlock()
		return e.lease.holder.Owner, nil
	}
	s.mu.Unlock()
	h, err := s.liveHolder(s.lockPath(key))
	return h.Owner, err
}
