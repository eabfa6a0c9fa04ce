package rigatonitest_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

func inserts(n int) []rigatoni.Event {
	var events []rigatoni.Event
	for i := range n {
		events = append(events, rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: i}}))
	}
	return events
}

func tokens(t *testing.T, events []rigatoni.Event) (list []string) {
	t.Helper()
	for _, ev := range events {
		tok, err := ev.Token()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tok.Raw().String())
	}
	return list
}

func wantEvents(t *testing.T, got, want []rigatoni.Event) {
	t.Helper()
	if !slices.Equal(tokens(t, got), tokens(t, want)) {
		t.Errorf("got %d events, want %d, or others", len(got), len(want))
	}
}

func open(t *testing.T, s *rigatonitest.Source, at rigatoni.Start) rigatoni.Stream {
	t.Helper()
	st, err := s.Open(t.Context(), s.Streams()[0], at)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func read(t *testing.T, st rigatoni.Stream) ([]rigatoni.Event, rigatoni.Position) {
	t.Helper()
	events, pos, err := st.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return events, pos
}

// after is the start after a position, as if all before it had been delivered.
func after(pos rigatoni.Position) rigatoni.Start {
	return rigatoni.Start{Checkpoint: &state.Checkpoint{Token: pos.Token, StartAfter: pos.StartAfter, ClusterTime: pos.ClusterTime}}
}

func TestStreamReturnsTheEvents(t *testing.T) {
	events := inserts(5)
	s := rigatonitest.NewSource(events[:2]...)
	st := open(t, s, rigatoni.Start{})
	begin := st.Position()
	s.Append(events[2])
	got, pos := read(t, st)
	wantEvents(t, got, events[:3])
	if want, err := rigatoni.PositionAfter(events[2]); err != nil || pos != want || st.Position() != want {
		t.Errorf("the position is %+v, want %+v", pos, want)
	}
	// A stream opened at any position returns the events after it.
	s.Append(events[3:]...)
	wantAt := func(at rigatoni.Start, want []rigatoni.Event) {
		t.Helper()
		got, _ := read(t, open(t, s, at))
		wantEvents(t, got, want)
	}
	wantAt(after(begin), events)
	for i, ev := range events[:4] {
		pos, err := rigatoni.PositionAfter(ev)
		if err != nil {
			t.Fatal(err)
		}
		wantAt(after(pos), events[i+1:])
		wantAt(rigatoni.Start{Time: ev.ClusterTime()}, events[i:])
	}
	if n := len(s.Starts()); n != 10 {
		t.Errorf("%d starts are recorded, want 10", n)
	}
	if first := s.Starts()[0]; first != (rigatoni.Start{}) {
		t.Errorf("the first start is %+v", first)
	}
}

func TestNowIsTheFirstUnreadEvent(t *testing.T) {
	events := inserts(4)
	s := rigatonitest.NewSource(events[:2]...)
	got, _ := read(t, open(t, s, rigatoni.Start{}))
	wantEvents(t, got, events[:2])
	s.Append(events[2:]...)
	got, _ = read(t, open(t, s, rigatoni.Start{}))
	wantEvents(t, got, events[2:])
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := inserts(2)
		s := rigatonitest.NewSource()
		st := open(t, s, rigatoni.Start{})
		begin := time.Now()
		got, idle := read(t, st)
		if len(got) != 0 || time.Since(begin) != time.Second {
			t.Errorf("%d events after %v, want none after a second", len(got), time.Since(begin))
		}
		if _, later := read(t, st); later == idle || later.Token.IsZero() {
			t.Error("the position of an idle stream doesn't move")
		}
		go func() {
			time.Sleep(time.Second / 2)
			s.Append(events...)
		}()
		begin = time.Now()
		got, _ = read(t, st)
		wantEvents(t, got, events)
		if time.Since(begin) != time.Second/2 {
			t.Errorf("after %v, want at once", time.Since(begin))
		}
		got, _ = read(t, open(t, s, after(idle)))
		wantEvents(t, got, events) // also those that were made before the position was given

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/4, cancel)
		if _, _, err := st.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Next after the end of ctx: %v", err)
		}
	})
}

