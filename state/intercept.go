package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// An Op is an operation of a store, as [Call] names it.
type Op string

const (
	OpSave      Op = "save" // Save and SaveFenced
	OpLoad      Op = "load"
	OpClear     Op = "clear" // Clear and ClearFenced
	OpAcquire   Op = "acquire"
	OpRenew     Op = "renew"
	OpRelease   Op = "release"
	OpList      Op = "list"
	OpSaveBatch Op = "savebatch"
	OpForget    Op = "forget"
	OpPing      Op = "ping"
	OpClose     Op = "close"
)

// A Call is one call of a store's method, as an [Interceptor] sees it.
type Call struct {
	Op Op
	// Key is the key; the prefix for OpList; and "" for OpSaveBatch, OpPing and
	// OpClose.
	Key string
	// Fence is the fence of a renewal, a release, and a fenced save or clear.
	Fence Fence
	// Items is the number of items of an OpSaveBatch, and otherwise 0.
	Items int
}

// An Interceptor is what stands around every call of an intercepted store. It
// calls next to let the call through: not at all (a fault), once (a metric), or
// several times, one after the other (a retry), before it returns. It may be
// called concurrently.
//
// The error that it returns is the call's error. It can't turn a failure into
// success: if it returns nil and next never has, the call's error is the last
// that next gave, or an [ErrUnavailable] if next was not called. What the call
// returns beside its error comes from the last successful next.
//
// For a savebatch, next's error has those of all items in its chain, and each
// further next sends only the items that have not succeeded yet. An error of the
// Interceptor that has next's in its chain leaves each item with its own answer; any
// other is given to all.
type Interceptor = func(ctx context.Context, c Call, next func(context.Context) error) error

// Intercept returns a store whose every call goes through f to s. Retry,
// metrics and faults are one Interceptor each; the outermost is called first.
//
// The store has exactly the capabilities of s, and [As] returns them
// intercepted as well: [Lister], [BatchSaver], [Forgetter], [Pinger],
// [io.Closer], [Leaser]; and [Volatile] and [Expirer], whose answers are s's own. A capability
// that this package doesn't know isn't passed on, since it would go around f. A
// List is gathered whole before the first key is yielded, so that it can be
// repeated. Close has no context, and f is given [context.Background].
func Intercept(s Store, f Interceptor) Store { return &intercepted{s, f} }

type intercepted struct {
	inner Store
	f     Interceptor
}

var errUnasked = fmt.Errorf("%w: the call was intercepted", ErrUnavailable)

// call takes one call through the interceptor.
func (s *intercepted) call(ctx context.Context, c Call, do func(context.Context) error) error {
	last, done := errUnasked, false
	err := s.f(ctx, c, func(ctx context.Context) error {
		last = do(ctx)
		done = done || last == nil
		return last
	})
	if err == nil && !done {
		return last
	}
	return err
}

func (s *intercepted) Save(ctx context.Context, key string, cp Checkpoint) error {
	return s.call(ctx, Call{Op: OpSave, Key: key}, func(ctx context.Context) error {
		return s.inner.Save(ctx, key, cp)
	})
}

func (s *intercepted) Load(ctx context.Context, key string) (Checkpoint, error) {
	return ask(s, ctx, Call{Op: OpLoad, Key: key}, func(ctx context.Context) (Checkpoint, error) {
		return s.inner.Load(ctx, key)
	})
}

func (s *intercepted) Clear(ctx context.Context, key string) error {
	return s.call(ctx, Call{Op: OpClear, Key: key}, func(ctx context.Context) error {
		return s.inner.Clear(ctx, key)
	})
}

// ask is call for a method that returns something beside its error.
func ask[T any](s *intercepted, ctx context.Context, c Call, do func(context.Context) (T, error)) (T, error) {
	var got, none T
	err := s.call(ctx, c, func(ctx context.Context) error {
		v, err := do(ctx)
		if err == nil {
			got = v
		}
		return err
	})
	if err != nil {
		return none, err
	}
	return got, nil
}

// capability fills in *to, a pointer to a variable of the type that [As] looks
// for, if the inner store has that capability. What it gives is never the inner
// store itself.
func (s *intercepted) capability(to any) bool {
	switch to := to.(type) {
	case *Store:
		*to = s
		return true
	case *Lister:
		return provide(s, to, func(l Lister) Lister { return interceptedLister{s, l} })
	case *BatchSaver:
		return provide(s, to, func(b BatchSaver) BatchSaver { return interceptedBatchSaver{s, b} })
	case *Forgetter:
		return provide(s, to, func(f Forgetter) Forgetter { return interceptedForgetter{s, f} })
	case *Leaser:
		return provide(s, to, func(l Leaser) Leaser { return interceptedLeaser{s, l} })
	case *Pinger:
		return provide(s, to, func(p Pinger) Pinger { return interceptedPinger{s, p} })
	case *io.Closer:
		return provide(s, to, func(c io.Closer) io.Closer { return interceptedCloser{s, c} })
	case *Volatile:
		return provide(s, to, func(v Volatile) Volatile { return onlyVolatile{v.Volatile} })
	case *Expirer:
		return provide(s, to, func(e Expirer) Expirer { return onlyExpirer{e.Expires} })
	}
	return false
}

