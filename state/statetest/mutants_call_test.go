package statetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// callMutants get lists, batches, contexts, errors, faults and concurrency wrong.
var callMutants = []mutant{
	{"a list without the contents", "List/Checkpoints", entries(func(_ *ref, e state.Entry, _ *kept) (state.Entry, bool) {
		e.Checkpoint = state.Checkpoint{}
		return e, true
	})},
	{"every key twice", "List/Checkpoints", lists(func(all []state.Entry) []state.Entry { return append(all, all...) })},
	{"the prefix is a pattern", "List/Prefix", func(b *bug) {
		b.match = func(key, prefix string) bool {
			ok, _ := path.Match(prefix+"*", strings.ReplaceAll(key, "/", "|"))
			return ok
		}
	}},
	{"the prefix is not looked at", "List/Prefix", func(b *bug) { b.match = func(string, string) bool { return true } }},
	{"the prefix may stand anywhere", "List/Prefix", func(b *bug) {
		b.match = func(key, prefix string) bool { return strings.Contains(strings.ToLower(key), strings.ToLower(prefix)) }
	}},
	{"cleared keys are listed", "List/Cleared", func(b *bug) {
		b.entry = func(s *ref, key string, e *kept) (state.Entry, bool) {
			out, ok := entry(s, key, e)
			if !ok {
				out = state.Entry{Key: key, LoadErr: state.ErrNotFound}
			}
			return out, true
		}
	}},
	{"leased keys are not listed", "List/Leased", entries(func(_ *ref, e state.Entry, k *kept) (state.Entry, bool) { return e, k.rec.Status == record.Saved })},
	{"leased keys without an error", "List/Leased", entries(func(_ *ref, e state.Entry, _ *kept) (state.Entry, bool) { e.LoadErr = nil; return e, true })},
	{"the list names no owners", "List/Owner", entries(func(_ *ref, e state.Entry, _ *kept) (state.Entry, bool) { e.Owner = ""; return e, true })},
	{"the list names old owners", "List/Owner", func(b *bug) {
		b.admitRelease = func(old record.Record, f state.Fence) (record.Record, error) {
			owner := old.Owner
			rec := record.AdmitRelease(old, f)
			rec.Owner = owner
			return rec, nil
		}
		entries(func(_ *ref, e state.Entry, k *kept) (state.Entry, bool) { e.Owner = k.rec.Owner; return e, true })(b)
	}},
	{"the list ends at 50", "List/Many", lists(func(all []state.Entry) []state.Entry { return all[:min(len(all), 50)] })},
	{"the list goes on after a break", "List/Stop", func(b *bug) {
		b.list = func(ctx context.Context, s *ref, prefix string) iter.Seq2[state.Entry, error] {
			return func(yield func(state.Entry, error) bool) {
				all, _ := s.entries(ctx, prefix)
				for _, e := range all {
					yield(e, nil)
				}
			}
		}
	}},
	{"a damaged entry ends the list", "Damage/List", lists(func(all []state.Entry) []state.Entry {
		if i := slices.IndexFunc(all, func(e state.Entry) bool { return e.LoadErr != nil }); i >= 0 {
			return all[:i]
		}
		return all
	})},
	{"a damaged entry is left out", "Damage/List", lists(func(all []state.Entry) []state.Entry {
		return slices.DeleteFunc(all, func(e state.Entry) bool { return e.LoadErr != nil })
	})},

	// Batches.
	{"only the first of a batch", "Batch/SavesAll", func(b *bug) {
		b.batch = func(ctx context.Context, s *ref, items []state.Item) []error {
			batch(ctx, s, items[:min(len(items), 100)])
			return make([]error, len(items))
		}
	}},
	{"one failure fails the whole batch", "Batch/EachItsAnswer", func(b *bug) {
		b.batch = func(ctx context.Context, s *ref, items []state.Item) []error {
			errs := batch(ctx, s, items)
			if err := errors.Join(errs...); err != nil {
				for i := range errs {
					errs[i] = err
				}
			}
			return errs
		}
	}},
	{"the answers in another order", "Batch/EachItsAnswer", func(b *bug) {
		b.batch = func(ctx context.Context, s *ref, items []state.Item) []error {
			errs := batch(ctx, s, items)
			slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			return errs
		}
	}},
	{"a key twice in a batch is taken", "Batch/Twice", func(b *bug) { b.checkBatch = func(items []state.Item) []error { return make([]error, len(items)) } }},
	{"a key twice is refused the second time only", "Batch/Twice", func(b *bug) {
		b.checkBatch = func(items []state.Item) []error {
			errs, seen := make([]error, len(items)), map[string]bool{}
			for i, it := range items {
				if seen[it.Key] {
					errs[i] = state.ErrInvalid
				}
				seen[it.Key] = true
			}
			return errs
		}
	}},
	{"a batch without fences", "Batch/Fenced", func(b *bug) {
		b.batch = func(ctx context.Context, s *ref, items []state.Item) []error {
			items = slices.Clone(items)
			for i := range items {
				items[i].Fence = state.Fence{}
			}
			return batch(ctx, s, items)
		}
	}},
	{"a batch shares memory", "Batch/NoSharedMemory", func(b *bug) { b.keep = same }},
	{"an empty batch is an error", "Batch/Empty", func(b *bug) {
		b.batch = func(ctx context.Context, s *ref, items []state.Item) []error {
			if len(items) == 0 {
				return []error{state.ErrInvalid}
			}
			return batch(ctx, s, items)
		}
	}},

	// Forget and Ping.
	{"Forget keeps the last sequence", "Forget/All", forgets(func(old record.Record) (record.Record, error) {
		return record.Record{LastSequence: old.LastSequence}, nil
	})},
	{"Forget is Clear", "Forget/All", forgets(func(old record.Record) (record.Record, error) {
		old.Status, old.Checkpoint = record.Cleared, state.Checkpoint{}
		return old, nil
	})},
	{"Forget of an absent key is an error", "Forget/Absent", forgets(func(old record.Record) (record.Record, error) {
		if old.IsEmpty() {
			return old, state.ErrNotFound
		}
		return record.Record{}, nil
	})},
	{"Forget under a lease", "Forget/UnderLease", func(b *bug) {
		b.admitForget = func(record.Record, time.Time) (record.Record, error) { return record.Record{}, nil }
	}},
	{"Ping ignores its context", "Ping", ignoresContext("ping")},

	// Contexts.
	{"Save ignores its context", "Context/Save", ignoresContext("save")},
	{"Load ignores its context", "Context/Load", ignoresContext("load")},
	{"Load says not found for an ended context", "Context/Load", errs(func(op string, err error) error {
		if op == "load" && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			return errors.Join(state.ErrNotFound, err)
		}
		return err
	})},
	{"Clear ignores its context", "Context/Clear", ignoresContext("clear")},
	{"Acquire ignores its context", "Context/Acquire", ignoresContext("acquire")},
	{"Renew ignores its context", "Context/Owner", ignoresContext("renew")},
	{"Release ignores its context", "Context/Owner", ignoresContext("release")},
	{"List ignores its context", "Context/List", ignoresContext("list")},
	{"List ends quietly with its context", "Context/List", func(b *bug) {
		b.list = func(ctx context.Context, s *ref, prefix string) iter.Seq2[state.Entry, error] {
			if ctx.Err() != nil {
				return func(func(state.Entry, error) bool) {}
			}
			return list(ctx, s, prefix)
		}
	}},
	{"SaveBatch ignores its context", "Context/Batch", ignoresContext("save")},
	{"Forget ignores its context", "Context/Forget", ignoresContext("forget")},

	// Errors.
	{"bare errors", "Errors/Struct", func(b *bug) { b.fail = func(_, _ string, err error) error { return err } }},
	{"errors without the key", "Errors/Struct", func(b *bug) {
		b.fail = func(op, _ string, err error) error { return &state.Error{Op: op, Store: "ref", Err: err} }
	}},
	{"errors with the stored key", "Errors/Struct", func(b *bug) {
		b.fail = func(op, key string, err error) error {
			return &state.Error{Op: op, Store: "ref", Key: fmt.Sprintf("%x", key), Err: err}
		}
	}},
	{"errors without the store", "Errors/Struct", func(b *bug) {
		b.fail = func(op, key string, err error) error { return &state.Error{Op: op, Key: key, Err: err} }
	}},
	{"stale is fenced as well", "Errors/Sentinel", errs(func(_ string, err error) error {
		if errors.Is(err, state.ErrStale) {
			return fmt.Errorf("%w (or %w)", err, state.ErrFenced)
		}
		return err
	})},
	{"stale is worth retrying", "Errors/Retryable", errs(func(_ string, err error) error {
		if errors.Is(err, state.ErrStale) {
			return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
		}
		return err
	})},
	{"a token in a message", "Errors/NoToken", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			rec, err := record.Admit(old, f, cp, now)
			if err != nil {
				err = fmt.Errorf("%w: %s", err, cp.Token.Raw())
			}
			return rec, err
		}
	}},
	{"a token in the message of a damaged one", "Errors/NoToken", func(b *bug) {
		b.read = func(e *kept) error {
			if err := read(e); err != nil {
				text, _ := json.Marshal(e.rec.Checkpoint.Token.Raw())
				return fmt.Errorf("%w: can't read %s", err, text)
			}
			return nil
		}
	}},

	// Faults.
	{"unreachable is absent", "Break/Unavailable", func(b *bug) { b.down = func(context.Context, *disk) error { return state.ErrNotFound } }},
	{"unreachable is an error of its own", "Break/Retryable", func(b *bug) {
		b.down = func(context.Context, *disk) error { return errors.New("connection refused") }
	}},
	{"unreachable holds a call past its deadline", "Break/Deadline", func(b *bug) {
		var slow sync.Once // one such call is enough to find out
		b.down = func(context.Context, *disk) error {
			slow.Do(func() { time.Sleep(8500 * time.Millisecond) })
			return state.ErrUnavailable
		}
	}},
	{"a failed save loses the old checkpoint", "Break/OldOrNew", func(b *bug) {
		b.down = func(_ context.Context, d *disk) error { clear(d.recs); return state.ErrUnavailable }
	}},
	{"a failed save leaves a mix", "Break/OldOrNew", func(b *bug) {
		b.down = func(_ context.Context, d *disk) error {
			for _, e := range d.recs {
				e.rec.Checkpoint.StartAfter = false
				e.rec.Checkpoint.Fingerprint = sample(2).Fingerprint
			}
			return state.ErrUnavailable
		}
	}},

	// Concurrency.
	{"Save reads and writes in two steps", "Concurrent/Sequenced", twoSteps("save")},
	{"Load gives an older one now and then", "Concurrent/Unordered", func(b *bug) { b.load, b.admit = lagging() }},
	{"Load gives half of the old and half of the new", "Concurrent/NeverAMix", func(b *bug) { b.give = torn() }},
	{"keys lose each other's saves", "Concurrent/ManyKeys", func(b *bug) { b.loads = forgetful() }},
	{"a held-up save comes after Clear", "Concurrent/Clear", twoSteps("save", "clear")},
	{"SaveFenced reads and writes in two steps", "Concurrent/Leases", twoSteps("save")},
	{"Acquire reads and writes in two steps", "Concurrent/OneOwner", twoSteps("acquire")},

	// Close.
	{"works after Close", "Close/ErrClosed", func(b *bug) { b.undead = true }},
	{"Close says nothing of itself in its errors", "Close/ErrClosed", errs(func(_ string, err error) error { return replace(err, state.ErrClosed, state.ErrUnavailable) })},
	{"Close ends every handle", "Close/OthersUntouched", func(b *bug) {
		b.closed = func(s *ref) { s.closed = true; s.d.down = true }
	}},
}

