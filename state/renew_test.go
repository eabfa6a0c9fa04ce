package state_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// endOf waits for the end of the lease and returns how long it took from start,
// and why.
func endOf(t *testing.T, l *state.Lease, start time.Time) (time.Duration, error) {
	t.Helper()
	select {
	case <-l.Context().Done():
	case <-time.After(time.Hour):
		t.Fatal("the lease never ends")
	}
	return time.Since(start), context.Cause(l.Context())
}

// The store is gone: the lease ends a margin before it would run out in the
// store, and its renewal is tried often until then.
func TestLeaseRunsOut(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, logs *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{Logger: logTo(logs)})
		start := time.Now()
		var tries int
		s.refuse(func(context.Context, string, string) error { tries++; return state.ErrUnavailable })
		took, cause := endOf(t, l, start)
		synctest.Wait()
		if took != 13500*time.Millisecond {
			t.Errorf("trusted for %v, want 13.5 s", took)
		}
		wantErr(t, cause, state.ErrFenced, state.ErrLeaseExpired)
		if errors.Is(cause, state.ErrUnavailable) || !strings.Contains(cause.Error(), state.ErrUnavailable.Error()) {
			t.Errorf("the cause %q must tell of the store's failure, and not be one that passes", cause)
		}
		if tries < 17 || tries > 35 {
			t.Errorf("%d attempts in 8.5 s, want one every quarter to half of a second", tries)
		}
		if n := strings.Count(logs.String(), "lease renewal failed"); n != 1 {
			t.Errorf("told %d times of one outage:\n%s", n, logs)
		}
		if !strings.Contains(logs.String(), "lease lost") {
			t.Errorf("the loss was not logged:\n%s", logs)
		}
		s.refuse(nil)
		release(t, l) // gives back what the store may still think to be ours
		if s.called("release") != 1 {
			t.Error("not given back")
		}
	})
}

func TestRenewalRecovers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, logs *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{Logger: logTo(logs)})
		start := time.Now()
		s.refuse(func(context.Context, string, string) error {
			if d := time.Since(start); d < 12*time.Second || d > 20*time.Second && d < 27*time.Second {
				return state.ErrUnavailable
			}
			return nil
		})
		time.Sleep(time.Minute)
		if err := l.Valid(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(logs.String(), "renewed again"); n != 2 {
			t.Errorf("told %d times of recovery, want twice:\n%s", n, logs)
		}
		release(t, l)
	})
}

func TestRenewalRefused(t *testing.T) {
	for _, refusal := range []error{state.ErrFenced, state.ErrClosed} {
		inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
			l := hold(t, s, state.HoldOptions{})
			start := time.Now()
			s.refuse(func(context.Context, string, string) error { return refusal })
			took, cause := endOf(t, l, start)
			if took != 5*time.Second {
				t.Errorf("%v ended the lease after %v, want at the first renewal", refusal, took)
			}
			wantErr(t, cause, state.ErrFenced, refusal)
			if errors.Is(cause, state.ErrLeaseExpired) {
				t.Errorf("%v is taken for an expired lease", cause)
			}
			if err := l.Release(t.Context()); !errors.Is(err, refusal) && refusal == state.ErrClosed {
				t.Errorf("Release: %v", err)
			}
		})
	}
}

// An attempt that gets no answer must leave time for others, and one that is
// deaf to its context must not keep the lease alive.
func TestRenewalHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		var hung bool
		s.refuse(func(ctx context.Context, op, _ string) error {
			if !hung {
				hung = true
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := l.Valid(); err != nil || !hung {
			t.Errorf("one attempt hung, and the lease is gone: %v", err)
		}
		start := time.Now()
		var since atomic.Int64
		s.refuse(func(_ context.Context, op, _ string) error {
			if op == "renew" {
				since.Store(int64(time.Since(start)))
				time.Sleep(time.Hour)
			}
			return nil
		})
		took, _ := endOf(t, l, start)
		if d := took - time.Duration(since.Load()); took > 13500*time.Millisecond || d.Round(100*time.Millisecond) != 8500*time.Millisecond {
			t.Errorf("the lease ended %v after its last renewal was begun in vain, want 8.5 s", d)
		}
		release(t, l)
	})
}

// Trust is counted from when the renewal was sent, and a renewal that comes
// after the end brings nothing back.
func TestRenewalAnsweredLate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		start := time.Now()
		first := true
		s.lose(func(_ context.Context, op, _ string, err error) error {
			switch {
			case op == "renew" && first:
				first = false
				time.Sleep(6 * time.Second) // sent at 5, answered at 11
			case op == "renew":
				return state.ErrUnavailable
			}
			return err
		})
		if took, _ := endOf(t, l, start); took != 18500*time.Millisecond {
			t.Errorf("trusted until %v, want 18.5 s: 13.5 after the good renewal was sent", took)
		}
		release(t, l)
	})
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		s.lose(func(_ context.Context, op, _ string, err error) error {
			if op == "renew" {
				time.Sleep(9 * time.Second) // sent at 5, answered at 14
			}
			return err
		})
		time.Sleep(15 * time.Second)
		wantErr(t, l.Valid(), state.ErrFenced)
		if n := s.called("renew"); n != 1 {
			t.Errorf("%d renewals of a dead lease", n-1)
		}
		release(t, l)
	})
}