// TestAnIdlePositionIsNeverPastAnEvent: an event that was made long before is
// after a place that was given before it was appended.
func TestAnIdlePositionIsNeverPastAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, recent := inserts(1), inserts(2)
		s := rigatonitest.NewSource(recent...)
		st := open(t, s, rigatoni.Start{})
		read(t, st)
		_, idle := read(t, st)
		s.Append(old...)
		got, _ := read(t, open(t, s, after(idle)))
		wantEvents(t, got, old)
	})
}

func TestHistoryIsLost(t *testing.T) {
	events := inserts(4)
	s := rigatonitest.NewSource(events...)
	st := open(t, s, rigatoni.Start{})
	begin := st.Position()
	s.Forget(2)
	if _, _, err := st.Next(t.Context()); !errors.Is(err, rigatoni.ErrHistoryLost) {
		t.Errorf("a stream that has yet to read a forgotten event: %v", err)
	}
	first, _ := rigatoni.PositionAfter(events[1])
	second, _ := rigatoni.PositionAfter(events[2])
	strange, _ := rigatoni.PositionAfter(inserts(1)[0])
	for name, at := range map[string]rigatoni.Start{
		"a token that is forgotten": after(first), "a token of elsewhere": after(strange), "a place before it": after(begin), "a time before it": {Time: events[0].ClusterTime()},
	} {
		if _, err := s.Open(t.Context(), "", at); !errors.Is(err, rigatoni.ErrHistoryLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, _ := read(t, open(t, s, rigatoni.Start{}))
	wantEvents(t, got, events[2:])
	got, _ = read(t, open(t, s, after(second)))
	wantEvents(t, got, events[3:])
	s.Forget(100)
	if _, err := s.Open(t.Context(), "", after(second)); !errors.Is(err, rigatoni.ErrHistoryLost) {
		t.Errorf("all is forgotten: %v", err)
	}
}

func TestAChangedStreamIsRefused(t *testing.T) {
	events := inserts(3)
	s := rigatonitest.NewSource(events...)
	at, _ := rigatoni.PositionAfter(events[1])
	start := after(at)
	start.Checkpoint.Fingerprint = s.Fingerprint
	if st := open(t, s, start); st.Fingerprint() != s.Fingerprint {
		t.Errorf("the fingerprint is %q", st.Fingerprint())
	}
	s.Fingerprint = "new"
	_, err := s.Open(t.Context(), "", start)
	var changed *rigatoni.ChangedStreamError
	if !errors.Is(err, rigatoni.ErrChangedStream) || !errors.As(err, &changed) {
		t.Fatalf("got %v", err)
	}
	start.AcceptChanged = changed.Accept
	got, _ := read(t, open(t, s, start))
	wantEvents(t, got, events[1:]) // the events of that time are redelivered
}

func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drop := rigatonitest.Drop("shop.orders")
		inv := rigatonitest.Invalidate(drop)
		s := rigatonitest.NewSource(drop, inv)
		st := open(t, s, rigatoni.Start{})
		_, pos := read(t, st)
		if _, idle := read(t, st); idle != pos || !pos.StartAfter {
			t.Errorf("after an invalidate event the position is %+v, want its own", idle)
		}
		at := after(pos)
		next := inserts(1)
		s.Append(next...)
		got, _ := read(t, open(t, s, at))
		wantEvents(t, got, next)
		at.Checkpoint.StartAfter = false
		if _, err := s.Open(t.Context(), "", at); err == nil {
			t.Error("an invalidate's token opens without StartAfter")
		}
	})
}