func entries(spoil func(s *ref, e state.Entry, k *kept) (state.Entry, bool)) func(b *bug) {
	return func(b *bug) {
		b.entry = func(s *ref, key string, k *kept) (state.Entry, bool) {
			if e, ok := entry(s, key, k); ok {
				return spoil(s, e, k)
			}
			return state.Entry{}, false
		}
	}
}

func lists(spoil func(all []state.Entry) []state.Entry) func(b *bug) {
	return func(b *bug) {
		b.list = func(ctx context.Context, s *ref, prefix string) iter.Seq2[state.Entry, error] {
			return func(yield func(state.Entry, error) bool) {
				all, err := s.entries(ctx, prefix)
				if err != nil {
					yield(state.Entry{}, err)
					return
				}
				for _, e := range spoil(all) {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

func forgets(other func(old record.Record) (record.Record, error)) func(b *bug) {
	return func(b *bug) {
		b.admitForget = func(old record.Record, now time.Time) (record.Record, error) {
			if _, err := admitForget(old, now); err != nil {
				return old, err
			}
			return other(old)
		}
	}
}

func ignoresContext(of string) func(b *bug) {
	return func(b *bug) { b.heeds = func(op string) bool { return op != of } }
}

func twoSteps(ops ...string) func(b *bug) {
	return func(b *bug) { b.between = func(op string) bool { return slices.Contains(ops, op) } }
}

// lagging gives every fifth Load the checkpoint before the stored one.
func lagging() (func(*record.Record) (state.Checkpoint, error), func(record.Record, state.Fence, state.Checkpoint, time.Time) (record.Record, error)) {
	var before *record.Record
	n := 0
	load := func(rec *record.Record) (state.Checkpoint, error) {
		if n++; n%5 == 0 && before != nil {
			return before.Load()
		}
		return rec.Load()
	}
	return load, func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
		before = &old
		return record.Admit(old, f, cp, now)
	}
}

// torn gives every fifth Load the token of the one before.
func torn() func(state.Checkpoint) state.Checkpoint {
	var last state.Checkpoint
	n := 0
	return func(cp state.Checkpoint) state.Checkpoint {
		cp = cp.Clone()
		mixed := cp
		if n++; n%5 == 0 && !last.Token.IsZero() {
			mixed.Token = last.Token
		}
		last = cp
		return mixed
	}
}

// forgetful puts all keys back to where they were once, now and then. It is found also
// if the scheduler lets one caller after the other do all that it does.
func forgetful() func(d *disk, _ *kept) error {
	var old map[string]*kept
	n := 0
	return func(d *disk, _ *kept) error {
		if n++; n == 20 {
			old = make(map[string]*kept)
			for key, e := range d.recs {
				old[key] = e
			}
		}
		if n%20 == 10 && old != nil {
			for key, e := range old {
				d.recs[key] = e
			}
		}
		return nil
	}
}