// The machine slept: timers didn't run, the boot clock did. Nothing may be
// delivered or saved before the clock has been looked at.
func TestValidAfterSuspend(t *testing.T) {
	for name, ask := range map[string]func(*state.Lease) error{
		"Valid": (*state.Lease).Valid,
		"Save":  func(l *state.Lease) error { return l.Save(context.Background(), state.Checkpoint{Token: token(t)}) },
		"Clear": func(l *state.Lease) error { return l.Clear(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
				var slept atomic.Int64
				start := time.Now()
				l := hold(t, s, state.WithClock(state.HoldOptions{}, func() time.Duration { return time.Since(start) + time.Duration(slept.Load()) }))
				time.Sleep(6 * time.Second)
				slept.Store(int64(12 * time.Second))
				if err := ask(l); err != nil {
					t.Errorf("13 s after the last renewal: %v", err)
				}
				release(t, l)
			})
			inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
				var slept atomic.Int64
				start := time.Now()
				l := hold(t, s, state.WithClock(state.HoldOptions{}, func() time.Duration { return time.Since(start) + time.Duration(slept.Load()) }))
				time.Sleep(6 * time.Second)
				slept.Store(int64(13 * time.Second))
				if l.Context().Err() != nil {
					t.Fatal("the test means to find the context alive")
				}
				before := len(s.history())
				err := ask(l)
				wantErr(t, err, state.ErrFenced)
				if calls := s.history(); len(calls) != before {
					t.Errorf("the store was asked for %q under a lease that is over", calls[before:])
				}
				if l.Context().Err() == nil {
					t.Error("the context lives")
				}
				time.Sleep(time.Minute)
				if s.called("renew") != 1 {
					t.Error("a lease that is over was renewed")
				}
				release(t, l)
			})
		})
	}
}

// The renewer may be what runs first after a suspend: it must not bring the
// lease back either.
func TestRenewerAfterSuspend(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		var slept atomic.Int64
		start := time.Now()
		l := hold(t, s, state.WithClock(state.HoldOptions{}, func() time.Duration { return time.Since(start) + time.Duration(slept.Load()) }))
		slept.Store(int64(time.Minute))
		if took, _ := endOf(t, l, start); took != 5*time.Second || s.called("renew") != 0 {
			t.Errorf("ended after %v and %d renewals, want at the first one's time and none", took, s.called("renew"))
		}
		release(t, l)
	})
}

// The same, with a renewal under way: it was answered, but too late.
func TestSuspendDuringRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		var slept atomic.Int64
		start := time.Now()
		l := hold(t, s, state.WithClock(state.HoldOptions{}, func() time.Duration { return time.Since(start) + time.Duration(slept.Load()) }))
		s.lose(func(_ context.Context, op, _ string, err error) error {
			if op == "renew" { // sent at 5 s, answered at 14
				slept.Store(int64(9 * time.Second))
			}
			return err
		})
		if took, _ := endOf(t, l, start); took != 5*time.Second || s.called("renew") != 1 {
			t.Errorf("ended after %v and %d renewals, want with the first one's answer", took, s.called("renew"))
		}
		release(t, l)
	})
}

// A save that hangs doesn't hold up the renewals, and ends with the lease.
func TestSaveHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		start := time.Now()
		s.refuse(func(ctx context.Context, op, _ string) error {
			switch {
			case op == "save":
				<-ctx.Done()
				return ctx.Err()
			case time.Since(start) > time.Minute:
				return state.ErrFenced
			}
			return nil
		})
		err := l.Save(t.Context(), state.Checkpoint{Token: token(t)})
		wantErr(t, err, state.ErrFenced, context.Canceled)
		about(t, time.Since(start).Round(time.Millisecond), time.Minute+5*time.Second)
		release(t, l)
	})
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		s.refuse(func(ctx context.Context, op, _ string) error {
			if op == "save" {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := l.Save(ctx, state.Checkpoint{Token: token(t)})
		wantErr(t, err, context.DeadlineExceeded)
		if errors.Is(err, state.ErrFenced) || l.Valid() != nil {
			t.Errorf("the caller gave up, and the lease is blamed: %v", err)
		}
		release(t, l)
	})
}

// An error of the store that isn't the lease's fault leaves the lease alone.
func TestSaveFails(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeStore, _ *bytes.Buffer) {
		l := hold(t, s, state.HoldOptions{})
		s.refuse(func(_ context.Context, op, _ string) error { return state.ErrUnavailable })
		wantErr(t, l.Save(t.Context(), state.Checkpoint{Token: token(t)}), state.ErrUnavailable)
		s.refuse(nil)
		wantErr(t, l.Save(t.Context(), state.Checkpoint{}), state.ErrInvalid)
		if err := l.Valid(); err != nil {
			t.Error(err)
		}
		release(t, l)
	})
}

func TestBootClockRuns(t *testing.T) {
	a := state.BootClock()
	time.Sleep(time.Millisecond) // the one thing here that is about real time
	if d := state.BootClock() - a; d < time.Millisecond || d > time.Minute {
		t.Errorf("the clock moved by %v in a millisecond", d)
	}
}

func BenchmarkValid(b *testing.B) {
	l, err := state.Hold(b.Context(), newFake(), "k", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Valid(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Release(b.Context()); err != nil {
		b.Fatal(err)
	}
}
