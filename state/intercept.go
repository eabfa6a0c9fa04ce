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

// An Interceptor runs around every call of an intercepted store. It calls next to
// make the call: not at all (a fault), once (a metric), or several times, one after
// the other (a retry), and before it returns. It may be called concurrently.
//
// The error that it returns is the call's error. It can't turn a failure into
// success: if it returns nil and no next has succeeded, the call's error is that of
// the last next, or an [ErrUnavailable] if next was not called. The call's other
// results are those of the last successful next.
//
// For an OpSaveBatch, next's error has those of all items in its chain, and each
// further next sends only the items that have not succeeded yet. If the
// Interceptor's error has next's in its chain, each item keeps its own error;
// otherwise it becomes the error of every item.
type Interceptor = func(ctx context.Context, c Call, next func(context.Context) error) error

// Intercept returns a store whose every call goes through f to s. Retries, metrics
// and faults are one Interceptor each; the outermost is called first.
//
// The store has exactly the capabilities of s, and [As] returns them intercepted as
// well: [Lister], [BatchSaver], [Forgetter], [Pinger], [io.Closer], [Leaser]; and
// [Volatile], [Expirer] and [fmt.Stringer], whose results are s's own. Capabilities that this package
// doesn't know are not passed on, since their calls would bypass f. A List is read
// completely before the first key is yielded, so that it can be repeated. Close has
// no context, so f receives [context.Background].
func Intercept(s Store, f Interceptor) Store { return &intercepted{s, f} }

type intercepted struct {
	inner Store
	f     Interceptor
}

var errNotCalled = fmt.Errorf("%w: the call was intercepted", ErrUnavailable)

// call makes one call through the interceptor.
func (s *intercepted) call(ctx context.Context, c Call, do func(context.Context) error) error {
	last, done := errNotCalled, false
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
	return query(s, ctx, Call{Op: OpLoad, Key: key}, func(ctx context.Context) (Checkpoint, error) {
		return s.inner.Load(ctx, key)
	})
}

func (s *intercepted) Clear(ctx context.Context, key string) error {
	return s.call(ctx, Call{Op: OpClear, Key: key}, func(ctx context.Context) error {
		return s.inner.Clear(ctx, key)
	})
}

// query is call for a method that has another result beside its error.
func query[T any](s *intercepted, ctx context.Context, c Call, do func(context.Context) (T, error)) (T, error) {
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

// capability sets *to, where to points to a variable of the type that [As] looks
// for, if the inner store has that capability. It never exposes the inner store.
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
	case *fmt.Stringer:
		return provide(s, to, func(d fmt.Stringer) fmt.Stringer { return onlyStringer{d.String} })
	case *Reopener:
		return provide(s, to, func(r Reopener) Reopener { return onlyReopener{r.Reopen} })
	case *Legacy:
		return provide(s, to, func(l Legacy) Legacy { return onlyLegacy{l.Legacy} })
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

// The capabilities that are Stores embed *intercepted for the methods of Store, and
// for capability.

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

// A batchError is the error of a batch in which an item failed. Its address
// distinguishes it from every other one.
type batchError struct{ errs []error }

func (e *batchError) Error() string   { return errors.Join(e.errs...).Error() }
func (e *batchError) Unwrap() []error { return e.errs }

func (s interceptedBatchSaver) SaveBatch(ctx context.Context, items []Item) []error {
	errs := make([]error, len(items))
	for i := range errs {
		errs[i] = errNotCalled
	}
	var last *batchError
	err := s.f(ctx, Call{Op: OpSaveBatch, Items: len(items)}, func(ctx context.Context) error {
		last = s.saveFailed(ctx, items, errs)
		if last == nil {
			return nil
		}
		return last
	})
	if err == nil || last != nil && errors.Is(err, last) {
		return errs
	}
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// saveFailed saves the items that have an error in errs, and replaces those. (A key
// that occurs twice is refused again, because both of its items are in the rest.)
func (s interceptedBatchSaver) saveFailed(ctx context.Context, items []Item, errs []error) *batchError {
	var rest []Item
	var at []int
	for i, err := range errs {
		if err != nil {
			rest, at = append(rest, items[i]), append(at, i)
		}
	}
	if len(rest) > 0 {
		for j, err := range s.inner.SaveBatch(ctx, rest) {
			errs[at[j]] = err
		}
	}
	var failed []error
	for _, err := range errs {
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
	return query(s.intercepted, ctx, Call{Op: OpAcquire, Key: key}, func(ctx context.Context) (Grant, error) {
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

// onlyVolatile hides the store that has the method.
type onlyVolatile struct{ volatile func() bool }

func (v onlyVolatile) Volatile() bool { return v.volatile() }

// onlyStringer hides it, too.
type onlyStringer struct{ text func() string }

func (d onlyStringer) String() string { return d.text() }

// onlyExpirer hides it, too.
type onlyExpirer struct{ expires func() time.Duration }

func (e onlyExpirer) Expires() time.Duration { return e.expires() }

// onlyReopener hides it, too.
type onlyReopener struct {
	reopen func(context.Context) (Store, error)
}

func (r onlyReopener) Reopen(ctx context.Context) (Store, error) { return r.reopen(ctx) }

// onlyLegacy hides it, too.
type onlyLegacy struct {
	legacy func(context.Context) ([]string, error)
}

func (l onlyLegacy) Legacy(ctx context.Context) ([]string, error) { return l.legacy(ctx) }
