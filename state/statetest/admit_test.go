package statetest

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A ledger remembers all that the rule book ever answered for one key, and is
// asked what it must never have done. It knows nothing of how a record looks.
type ledger struct {
	t    *testing.T
	seed uint64

	epochs   uint64      // the greatest epoch granted
	sequence uint64      // the greatest sequence accepted
	owner    state.Fence // of the last grant that was not released or shut out
	until    time.Time   // when its lease runs out
	gone     map[state.Fence]bool
	place    *state.Checkpoint // what Load must give; nil: nothing
}

func (l *ledger) must(ok bool, what string) {
	l.t.Helper()
	if !ok {
		l.t.Fatalf("%s is wrong (seed %d): epochs to %d, sequences to %d, owner %+v until %v", what, l.seed, l.epochs, l.sequence, l.owner, l.until)
	}
}

func (l *ledger) live(now time.Time) bool { return !l.owner.IsZero() && now.Before(l.until) }

// write judges the answer to a save or clear under f.
func (l *ledger) write(f state.Fence, now time.Time, err error) (accepted bool) {
	l.t.Helper()
	switch {
	case f.IsZero() && l.live(now):
		l.must(errors.Is(err, state.ErrLeaseHeld), "an unfenced write under a lease")
	case !f.IsZero() && f != l.owner:
		l.must(errors.Is(err, state.ErrFenced), "a write under a fence that is not the current one")
	default:
		l.must(!errors.Is(err, state.ErrFenced) && !errors.Is(err, state.ErrLeaseHeld), "a write of somebody who may")
		if err == nil && f.IsZero() && !l.owner.IsZero() { // shut out
			l.gone[l.owner], l.owner = true, state.Fence{}
			l.epochs++
		}
		return err == nil
	}
	return false
}

func (l *ledger) save(f state.Fence, cp state.Checkpoint, now time.Time, err error) {
	l.t.Helper()
	accepted := l.write(f, now, err)
	repeated := l.place != nil && l.place.Sequence == cp.Sequence && l.place.Token == cp.Token
	late := cp.Sequence != 0 && (cp.Sequence < l.sequence || cp.Sequence == l.sequence && !repeated)
	if accepted {
		l.must(!late, "a stale save was accepted")
		l.sequence = max(l.sequence, cp.Sequence)
		l.place = &cp
	} else if errors.Is(err, state.ErrStale) {
		l.must(late, "a save was called stale that is not")
	}
}

func (l *ledger) acquired(r state.LeaseRequest, g state.Grant, now time.Time, err error) {
	l.t.Helper()
	if l.live(now) && r.Nonce != l.owner.Nonce && !r.Steal {
		l.must(errors.Is(err, state.ErrLeaseHeld), "a lease that is held")
		return
	}
	l.must(err == nil, "a lease that is free")
	if r.Nonce == l.owner.Nonce {
		l.must(g.Fence == l.owner, "the same nonce again")
	} else {
		l.must(g.Fence.Epoch > l.epochs && g.Fence.Nonce == r.Nonce && !l.gone[g.Fence], "a new fence")
		l.gone[l.owner] = true
	}
	l.must(g.LastSequence == l.sequence, "the grant's last sequence")
	l.must((g.LoadErr == nil) == (l.place != nil) && (l.place == nil || g.Checkpoint.Token == l.place.Token), "the grant's checkpoint")
	l.epochs, l.owner, l.until = g.Fence.Epoch, g.Fence, now.Add(r.TTL)
}

// TestAdmit plays random histories against the rule book itself.
func TestAdmit(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	tokens := []resumetoken.Token{token(0), token(1), token(2)}
	for range 800 {
		l := &ledger{t: t, seed: seed, gone: map[state.Fence]bool{}}
		var rec record.Record
		now := time.UnixMilli(1_700_000_000_000)
		fences := []state.Fence{{}, {}, {Epoch: 1, Nonce: "forged"}}
		for range 60 {
			now = now.Add(time.Duration(r.IntN(8)) * time.Second)
			f := fences[len(fences)-1-r.IntN(min(len(fences), 4))]
			before := rec
			var next record.Record
			var err error
			switch r.IntN(7) {
			case 0, 1, 2:
				cp := state.Checkpoint{Token: tokens[r.IntN(3)], Epoch: r.Uint64N(9)}
				if r.IntN(4) != 0 {
					cp.Sequence = rec.LastSequence + r.Uint64N(4) - min(rec.LastSequence, 2)
				}
				next, err = record.Admit(rec, f, cp, now)
				l.save(f, cp, now, err)
				if err == nil {
					got, _ := next.Load()
					l.must(got.Epoch == next.Epoch && !got.SavedAt.IsZero(), "what the store fills in")
				}
			case 3:
				next, err = record.AdmitClear(rec, f, now)
				if l.write(f, now, err) {
					l.place = nil
				}
			case 4:
				ask := state.LeaseRequest{Owner: "o", Nonce: string(rune('a' + r.IntN(6))), TTL: 10 * time.Second, Steal: r.IntN(4) == 0}
				var g state.Grant
				next, g, err = record.AdmitAcquire(rec, ask, now)
				l.acquired(ask, g, now, err)
				if err == nil {
					fences = append(fences, g.Fence)
				}
			case 5:
				next, err = record.AdmitRenew(rec, f, 10*time.Second, now)
				current := !f.IsZero() && f == l.owner
				l.must((err == nil) == current, "a renewal")
				if current {
					l.until = now.Add(10 * time.Second)
				}
			case 6:
				next = record.AdmitRelease(rec, f)
				if !f.IsZero() && f == l.owner {
					l.gone[f], l.owner = true, state.Fence{}
				}
			}
			if err == nil {
				rec = next
			}
			l.must(rec.Epoch >= before.Epoch && rec.LastSequence >= before.LastSequence, "epoch or last sequence went back")
			l.must(rec.Fence() == l.owner && rec.Live(now) == l.live(now), "who the owner is")
			got, err := rec.Load()
			l.must((err == nil) == (l.place != nil) && (err != nil || got.Token == l.place.Token && got.Sequence == l.place.Sequence), "what Load gives")
		}
	}
}
