package filestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A holding is what a key holds.
type holding struct {
	saved call // n is 0: no checkpoint
	last  int  // the last sequence
	epoch uint64
	live  bool // there is a current fence
}

// after is what p is once the call has been made.
func (c call) after(p holding) holding {
	switch c.op {
	case "save", "plain-save", "clear":
		if p.live { // its owner is shut out
			p.epoch, p.live = p.epoch+1, false
		}
	case "acquire":
		p.epoch, p.live = p.epoch+1, true
	case "release":
		p.live = false
	case "forget":
		return holding{}
	}
	switch c.op {
	case "save", "save-fenced":
		p.saved, p.last = c, c.n
	case "plain-save":
		p.saved = c
	case "clear", "clear-fenced":
		p.saved = call{}
	}
	return p
}

// An account is what must be true of one key.
type account struct {
	// now is what it may hold in the running system, and kept what it may hold after
	// a power cut. Both have the same checkpoint, unless a call was not acknowledged.
	now, kept []holding

	call    *call // under way
	cut     bool  // a call was not acknowledged since the key was last written
	damaged bool  // one of its lines was found damaged, and it wasn't written since
}

// A ledger follows what a life says of its calls. The same keys may have one life after
// the other.
type ledger struct {
	keys  map[string]*account
	acked int
}

func newLedger() *ledger { return &ledger{keys: map[string]*account{}} }

func (l *ledger) account(key string) *account {
	if l.keys[key] == nil {
		l.keys[key] = &account{now: []holding{{}}, kept: []holding{{}}}
	}
	return l.keys[key]
}

// read takes down a line of a life, without its end. A call that failed is an error
// unless calls may fail by now.
func (l *ledger) read(line string, mayFail bool) error {
	what, rest, _ := strings.Cut(line, " ")
	key, rest, _ := strings.Cut(rest, " ")
	a := l.account(key)
	switch what {
	case "begin":
		c := call{key: key}
		if _, err := fmt.Sscan(rest, &c.op, &c.n, &c.size); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		return a.begin(c)
	case "done":
		epoch, err := strconv.ParseUint(rest, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		l.acked++
		return a.done(epoch)
	case "failed":
		if a.fail(); mayFail {
			return nil
		}
	}
	return fmt.Errorf("the child says %q", line)
}

func (a *account) begin(c call) error {
	if a.call != nil {
		return fmt.Errorf("%s: a call begins while another is under way", c.key)
	}
	a.call = &c
	return nil
}

func (a *account) end() []holding {
	var after []holding
	for _, p := range a.now {
		after = append(after, a.call.after(p))
	}
	a.call = nil
	return after
}

func (a *account) done(epoch uint64) error {
	c := *a.call
	a.now = union(a.end())
	if c.op == "acquire" {
		a.now = slices.DeleteFunc(a.now, func(p holding) bool { return p.epoch != epoch })
		if len(a.now) == 0 {
			return fmt.Errorf("%s: epoch %d was granted after %v", c.key, epoch, a.kept)
		}
	}
	if c.op != "renew" {
		a.kept, a.cut, a.damaged = a.now, false, false
	}
	return nil
}

// fail leaves open whether the call was made.
func (a *account) fail() {
	a.now = union(a.now, a.end())
	a.kept, a.cut = union(a.kept, a.now), true
}

func union(lists ...[]holding) (all []holding) {
	for _, p := range slices.Concat(lists...) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// died ends the calls that were under way.
func (l *ledger) died() {
	for _, a := range l.keys {
		if a.call != nil {
			a.fail()
		}
	}
}

// check looks whether every key holds what it must, after a kill or a power cut.
func (l *ledger) check(t testing.TB, s *Store, powerCut bool) error {
	var errs []error
	for key, a := range l.keys {
		if powerCut {
			a.now = a.kept
		}
		if err := a.check(t, s, key); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
			continue
		}
		if powerCut {
			a.kept = a.now
		}
	}
	return errors.Join(errs...)
}

func (a *account) check(t testing.TB, s *Store, key string) error {
	f, err := s.readShared(context.Background(), key, s.path(key))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	if f.bad != nil && !a.cut && !a.damaged {
		return fmt.Errorf("no call was cut off, and %w", f.bad)
	}
	a.damaged = f.bad != nil
	var now []holding
	for _, p := range a.now {
		if p.is(t, f.rec) {
			now = append(now, p)
		}
	}
	if len(now) == 0 {
		return fmt.Errorf("it holds %v, and should hold %v", seen(f.rec), a.now)
	}
	a.now = now
	return nil
}

// is reports whether a record is that of the holding, in all fields.
func (p holding) is(t testing.TB, rec record.Record) bool {
	if rec.Epoch != p.epoch || rec.LastSequence != uint64(p.last) || (rec.Nonce != "") != p.live {
		return false
	}
	cp, err := rec.Load()
	if p.saved.n == 0 || err != nil {
		return p.saved.n == 0 && errors.Is(err, state.ErrNotFound)
	}
	want := p.saved.checkpoint(t)
	want.Epoch = cp.Epoch // of when it was saved, and not of interest
	return cp.Equal(want)
}

func (p holding) String() string {
	what := "no checkpoint"
	if p.saved.n > 0 {
		what = fmt.Sprintf("checkpoint %d (%d bytes)", p.saved.n, p.saved.size)
	}
	return fmt.Sprintf("{%s, last sequence %d, epoch %d, fence %v}", what, p.last, p.epoch, p.live)
}

// seen describes a record as a holding is described.
func seen(rec record.Record) string {
	what := "no checkpoint"
	if cp, err := rec.Load(); err == nil {
		what = fmt.Sprintf("the checkpoint of sequence %d, saved at %d", cp.Sequence, cp.SavedAt.UnixMilli()-1794000000000)
	}
	return fmt.Sprintf("{%s, last sequence %d, epoch %d, fence %v}", what, rec.LastSequence, rec.Epoch, rec.Nonce != "")
}
