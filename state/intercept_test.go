package state_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

var errLost = errors.New("the answer was lost")

// logged is an interceptor that notes each call.
func logged(log *[]string, name string) state.Interceptor {
	return func(ctx context.Context, c state.Call, next func(context.Context) error) error {
		err := next(ctx)
		line := name + string(c.Op) + " " + c.Key
		if !c.Fence.IsZero() {
			line += fmt.Sprintf(" fence %d", c.Fence.Epoch)
		}
		if c.Items != 0 {
			line += fmt.Sprintf(" items %d", c.Items)
		}
		*log = append(*log, line)
		return err
	}
}

func retrying(n int) state.Interceptor {
	return func(ctx context.Context, _ state.Call, next func(context.Context) error) (err error) {
		for range n {
			if err = next(ctx); !errors.Is(err, state.ErrUnavailable) {
				return err
			}
		}
		return err
	}
}

func must[T any](t testing.TB, s state.Store) T {
	t.Helper()
	c, ok := state.As[T](s)
	if !ok {
		t.Fatalf("no %s", reflect.TypeFor[T]())
	}
	return c
}

// Every call of every capability goes through.
func TestInterceptEveryCall(t *testing.T) {
	ctx := t.Context()
	cp := state.Checkpoint{Token: token(t)}
	var log []string
	fake := newFake()
	s := state.Intercept(fake, logged(&log, ""))
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.Save(ctx, "k", cp))
	got, err := s.Load(ctx, "k")
	check(err)
	if got.Token != cp.Token {
		t.Error("Load gave another checkpoint")
	}
	l := must[state.Leaser](t, s)
	g, err := l.Acquire(ctx, "k", state.LeaseRequest{Nonce: "n", TTL: time.Hour})
	check(err)
	check(l.Renew(ctx, "k", g.Fence, time.Hour))
	check(l.SaveFenced(ctx, "k", g.Fence, cp))
	check(l.ClearFenced(ctx, "k", g.Fence))
	check(l.Release(ctx, "k", g.Fence))
	check(l.Clear(ctx, "k")) // through the capability, too
	check(errors.Join(state.SaveBatch(ctx, s, []state.Item{{Key: "k", Checkpoint: cp}, {Key: "l", Checkpoint: cp}})...))
	var keys []string
	for e, err := range state.List(ctx, s, "") {
		check(err)
		keys = append(keys, e.Key)
	}
	if !slices.Equal(keys, []string{"k", "l"}) {
		t.Errorf("List gave %q", keys)
	}
	check(state.Forget(ctx, s, "k"))
	check(state.Ping(ctx, s))
	check(state.Close(s))
	if v := must[state.Volatile](t, s); !v.Volatile() || !fake.closed {
		t.Error("Volatile or Close didn't reach the store")
	}
	if e := must[state.Expirer](t, s); e.Expires() != time.Minute {
		t.Error("Expires didn't reach the store")
	}
	if names, err := must[state.Legacy](t, s).Legacy(ctx); err != nil || !slices.Equal(names, []string{"old"}) {
		t.Errorf("Legacy gave %q, %v", names, err)
	}
	if d := must[fmt.Stringer](t, s); d.String() != "fake:" {
		t.Error("String didn't reach the store")
	}
	if now, err := must[state.Reopener](t, s).Reopen(ctx); err != nil || now == nil || now == state.Store(fake) {
		t.Errorf("Reopen gave %v, %v", now, err)
	}
	want := []string{"save k", "load k", "acquire k", "renew k fence 1", "save k fence 1", "clear k fence 1", "release k fence 1",
		"clear k", "savebatch  items 2", "list ", "forget k", "ping ", "close "}
	if !slices.Equal(log, want) {
		t.Errorf("the interceptor saw\n%q, want\n%q", log, want)
	}
}

var capabilities = []struct {
	name string
	in   func(state.Store) bool
}{
	{"Lister", has[state.Lister]}, {"BatchSaver", has[state.BatchSaver]}, {"Forgetter", has[state.Forgetter]}, {"Pinger", has[state.Pinger]},
	{"Volatile", has[state.Volatile]}, {"Expirer", has[state.Expirer]}, {"Leaser", has[state.Leaser]}, {"Closer", has[io.Closer]},
	{"Legacy", has[state.Legacy]}, {"Stringer", has[fmt.Stringer]}, {"Reopener", has[state.Reopener]},
}

func has[T any](s state.Store) bool {
	_, ok := state.As[T](s)
	return ok
}