func provide[T any](s *intercepted, to *T, wrap func(T) T) bool {
	inner, ok := As[T](s.inner)
	if ok {
		*to = wrap(inner)
	}
	return ok
}

type interceptedLister struct {
	*intercepted
	inner Lister
}

func (s interceptedLister) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var entries []Entry
		err := s.call(ctx, Call{Op: OpList, Key: prefix}, func(ctx context.Context) error {
			entries = nil
			for e, err := range s.inner.List(ctx, prefix) {
				if err != nil {
					return err
				}
				entries = append(entries, e)
			}
			return nil
		})
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

type interceptedBatchSaver struct {
	*intercepted
	inner BatchSaver
}

// A batchError is the error of a batch in which an item failed. It is told
// from every other one by its address.
type batchError struct{ errs []error }

func (e *batchError) Error() string   { return errors.Join(e.errs...).Error() }
func (e *batchError) Unwrap() []error { return e.errs }

func (s interceptedBatchSaver) SaveBatch(ctx context.Context, items []Item) []error {
	answers := make([]error, len(items))
	for i := range answers {
		answers[i] = errUnasked
	}
	var last *batchError
	err := s.f(ctx, Call{Op: OpSaveBatch, Items: len(items)}, func(ctx context.Context) error {
		last = s.saveRest(ctx, items, answers)
		if last == nil {
			return nil
		}
		return last
	})
	if err == nil || last != nil && errors.Is(err, last) {
		return answers
	}
	for i := range answers {
		answers[i] = err
	}
	return answers
}

// saveRest saves the items that have an error in answers, and puts the new
// answers there. (A key that stands there twice is refused again: both are left.)
func (s interceptedBatchSaver) saveRest(ctx context.Context, items []Item, answers []error) *batchError {
	var rest []Item
	var at []int
	for i, err := range answers {
		if err != nil {
			rest, at = append(rest, items[i]), append(at, i)
		}
	}
	if len(rest) > 0 {
		for j, err := range s.inner.SaveBatch(ctx, rest) {
			answers[at[j]] = err
		}
	}
	var failed []error
	for _, err := range answers {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if failed == nil {
		return nil
	}
	return &batchError{failed}
}

type interceptedForgetter struct {
	*intercepted
	inner Forgetter
}

func (s interceptedForgetter) Forget(ctx context.Context, key string) error {
	return s.call(ctx, Call{Op: OpForget, Key: key}, func(ctx context.Context) error {
		return s.inner.Forget(ctx, key)
	})
}

type interceptedLeaser struct {
	*intercepted
	inner Leaser
}

func (s interceptedLeaser) Acquire(ctx context.Context, key string, r LeaseRequest) (Grant, error) {
	return ask(s.intercepted, ctx, Call{Op: OpAcquire, Key: key}, func(ctx context.Context) (Grant, error) {
		return s.inner.Acquire(ctx, key, r)
	})
}

func (s interceptedLeaser) Renew(ctx context.Context, key string, f Fence, ttl time.Duration) error {
	return s.call(ctx, Call{Op: OpRenew, Key: key, Fence: f}, func(ctx context.Context) error {
		return s.inner.Renew(ctx, key, f, ttl)
	})
}

func (s interceptedLeaser) Release(ctx context.Context, key string, f Fence) error {
	return s.call(ctx, Call{Op: OpRelease, Key: key, Fence: f}, func(ctx context.Context) error {
		return s.inner.Release(ctx, key, f)
	})
}

func (s interceptedLeaser) SaveFenced(ctx context.Context, key string, f Fence, cp Checkpoint) error {
	return s.call(ctx, Call{Op: OpSave, Key: key, Fence: f}, func(ctx context.Context) error {
		return s.inner.SaveFenced(ctx, key, f, cp)
	})
}

func (s interceptedLeaser) ClearFenced(ctx context.Context, key string, f Fence) error {
	return s.call(ctx, Call{Op: OpClear, Key: key, Fence: f}, func(ctx context.Context) error {
		return s.inner.ClearFenced(ctx, key, f)
	})
}

type interceptedPinger struct {
	s     *intercepted
	inner Pinger
}

func (p interceptedPinger) Ping(ctx context.Context) error {
	return p.s.call(ctx, Call{Op: OpPing}, p.inner.Ping)
}

type interceptedCloser struct {
	s     *intercepted
	inner io.Closer
}

func (c interceptedCloser) Close() error {
	return c.s.call(context.Background(), Call{Op: OpClose}, func(context.Context) error { return c.inner.Close() })
}

// onlyVolatile hides the store that the answer comes from.
type onlyVolatile struct{ volatile func() bool }

func (v onlyVolatile) Volatile() bool { return v.volatile() }

// onlyExpirer does so too.
type onlyExpirer struct{ expires func() time.Duration }

func (e onlyExpirer) Expires() time.Duration { return e.expires() }
