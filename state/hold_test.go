package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// inBubble runs a test under a clock of its own, which moves when everybody
// waits. It fails if a goroutine is left behind.
func inBubble(t *testing.T, f func(t *testing.T, s *fakeStore, logs *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newFake(), new(bytes.Buffer)) })
}

func logTo(w *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func hold(t *testing.T, s state.Store, o state.HoldOptions) *state.Lease {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	start := time.Now() // of the bubble: the boot clock is the real one's
	o = state.WithClock(o, func() time.Duration { return time.Since(start) })
	l, err := state.Hold(t.Context(), s, "k", &o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func release(t *testing.T, l *state.Lease) {
	t.Helper()
	if err := l.Release(context.Background()); err != nil {
		t.Error(err)
	}
}

func wantErr(t *testing.T, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("got the error %v, want a %q", err, w)
		}
	}
}

// about reports whether d is want, or later by no more than the longest time
// between two attempts.
func about(t *testing.T, d, want time.Duration) {
	t.Helper()
	if d < want || d > want+state.LastPause*5/4 {
		t.Errorf("it took %v, want %v", d, want)
	}
}

func TestHoldKeepsRenewing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		if err := s.Save(t.Context(), "k", state.Checkpoint{Token: token(t), Sequence: 41}); err != nil {
			t.Fatal(err)
		}
		l := hold(t, s, state.HoldOptions{Owner: "me"})
		if g := l.Grant(); g.LoadErr != nil || g.Checkpoint.Sequence != 41 || g.LastSequence != 41 || g.Fence.Epoch != 1 || g.Fence.Nonce == "" {
			t.Errorf("granted %+v", g)
		}
		time.Sleep(time.Hour + time.Second)
		if err := l.Valid(); err != nil {
			t.Error(err)
		}
		if n := s.called("renew"); n != 720 {
			t.Errorf("%d renewals in an hour, want 720, one every 5 s", n)
		}
		if err := l.Save(t.Context(), state.Checkpoint{Token: token(t), Sequence: 42}); err != nil {
			t.Error(err)
		}
		if cp, err := s.Load(t.Context(), "k"); err != nil || cp.Sequence != 42 || cp.Epoch != 1 {
			t.Errorf("saved was %+v, %v", cp, err)
		}
		if err := l.Clear(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.Load(t.Context(), "k"); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("after Clear: %v", err)
		}
		release(t, l)
		if f := s.recs["k"]; f.Live(time.Now()) || !f.Fence().IsZero() {
			t.Errorf("after Release the record is %+v", f)
		}
	})
}

func TestHoldOutlivesItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		type name struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), name{}, "value"))
		l, err := state.Hold(ctx, s, "k", &state.HoldOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(time.Minute)
		if err := l.Valid(); err != nil {
			t.Error(err)
		}
		if l.Context().Value(name{}) != "value" {
			t.Error("the lease's context has not the values of Hold's")
		}
		release(t, l)
		wantErr(t, context.Cause(l.Context()), state.ErrFenced)
		wantErr(t, l.Valid(), state.ErrFenced)
		wantErr(t, l.Save(context.Background(), state.Checkpoint{Token: token(t)}), state.ErrFenced)
	})
}

func TestHoldRefused(t *testing.T) {
	for name, c := range map[string]struct {
		wait, want time.Duration
	}{
		"at once":                 {-1, 0},
		"a live holder, default":  {0, 13 * time.Second}, // seen 2 s after a renewal of 15 s
		"a live holder, for 40 s": {40 * time.Second, 40 * time.Second},
		"a live holder, for 1 s":  {time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
				first := hold(t, s, state.HoldOptions{Owner: "first"})
				time.Sleep(7 * time.Second)
				start := time.Now()
				_, err := state.Hold(t.Context(), s, "k", &state.HoldOptions{Wait: c.wait, Logger: slog.New(slog.DiscardHandler)})
				wantErr(t, err, state.ErrLeaseHeld)
				var held *state.HeldError
				if !errors.As(err, &held) || held.Owner != "first" || !strings.Contains(err.Error(), `"first"`) {
					t.Errorf("the error is %v, and doesn't name the holder", err)
				}
				about(t, time.Since(start), c.want)
				release(t, first)
			})
		})
	}
}

func TestHoldAfterACrash(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, logs *bytes.Buffer) {
		dead, err := s.Acquire(t.Context(), "k", state.LeaseRequest{Owner: "dead", Nonce: "n", TTL: 15 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		l := hold(t, s, state.HoldOptions{Logger: logTo(logs)})
		about(t, time.Since(start), 15*time.Second)
		if !strings.Contains(logs.String(), "waiting for the lease") || !strings.Contains(logs.String(), "holder=dead") {
			t.Errorf("the waiting was not logged: %s", logs)
		}
		wantErr(t, s.SaveFenced(t.Context(), "k", dead.Fence, state.Checkpoint{Token: token(t)}), state.ErrFenced)
		release(t, l)
	})
}

func TestHoldTakesOverWhenReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		first := hold(t, s, state.HoldOptions{})
		time.AfterFunc(4*time.Second, func() { release(t, first) })
		start := time.Now()
		l := hold(t, s, state.HoldOptions{Wait: time.Minute})
		about(t, time.Since(start), 4*time.Second)
		if e := l.Grant().Fence.Epoch; e != 2 {
			t.Errorf("epoch %d, want 2", e)
		}
		release(t, l)
	})
}

// A lease that ends with its owner's process has no end to wait for.
func TestHoldEndlessLease(t *testing.T) {
	for _, refusal := range []error{&state.HeldError{Owner: "other"}, state.ErrLeaseHeld} {
		inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
			free := time.Now().Add(2 * time.Second)
			s.refuse(func(context.Context, string, string) error {
				if time.Now().Before(free) {
					return refusal
				}
				return nil
			})
			_, err := state.Hold(t.Context(), s, "k", nil)
			wantErr(t, err, state.ErrLeaseHeld)
			about(t, 2*time.Second-time.Until(free), 0)
			l := hold(t, s, state.HoldOptions{Wait: 10 * time.Second})
			about(t, 2*time.Second-time.Until(free), 2*time.Second)
			release(t, l)
		})
	}
}

func TestHoldSteals(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, logs *bytes.Buffer) {
		first := hold(t, s, state.HoldOptions{Logger: logTo(logs)})
		l := hold(t, s, state.HoldOptions{Steal: true, Wait: -1})
		wantErr(t, first.Save(t.Context(), state.Checkpoint{Token: token(t)}), state.ErrFenced)
		if first.Context().Err() == nil {
			t.Error("a save was fenced off, and the lease's context lives")
		}
		if n := strings.Count(logs.String(), "lease lost"); n != 1 {
			t.Errorf("the loss was told %d times, want once", n)
		}
		release(t, first)
		if s.called("release") != 0 {
			t.Error("what was another's was released")
		}
		release(t, l)
	})
}

func TestHoldCancelledWhileWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		first := hold(t, s, state.HoldOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := state.Hold(ctx, s, "k", &state.HoldOptions{Wait: time.Hour, Logger: slog.New(slog.DiscardHandler)})
		wantErr(t, err, context.DeadlineExceeded, state.ErrLeaseHeld)
		release(t, first)
	})
}

// The store executed an Acquire, and its answer was lost: the next attempt
// finds itself, not a stranger.
func TestHoldFindsItself(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		lost := 2
		s.lose(func(_ context.Context, op, _ string, err error) error {
			if lost--; op == "acquire" && lost >= 0 {
				return state.ErrUnavailable
			}
			return err
		})
		l := hold(t, s, state.HoldOptions{Wait: -1})
		if e := l.Grant().Fence.Epoch; e != 1 || s.called("acquire") != 3 {
			t.Errorf("epoch %d after %d attempts, want 1 after 3", e, s.called("acquire"))
		}
		release(t, l)
	})
}

func TestHoldStoreDown(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		s.refuse(func(context.Context, string, string) error { return state.ErrUnavailable })
		start := time.Now()
		_, err := state.Hold(t.Context(), s, "k", nil)
		wantErr(t, err, state.ErrUnavailable)
		if d := time.Since(start); d < 100*time.Millisecond || d > state.Patience {
			t.Errorf("a dead store was an error after %v, want it within %v", d, state.Patience)
		}

		// A store that has answered, and is gone for a while as we wait.
		s.refuse(nil)
		if _, err := s.Acquire(t.Context(), "k", state.LeaseRequest{Nonce: "dead", TTL: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		s.refuse(func(context.Context, string, string) error {
			if d := time.Since(start); d > time.Second && d < 9*time.Second {
				return state.ErrUnavailable
			}
			return nil
		})
		l := hold(t, s, state.HoldOptions{})
		about(t, time.Since(start), 10*time.Second)
		release(t, l)
	})
}

// Each outage has its own second of patience.
func TestHoldStoreDownTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		start := time.Now()
		until := start.Add(5 * time.Second)
		s.refuse(func(context.Context, string, string) error {
			switch d := time.Since(start); {
			case d == 0:
				return state.ErrUnavailable
			case d < 5*time.Second:
				return &state.HeldError{Owner: "dead", Until: until}
			case d < 5*time.Second+100*time.Millisecond:
				return state.ErrUnavailable
			}
			return nil
		})
		release(t, hold(t, s, state.HoldOptions{}))
	})
}

