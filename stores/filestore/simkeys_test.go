package filestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A simKey is a key, and all that its record may be: one thing, unless a call has
// failed. While a call is under way, it may also be what the call makes of it.
type simKey struct {
	name      string
	store     int
	leased    bool // it is mostly written under a lease
	may, next []record.Record
	fences    []state.Fence // all that were granted
}

// like compares with a record in all that a store has to keep.
func like(a record.Record) func(b record.Record) bool {
	return func(b record.Record) bool {
		return a.Status == b.Status && a.LastSequence == b.LastSequence && a.Epoch == b.Epoch && a.Nonce == b.Nonce &&
			a.Owner == b.Owner && a.Checkpoint.Equal(b.Checkpoint)
	}
}

func distinct(rs []record.Record) (out []record.Record) {
	for _, r := range rs {
		if !slices.ContainsFunc(out, like(r)) {
			out = append(out, r)
		}
	}
	return out
}

func brief(r record.Record) string {
	n := int64(0)
	if r.Status == record.Saved {
		n = r.Checkpoint.SavedAt.UnixMilli() - 1794000000000 // as numberedOf makes it
	}
	return fmt.Sprintf("{checkpoint %d, sequence %d of %d, epoch %d %q}", n, r.Checkpoint.Sequence, r.LastSequence, r.Epoch, r.Nonce)
}

func briefs(rs []record.Record) string {
	var b strings.Builder
	for _, r := range rs {
		b.WriteString(brief(r))
	}
	return "[" + b.String() + "]"
}

// An effect is what a call makes of a record if it succeeds, or why it is refused.
type effect func(record.Record) (record.Record, error)

func saving(f state.Fence, cp state.Checkpoint) effect {
	return func(r record.Record) (record.Record, error) { return record.Admit(r, f, cp, time.Time{}) }
}

func clearing(f state.Fence) effect {
	return func(r record.Record) (record.Record, error) {
		r, err := record.AdmitClear(r, f, time.Time{})
		if r.IsEmpty() {
			r = record.Record{}
		}
		return r, err
	}
}

// vanishing is Forget, and a person's rm.
func vanishing(record.Record) (record.Record, error) { return record.Record{}, nil }

func releasing(f state.Fence) effect {
	return func(r record.Record) (record.Record, error) { return record.AdmitRelease(r, f), nil }
}

func renewing(f state.Fence) effect {
	return func(r record.Record) (record.Record, error) {
		_, err := record.AdmitRenew(r, f, time.Minute, time.Time{})
		return r, err
	}
}

func acquiring(q state.LeaseRequest) effect {
	return func(r record.Record) (record.Record, error) {
		r, _, err := admitAcquire(r, q)
		return r, err
	}
}

// of is what an effect makes of any of some records.
func (e effect) of(rs []record.Record) (out []record.Record) {
	for _, r := range rs {
		if r, err := e(r); err == nil {
			out = append(out, r)
		}
	}
	return out
}

// refuses reports whether a call may be refused with err, if r is the record.
func (e effect) refuses(r record.Record, err error) bool {
	if errors.Is(err, state.ErrLeaseHeld) && !errors.Is(err, state.ErrFenced) {
		return r.Nonce != ""
	}
	_, want := e(r)
	for _, refusal := range []error{state.ErrFenced, state.ErrStale} {
		if errors.Is(err, refusal) && errors.Is(want, refusal) {
			return true
		}
	}
	return false
}

// begin says that a call is about to be made.
func (h *history) begin(k *simKey, e effect) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.next = e.of(k.may)
}

// end takes the answer of a call.
func (h *history) end(k *simKey, what string, e effect, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, next := k.may, k.next
	k.next = nil
	switch {
	case err == nil:
		k.may = distinct(next)
	case errors.Is(err, state.ErrUnavailable) && h.failed.Load() > 0:
		next = distinct(append(slices.Clone(k.may), next...))
		k.may = next
	default:
		// A refusal says nothing of the disk: what was read may be in the page cache alone.
		next = slices.DeleteFunc(slices.Clone(k.may), func(r record.Record) bool { return !e.refuses(r, err) })
	}
	h.log = append(h.log, fmt.Sprintf("%.9q %s → %v, %s", k.name, what, err, briefs(k.may)))
	if len(next) == 0 {
		h.fail("wrong answer: it can't be, of %s", briefs(before))
	}
}
