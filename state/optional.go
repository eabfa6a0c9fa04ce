package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// As finds the capability T (an interface of this package, or one that only some
// store has) in s or in the store that s decorates. A decorator exposes the
// decorated store with a method Unwrap() Store, which it may have only if it leaves
// keys and checkpoints unchanged. The capabilities of a store made by [Intercept]
// are intercepted as well.
func As[T any](s Store) (T, bool) {
	for s != nil {
		if c, ok := s.(interface{ capability(any) bool }); ok {
			var t T
			has := c.capability(&t)
			return t, has
		}
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(interface{ Unwrap() Store })
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var none T
	return none, false
}

// List yields the keys of s that begin with prefix, as [Lister] documents. If s is
// no Lister, it yields [errors.ErrUnsupported].
func List(ctx context.Context, s Store, prefix string) iter.Seq2[Entry, error] {
	if l, ok := As[Lister](s); ok {
		return l.List(ctx, prefix)
	}
	return func(yield func(Entry, error) bool) { yield(Entry{}, unsupported(s, "list")) }
}

// SaveBatch saves the items as [BatchSaver] documents, one after the other if s is
// no BatchSaver.
func SaveBatch(ctx context.Context, s Store, items []Item) []error {
	if b, ok := As[BatchSaver](s); ok {
		return b.SaveBatch(ctx, items)
	}
	errs := refuseRepeated(items)
	for i, it := range items {
		switch {
		case errs[i] != nil:
		case it.Fence.IsZero():
			errs[i] = s.Save(ctx, it.Key, it.Checkpoint)
		default:
			if l, ok := As[Leaser](s); ok {
				errs[i] = l.SaveFenced(ctx, it.Key, it.Fence, it.Checkpoint)
			} else {
				errs[i] = unsupported(s, "save under a fence")
			}
		}
	}
	return errs
}

// refuseRepeated returns an error for each item whose key another item has.
func refuseRepeated(items []Item) []error {
	count := make(map[string]int, len(items))
	for _, it := range items {
		count[it.Key]++
	}
	errs := make([]error, len(items))
	for i, it := range items {
		if count[it.Key] > 1 {
			errs[i] = fmt.Errorf("%w: the batch has the key %q more than once", ErrInvalid, it.Key)
		}
	}
	return errs
}

// Forget removes key with all its history, as [Forgetter] documents. If s is no
// Forgetter, it returns [errors.ErrUnsupported].
func Forget(ctx context.Context, s Store, key string) error {
	if f, ok := As[Forgetter](s); ok {
		return f.Forget(ctx, key)
	}
	return unsupported(s, "forget")
}

// Ping checks whether s is available, as [Pinger] documents. If s is no Pinger, it
// returns [errors.ErrUnsupported].
func Ping(ctx context.Context, s Store) error {
	if p, ok := As[Pinger](s); ok {
		return p.Ping(ctx)
	}
	return unsupported(s, "ping")
}

// Close closes s if it is an [io.Closer].
func Close(s Store) error {
	if c, ok := As[io.Closer](s); ok {
		return c.Close()
	}
	return nil
}

func unsupported(s Store, what string) error {
	return fmt.Errorf("state: %T can't %s: %w", s, what, errors.ErrUnsupported)
}