// No answer is an answer too, after the TTL; one after the TTL is none.
func TestHoldStoreSlow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		s.refuse(func(ctx context.Context, _, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		_, err := state.Hold(t.Context(), s, "k", nil)
		wantErr(t, err, state.ErrUnavailable)
		about(t, time.Since(start), 15*time.Second)

		slow := 1
		s.refuse(nil)
		s.lose(func(_ context.Context, op, _ string, err error) error {
			if slow--; op == "acquire" && slow >= 0 {
				time.Sleep(14 * time.Second) // granted at once, answered after the margin
			}
			return err
		})
		l, err := state.Hold(t.Context(), s, "k", &state.HoldOptions{Wait: time.Hour})
		if err != nil {
			// An Acquire may not be repeated for more than a second.
			wantErr(t, err, state.ErrUnavailable)
		} else {
			release(t, l)
			t.Error("a lease was granted whose time had passed")
		}
	})
}

func TestHoldErrorsAsTheyCome(t *testing.T) {
	for _, want := range []error{state.ErrCorrupt, state.ErrNewer, state.ErrClosed, errLost} {
		inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
			s.refuse(func(context.Context, string, string) error { return want })
			start := time.Now()
			_, err := state.Hold(t.Context(), s, "k", nil)
			wantErr(t, err, want)
			about(t, time.Since(start), 0)
		})
	}
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		start := time.Now()
		for _, ttl := range []time.Duration{time.Microsecond, -time.Second} {
			_, err := state.Hold(t.Context(), s, "k", &state.HoldOptions{TTL: ttl})
			wantErr(t, err, state.ErrInvalid)
		}
		_, err := state.Hold(t.Context(), s, "", nil)
		wantErr(t, err, state.ErrInvalid)
		if d := time.Since(start); d != 0 || len(s.history()) != 0 {
			t.Errorf("what no store takes was refused after %v and %q", d, s.history())
		}
		_, err = state.Hold(t.Context(), onlyStore{s}, "k", nil)
		wantErr(t, err, errors.ErrUnsupported)
	})
}

func TestHoldThroughInterceptor(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		var log []string
		l := hold(t, state.Intercept(s, logged(&log, "")), state.HoldOptions{})
		if err := l.Save(t.Context(), state.Checkpoint{Token: token(t)}); err != nil {
			t.Error(err)
		}
		release(t, l)
		if got := strings.Join(log, ", "); got != "acquire k, save k fence 1, release k fence 1" {
			t.Errorf("the interceptor saw %s", got)
		}
	})
}

func TestHoldDefaultOwner(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		host, _ := os.Hostname()
		if got, want := s.recs["k"].Owner, fmt.Sprintf("%s/%d", host, os.Getpid()); got != want {
			t.Errorf("the owner is %q, want %q", got, want)
		}
		release(t, l)
	})
}

func TestNewNonce(t *testing.T) {
	a, b := state.NewNonce(), state.NewNonce()
	if len(a) != 32 || a == b || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("nonces %q and %q", a, b)
	}
}

func TestReleaseAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		down := true
		s.refuse(func(_ context.Context, op, _ string) error {
			if op == "release" && down {
				return state.ErrUnavailable
			}
			return nil
		})
		wantErr(t, l.Release(t.Context()), state.ErrUnavailable)
		wantErr(t, l.Valid(), state.ErrFenced) // over all the same
		down = false
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { release(t, l) })
		}
		wg.Wait()
		if n := s.called("release"); n != 1 {
			t.Errorf("released %d times, want once", n)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Release(ended); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// Release waits for a renewal that is under way, and tells it to end.
func TestReleaseWaitsForRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		var renewing atomic.Bool
		stuck := make(chan struct{})
		s.refuse(func(ctx context.Context, op, _ string) error {
			if op != "renew" {
				return nil
			}
			renewing.Store(true)
			defer renewing.Store(false)
			<-ctx.Done()
			<-stuck // deaf for a while
			return ctx.Err()
		})
		time.Sleep(6 * time.Second)
		if !renewing.Load() {
			t.Fatal("no renewal is under way")
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, l.Release(short), context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { close(stuck) })
		release(t, l)
		if renewing.Load() || s.called("release") != 1 {
			t.Error("released while a renewal was under way")
		}
	})
}

// Whoever holds a lease learns of each attempt to acquire and to renew it.
func TestHoldReportsItsAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		var mu sync.Mutex
		var got []error
		attempts := func() []error { mu.Lock(); defer mu.Unlock(); return got }
		other := hold(t, s, state.HoldOptions{Owner: "other"})
		time.AfterFunc(time.Second/2, func() { release(t, other) })
		l := hold(t, s, state.HoldOptions{Wait: time.Minute, Attempted: func(err error) { mu.Lock(); defer mu.Unlock(); got = append(got, err) }})
		if n := len(attempts()); n < 2 || !errors.Is(got[0], state.ErrLeaseHeld) || got[n-1] != nil {
			t.Errorf("attempts to acquire: %v", got)
		}
		before := len(attempts())
		time.Sleep(11 * time.Second)
		if after := attempts(); len(after) != before+2 || after[before] != nil {
			t.Errorf("attempts to renew: %v", after[before:])
		}
		release(t, l)
	})
}
