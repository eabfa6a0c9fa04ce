package statetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rigatoni-etl/rigatoni/state"
)

var errorCases = []testCase{
	{"Errors/Struct", "Every error is an *Error that wraps one of the sentinels of this package, with the cause from the store's own library in its chain.", errorsStruct},
	{"Errors/Sentinel", "Every error is an *Error that wraps one of the sentinels of this package, with the cause from the store's own library in its chain.", errorsSentinel},
	{"Errors/Retryable", "Retryable reports whether the same call may succeed later without manual intervention.", errorsRetryable},
	{"Errors/NoToken", "Its message never has credentials or the contents of a token.", errorsNoToken},
}

var closeCases = []testCase{
	{"Close/OthersUntouched", "Every call returns another handle on the same data, as another process would have.", closeOthersUntouched},
	{"Close/ErrClosed", "After Close, a store that has that method returns ErrClosed.", closeErrClosed},
}

// An answer is an error that a case provoked.
type answer struct {
	what string
	op   string // what Error.Op must be, "" for anything that isn't empty
	key  string
	want error
	err  error
}

// provoke gives every kind of error that a healthy store gives.
func (t *trial) provoke() []answer {
	s := t.store()
	none, saved := t.key("none"), t.key("saved \"quoted\"\n")
	t.save(s, saved, numbered(1, 10))
	noToken := numbered(2, 11)
	noToken.Token = state.Checkpoint{}.Token
	_, notFound := s.Load(t.ctx, none)
	_, badKey := s.Load(t.ctx, "")
	long := strings.Repeat("k", state.MaxKeyLen+1)
	answers := []answer{
		{"Load of a key that was never saved", "load", none, state.ErrNotFound, notFound},
		{"Load of the empty key", "load", "", state.ErrInvalid, badKey},
		{"Save under the empty key", "save", "", state.ErrInvalid, s.Save(t.ctx, "", sample(1))},
		{"Save under a key that is too long", "save", long, state.ErrInvalid, s.Save(t.ctx, long, sample(1))},
		{"Save without a token", "save", saved, state.ErrInvalid, s.Save(t.ctx, saved, noToken)},
		{"Save with a sequence that is too big", "save", saved, state.ErrInvalid, s.Save(t.ctx, saved, numbered(2, state.MaxSequence+1))},
		{"Save with a lower sequence", "save", saved, state.ErrStale, s.Save(t.ctx, saved, numbered(2, 9))},
		{"Save with the same sequence and another token", "save", saved, state.ErrStale, s.Save(t.ctx, saved, numbered(2, 10))},
		{"Clear of the empty key", "clear", "", state.ErrInvalid, s.Clear(t.ctx, "")},
	}
	if l, ok := state.As[state.Leaser](s); ok {
		answers = append(answers, t.provokeLeases(s, l)...)
	}
	if b, ok := state.As[state.BatchSaver](s); ok {
		twice, stale := t.key("twice"), saved
		items := []state.Item{
			{Key: twice, Checkpoint: sample(1)},
			{Key: twice, Checkpoint: sample(2)},
			{Key: stale, Checkpoint: numbered(3, 1)},
			{Key: "", Checkpoint: sample(3)},
		}
		wants := []error{state.ErrInvalid, state.ErrInvalid, state.ErrStale, state.ErrInvalid}
		for i, err := range b.SaveBatch(t.ctx, items) {
			answers = append(answers, answer{fmt.Sprintf("SaveBatch, item %d", i), "", items[i].Key, wants[i], err})
		}
	}
	return answers
}

func (t *trial) provokeLeases(s *handle, l state.Leaser) []answer {
	key := t.key("leased")
	g := t.acquire(s, key, "first")
	t.saveFenced(s, key, g.Fence, numbered(1, 10))
	_, held := t.ask(s, key, request("second"))
	noNonce := request("second")
	noNonce.Nonce = ""
	_, invalid := t.ask(s, key, noNonce)
	old := state.Fence{Epoch: g.Fence.Epoch + 7, Nonce: "nobody's"}
	answers := []answer{
		{"Acquire of a lease that is held", "acquire", key, state.ErrLeaseHeld, held},
		{"Acquire without a nonce", "acquire", key, state.ErrInvalid, invalid},
		{"Save under a lease", "save", key, state.ErrLeaseHeld, s.Save(t.ctx, key, numbered(2, 11))},
		{"Clear under a lease", "clear", key, state.ErrLeaseHeld, s.Clear(t.ctx, key)},
		{"SaveFenced with a wrong fence", "", key, state.ErrFenced, l.SaveFenced(t.ctx, key, old, numbered(2, 11))},
		{"SaveFenced with a lower sequence", "", key, state.ErrStale, l.SaveFenced(t.ctx, key, g.Fence, numbered(2, 9))},
		{"ClearFenced with a wrong fence", "", key, state.ErrFenced, l.ClearFenced(t.ctx, key, old)},
		{"Renew with a wrong fence", "renew", key, state.ErrFenced, l.Renew(t.ctx, key, old, longLease)},
	}
	if f, ok := state.As[state.Forgetter](s); ok {
		answers = append(answers, answer{"Forget under a lease", "forget", key, state.ErrLeaseHeld, f.Forget(t.ctx, key)})
	}
	return answers
}