// Every interface of package state is tested below, also one that is added later:
// an intercepted store must not lose it.
func TestCapabilitiesAreComplete(t *testing.T) {
	file, err := parser.ParseFile(gotoken.NewFileSet(), "store.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	tested, found := map[string]bool{"Store": true}, 0
	for _, c := range capabilities {
		tested[c.name] = true
		if !c.in(newFake()) {
			t.Errorf("the fake store has no %s", c.name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if ts, ok := n.(*ast.TypeSpec); ok {
			if _, ok := ts.Type.(*ast.InterfaceType); ok {
				if found++; !tested[ts.Name.Name] {
					t.Errorf("state.%s is not among the capabilities that this test knows", ts.Name.Name)
				}
			}
		}
		return true
	})
	if found != len(tested)-2 { // io.Closer and fmt.Stringer are not declared here
		t.Errorf("%d interfaces in store.go, want %d", found, len(tested)-2)
	}
}

// No capability that the inner store lacks, neither by As nor by assertion, and
// none that would go around the interceptor.
func TestInterceptCapabilities(t *testing.T) {
	list := func(s state.Store) (names []string) {
		for _, c := range capabilities {
			if c.in(s) {
				names = append(names, c.name)
			}
		}
		return names
	}
	through := func(ctx context.Context, _ state.Call, next func(context.Context) error) error { return next(ctx) }
	fake := newFake()
	all := list(fake)
	for name, c := range map[string]struct {
		s    state.Store
		want []string
	}{
		"all":                  {state.Intercept(fake, through), all},
		"nested":               {state.Intercept(state.Intercept(fake, through), through), all},
		"none":                 {state.Intercept(onlyStore{fake}, through), nil},
		"a decorator outside":  {decorated{state.Intercept(fake, through)}, all},
		"a decorator between":  {state.Intercept(decorated{state.Intercept(fake, through)}, through), all},
		"of a capability":      {must[state.Leaser](t, state.Intercept(fake, through)), all},
		"a capability of none": {must[state.Store](t, state.Intercept(onlyStore{fake}, through)), nil},
	} {
		if got := list(c.s); !slices.Equal(got, c.want) {
			t.Errorf("%s: has %q, want %q", name, got, c.want)
		}
	}
	s := state.Intercept(fake, through)
	if _, ok := state.As[*fakeStore](s); ok {
		t.Error("As gives the store behind the interceptor")
	}
	if _, ok := state.As[interface{ called(string) int }](s); ok {
		t.Error("As gives a capability that isn't intercepted")
	}
	for name, capability := range map[string]any{
		"store": s, "Lister": must[state.Lister](t, s), "Pinger": must[state.Pinger](t, s), "Volatile": must[state.Volatile](t, s), "Expirer": must[state.Expirer](t, s), "Closer": must[io.Closer](t, s), "Legacy": must[state.Legacy](t, s),
		"Stringer": must[fmt.Stringer](t, s), "Reopener": must[state.Reopener](t, s),
	} {
		if _, ok := capability.(state.Leaser); ok {
			t.Errorf("by assertion, the %s is a Leaser", name)
		}
		if _, ok := capability.(interface{ Unwrap() state.Store }); ok {
			t.Errorf("the %s can be unwrapped", name)
		}
	}
}

type decorated struct{ state.Store }

func (d decorated) Unwrap() state.Store { return d.Store }

func TestInterceptNesting(t *testing.T) {
	var log []string
	s := state.Intercept(state.Intercept(newFake(), logged(&log, "inner ")), logged(&log, "outer "))
	if err := must[state.Leaser](t, s).Release(t.Context(), "k", state.Fence{Epoch: 1, Nonce: "n"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"inner release k fence 1", "outer release k fence 1"}; !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}
}

// A failure can't be turned into success: the caller would believe something
// saved, or start from a zero checkpoint.
func TestInterceptCannotHideFailure(t *testing.T) {
	ctx := t.Context()
	silent := func(context.Context, state.Call, func(context.Context) error) error { return nil }
	deaf := func(ctx context.Context, _ state.Call, next func(context.Context) error) error {
		next(ctx)
		return nil
	}
	fake := newFake()
	if err := state.Intercept(fake, silent).Save(ctx, "k", state.Checkpoint{Token: token(t)}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Save that never reached the store: %v", err)
	}
	if _, err := state.Intercept(fake, silent).Load(ctx, "k"); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Load that never reached the store: %v", err)
	}
	if _, err := state.Intercept(fake, deaf).Load(ctx, "k"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Load of an absent key: %v", err)
	}
	for i, err := range state.SaveBatch(ctx, state.Intercept(fake, silent), make([]state.Item, 2)) {
		if !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("item %d that never reached the store: %v", i, err)
		}
	}
	for e, err := range state.List(ctx, state.Intercept(fake, silent), "") {
		if !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("List that never reached the store: %v, %v", e, err)
		}
	}
	if len(fake.calls) != 1 {
		t.Errorf("the store saw %q, want one load", fake.calls)
	}
}