func TestFaults(t *testing.T) {
	events := inserts(2)
	s := rigatonitest.NewStreams("a", "b")
	s.Append(events...)
	cut, away := errors.New("cut"), errors.New("away")
	s.Fail(cut)
	s.FailOpen(away)
	if _, err := s.Open(t.Context(), "a", rigatoni.Start{}); !errors.Is(err, away) {
		t.Errorf("Open: %v", err)
	}
	st := open(t, s, rigatoni.Start{})
	got, _ := read(t, st)
	wantEvents(t, got, events)
	if _, _, err := st.Next(t.Context()); !errors.Is(err, cut) {
		t.Errorf("Next: %v", err)
	}
	s.End()
	for range 2 {
		if _, _, err := st.Next(t.Context()); !errors.Is(err, rigatonitest.ErrEnd) {
			t.Errorf("Next after the end: %v", err)
		}
	}
	if err := st.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := st.Next(t.Context()); err == nil || errors.Is(err, rigatonitest.ErrEnd) {
		t.Errorf("Next after Close: %v", err)
	}
	if _, err := s.Open(t.Context(), "c", rigatoni.Start{}); err == nil {
		t.Error("a stream that doesn't exist opens")
	}
	other := inserts(1)
	s.Stream("b").Append(other...)
	b, err := s.Open(t.Context(), "b", rigatoni.Start{})
	if err != nil {
		t.Fatal(err)
	}
	got, _ = read(t, b)
	wantEvents(t, got, other)
	if s.Stream("c") != nil || len(s.Stream("a").Starts()) != 2 || len(s.Stream("b").Starts()) != 1 {
		t.Error("the logs are mixed up")
	}
}

// TestThePipelineResumes runs the whole pipeline: it retries, resumes from its
// checkpoint, saves while the stream is idle, and stops.
func TestThePipelineResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := inserts(7)
		s := rigatonitest.NewStreams("a", "b")
		s.Append(events[:4]...)
		s.Stream("b").Append(events[6])
		store := memstore.New()
		var dest rigatonitest.Destination
		dest.Fail(errors.New("away"), nil, nil)
		run := func(ctx context.Context) error {
			return rigatoni.Run(ctx, rigatoni.Config{Name: "test", Source: s, Destination: &dest, Store: store, Logger: slog.New(slog.DiscardHandler)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		if _, err := dest.Wait(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // idle
		cp, err := store.Load(t.Context(), "test/a")
		if d, derr := cp.Token.Decode(); err != nil || derr != nil || !d.HighWaterMark {
			t.Errorf("the checkpoint of an idle stream is %v, %v, %v", d, err, derr)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("a clean stop: %v", err)
		}
		s.Append(events[4:6]...)
		s.End() // not b, whose end might stop the pipeline before it has read a's events
		if err := run(t.Context()); !errors.Is(err, rigatonitest.ErrEnd) {
			t.Fatalf("got %v, want ErrEnd", err)
		}
		var a []rigatoni.Event
		for _, ev := range dest.Events() {
			if ev.DocumentKey().Lookup("_id").Int32() != 6 {
				a = append(a, ev)
			}
		}
		wantEvents(t, a, events[:6])
		if dest.Calls() < 4 {
			t.Errorf("%d calls; the failed one wasn't repeated", dest.Calls())
		}
	})
}

func TestDestination(t *testing.T) {
	events := inserts(5)
	var d rigatonitest.Destination
	away := errors.New("away")
	d.Fail(nil, away, rigatoni.Partial(2, away), rigatoni.Permanent(away))
	deliver := func(from, to int) error {
		return d.Deliver(t.Context(), &rigatoni.Batch{Events: events[from:to]})
	}
	if err := deliver(0, 1); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := deliver(1, 4); !errors.Is(err, away) {
			t.Errorf("got %v", err)
		}
	}
	wantEvents(t, d.Events(), events[:3])
	if err := deliver(3, 5); err != nil || d.Calls() != 5 {
		t.Errorf("%v after %d calls", err, d.Calls())
	}
	got, err := d.Wait(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	wantEvents(t, got, events)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Wait(ctx, 6); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	if err := d.Deliver(ctx, &rigatoni.Batch{Events: events}); !errors.Is(err, context.Canceled) || len(d.Events()) != 5 {
		t.Errorf("Deliver after the end of ctx: %v", err)
	}
}