func errorsStruct(t *trial) {
	for _, a := range t.provoke() {
		e, ok := errors.AsType[*state.Error](a.err)
		switch {
		case !ok:
			t.errorf("%s: the error %v has no *state.Error in its chain", a.what, a.err)
		case e.Op == "" || a.op != "" && e.Op != a.op:
			t.errorf("%s: Error.Op is %q, want %q", a.what, e.Op, a.op)
		case e.Store == "":
			t.errorf("%s: Error.Store is empty", a.what)
		case e.Key != a.key:
			t.errorf("%s: Error.Key is %.60q, want %.60q", a.what, e.Key, a.key)
		}
	}
}

func errorsSentinel(t *trial) {
	for _, a := range t.provoke() {
		t.want(a.err, a.want, "%s", a.what)
		for _, s := range sentinels {
			if s != a.want && errors.Is(a.err, s) {
				t.errorf("%s: the error is %q, and %q as well: %v", a.what, a.want, s, a.err)
			}
		}
	}
}

func errorsRetryable(t *trial) {
	for _, a := range t.provoke() {
		if e, ok := errors.AsType[*state.Error](a.err); ok && e.Retryable() {
			t.errorf("%s: the error is retryable, though nothing will change by itself: %v", a.what, a.err)
		}
	}
}

// noToken wants nothing of a token to stand in an error, however it is printed.
func (t *trial) noToken(what string, err error) {
	for ; err != nil; err = errors.Unwrap(err) {
		for _, format := range []string{"%v", "%+v", "%#v"} {
			if found := leak(fmt.Sprintf(format, err)); found != "" {
				t.errorf("%s: the error's message has %s in it", what, found)
				return
			}
		}
	}
}

func errorsNoToken(t *trial) {
	for _, a := range t.provoke() {
		t.noToken(a.what, a.err)
	}
	s := t.store()
	big := numbered(1, state.MaxSequence+1)
	t.noToken("Save with a sequence that is too big", s.Save(t.ctx, t.key("k"), big))
	if t.h.Damage == nil {
		return
	}
	key := t.damaged("damaged", sample(1))
	_, err := s.Load(t.ctx, key)
	t.noToken("Load of a damaged checkpoint", err)
}

func closeOthersUntouched(t *trial) {
	if t.h.Volatile {
		t.skipf("the data dies with the handle (Harness.Volatile)")
	}
	a, b, key := t.open(), t.open(), t.key("k")
	t.save(a, key, sample(1))
	t.close(a)
	t.wantLoad(b, key, sample(1), 0)
	t.save(b, key, sample(2))
	t.wantLoad(t.open(), key, sample(2), 0)
}

func closeErrClosed(t *trial) {
	s := t.store()
	capability[interface{ Close() error }](t, s, "io.Closer")
	key := t.key("k")
	var fence state.Fence
	if _, ok := state.As[state.Leaser](s); ok {
		g := t.acquire(s, key, "first")
		t.saveFenced(s, key, g.Fence, sample(1))
		t.release(s, key, g.Fence)
		fence = g.Fence
	} else {
		t.save(s, key, sample(1))
	}
	t.close(s)
	for what, err := range t.everyCall(s, key, fence) {
		t.want(err, state.ErrClosed, "%s after Close", what)
	}
	if _, err := s.Load(t.ctx, t.key("never saved")); errors.Is(err, state.ErrNotFound) {
		t.errorf("Load after Close says that there is no checkpoint: %v", err)
	}
}

// everyCall does one call of each kind, all of which are valid, and gives their
// errors. It does them at the same time: a store that can't be reached may let each wait.
func (t *trial) everyCall(s *handle, key string, fence state.Fence) map[string]error {
	return t.atOnce(t.callsOf(s, key, fence))
}

// atOnce makes calls at the same time, and gives their errors.
func (t *trial) atOnce(calls map[string]func() error) map[string]error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := map[string]error{}
	for what, call := range calls {
		wg.Go(func() {
			defer t.catch()
			err := call()
			mu.Lock()
			defer mu.Unlock()
			errs[what] = err
		})
	}
	wg.Wait()
	return errs
}

func (t *trial) callsOf(s *handle, key string, fence state.Fence) map[string]func() error {
	calls := map[string]func() error{
		"Load":  func() error { _, err := s.Load(t.ctx, key); return err },
		"Save":  func() error { return s.Save(t.ctx, key, sample(2)) },
		"Clear": func() error { return s.Clear(t.ctx, key) },
	}
	if l, ok := state.As[state.Leaser](s); ok {
		calls["Renew"] = func() error { return l.Renew(t.ctx, key, fence, longLease) }
		calls["SaveFenced"] = func() error { return l.SaveFenced(t.ctx, key, fence, sample(2)) }
		calls["ClearFenced"] = func() error { return l.ClearFenced(t.ctx, key, fence) }
		calls["Release"] = func() error { return l.Release(t.ctx, key, fence) }
		calls["Acquire"] = func() error { _, err := t.ask(s, key, request("late")); return err }
	}
	if l, ok := state.As[state.Lister](s); ok {
		calls["List"] = func() (last error) {
			for _, err := range l.List(t.ctx, t.keys) {
				last = err
			}
			return last
		}
	}
	if b, ok := state.As[state.BatchSaver](s); ok {
		calls["SaveBatch"] = func() error {
			return errors.Join(b.SaveBatch(t.ctx, []state.Item{{Key: key, Checkpoint: sample(2)}})...)
		}
	}
	if f, ok := state.As[state.Forgetter](s); ok {
		calls["Forget"] = func() error { return f.Forget(t.ctx, key) }
	}
	if p, ok := state.As[state.Pinger](s); ok {
		calls["Ping"] = func() error { return p.Ping(t.ctx) }
	}
	return calls
}