// What an interceptor says after the call has precedence: a lost answer.
func TestInterceptLosesAnswer(t *testing.T) {
	ctx := t.Context()
	fake := newFake()
	lose := func(ctx context.Context, _ state.Call, next func(context.Context) error) error {
		next(ctx)
		return errLost
	}
	s := state.Intercept(fake, lose)
	if err := s.Save(ctx, "k", state.Checkpoint{Token: token(t)}); err != errLost {
		t.Errorf("Save: %v", err)
	}
	if cp, err := s.Load(ctx, "k"); err != errLost || !cp.Token.IsZero() {
		t.Errorf("Load: %v, %v", cp, err)
	}
	for _, err := range state.SaveBatch(ctx, s, []state.Item{{Key: "a", Checkpoint: state.Checkpoint{Token: token(t)}}, {}}) {
		if err != errLost {
			t.Errorf("SaveBatch: %v", err)
		}
	}
	if fake.called("save") != 2 {
		t.Errorf("the store saw %q", fake.calls)
	}
}

func TestInterceptRetry(t *testing.T) {
	ctx := t.Context()
	fake := newFake()
	left := 0
	fake.before = func(_ context.Context, op, key string) error {
		if left--; left >= 0 {
			return state.ErrUnavailable
		}
		return nil
	}
	s := state.Intercept(fake, retrying(3))
	left = 2
	if err := s.Save(ctx, "k", state.Checkpoint{Token: token(t)}); err != nil {
		t.Errorf("Save: %v", err)
	}
	left = 2
	if cp, err := s.Load(ctx, "k"); err != nil || cp.Token.IsZero() {
		t.Errorf("Load: %v, %v", cp, err)
	}
	left = 3
	if err := s.Save(ctx, "k", state.Checkpoint{Token: token(t)}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Save: %v", err)
	}
}

// What counts is the last success.
func TestInterceptKeepsSuccess(t *testing.T) {
	fake := newFake()
	if err := fake.Save(t.Context(), "k", state.Checkpoint{Token: token(t)}); err != nil {
		t.Fatal(err)
	}
	twice := func(ctx context.Context, _ state.Call, next func(context.Context) error) error {
		err := next(ctx)
		fake.before = func(context.Context, string, string) error { return state.ErrUnavailable }
		next(ctx)
		return err
	}
	if cp, err := state.Intercept(fake, twice).Load(t.Context(), "k"); err != nil || cp.Token != token(t) {
		t.Errorf("got %+v, %v", cp, err)
	}
}

// A repeated batch sends what failed, and no more; each item has its own answer.
func TestInterceptRetriesBatch(t *testing.T) {
	fake := newFake()
	var saved []string
	fails := map[string]int{"b": 1, "c": 9}
	fake.before = func(_ context.Context, op, key string) error {
		saved = append(saved, key)
		if fails[key]--; fails[key] >= 0 {
			return state.ErrUnavailable
		}
		return nil
	}
	wrapping := func(ctx context.Context, c state.Call, next func(context.Context) error) error {
		if err := next(ctx); err != nil {
			return fmt.Errorf("wrapped: %w", err)
		}
		return nil
	}
	s := state.Intercept(state.Intercept(fake, retrying(3)), wrapping)
	cp := state.Checkpoint{Token: token(t)}
	errs := state.SaveBatch(t.Context(), s, []state.Item{{Key: "a", Checkpoint: cp}, {Key: "b", Checkpoint: cp}, {Key: "c", Checkpoint: cp},
		{Key: "d"}, {Key: "e", Checkpoint: cp}, {Key: "e", Checkpoint: cp}})
	for i, want := range []error{nil, nil, state.ErrUnavailable, state.ErrInvalid, state.ErrInvalid, state.ErrInvalid} {
		if !errors.Is(errs[i], want) {
			t.Errorf("item %d: %v, want %v", i, errs[i], want)
		}
	}
	if got := strings.Join(saved, ""); got != "abcbcc" {
		t.Errorf("the store was asked to save %q, want abcbcc", got)
	}
}

// A repeated List yields each key once; one that fails half way yields what it
// has, and the error.
func TestInterceptRetriesList(t *testing.T) {
	fake := newFake()
	cp := state.Checkpoint{Token: token(t)}
	for _, key := range []string{"a", "b", "c"} {
		if err := fake.Save(t.Context(), key, cp); err != nil {
			t.Fatal(err)
		}
	}
	fails := 1
	fake.before = func(_ context.Context, op, key string) error {
		if key == "b" {
			if fails--; fails >= 0 {
				return state.ErrUnavailable
			}
		}
		return nil
	}
	list := func() (got string, last error) {
		for e, err := range state.List(t.Context(), state.Intercept(fake, retrying(2)), "") {
			got += e.Key
			last = err
		}
		return got, last
	}
	if got, err := list(); got != "abc" || err != nil {
		t.Errorf("got %q and %v, want abc", got, err)
	}
	fails = 2
	if got, err := list(); got != "a" || !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("got %q and %v, want a and then the error", got, err)
	}
	for range state.List(t.Context(), state.Intercept(fake, retrying(1)), "") {
		break // must not go on yielding
	}
}
