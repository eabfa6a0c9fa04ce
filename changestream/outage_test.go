package changestream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// The server goes away in the middle, in every way it can, while somebody writes
// as soon as it is back: every write is in the stream, once, in order.
func TestServerGoesAndComesBack(t *testing.T) {
	for name, away := range map[string]func(context.Context, *mongod.Server) error{
		"restart": func(ctx context.Context, s *mongod.Server) error { return errors.Join(s.Shutdown(), s.Restart(ctx)) },
		"killed":  func(ctx context.Context, s *mongod.Server) error { return errors.Join(s.Kill(), s.Restart(ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ownMongod(t, mongod.Options{})
			goesAway(t, w, func() error { return away(t.Context(), w.Real) })
		})
	}
}

func TestStepDown(t *testing.T) {
	bothOwn(t, mongod.Options{Nodes: 3}, func(t *testing.T, w *fixture) {
		goesAway(t, w, func() error { return w.StepDown(t.Context()) })
		if w.Real != nil {
			goesAway(t, w, func() error { return killPrimary(t.Context(), w.Real) })
		}
	})
}

func killPrimary(ctx context.Context, s *mongod.Server) error {
	primary, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	if err := primary.Kill(); err != nil {
		return err
	}
	_, err = s.Primary(ctx)
	return errors.Join(err, s.Restart(ctx))
}

// All that mongotest can do to a server that is up, at once.
func TestConnectionsBreak(t *testing.T) {
	w := newFixture(t, testserver.Mongotest(t))
	for what, happens := range map[string]func(){
		"dropped": func() { w.Fake.DropConnections() },
		"killed":  func() { w.Fake.KillCursors() },
		"frozen":  func() { w.Fake.Freeze(); w.Fake.DropConnections(); w.Fake.Thaw() },
	} {
		t.Run(what, func(t *testing.T) {
			w := w.with(t, w.DB)
			goesAway(t, w, func() error { happens(); return nil })
		})
	}
}

// goesAway writes 100 documents before, 100 while, and 100 after something happens.
func goesAway(t *testing.T, w *fixture, happens func() error) {
	t.Helper()
	w.drop("c")
	src := w.source(Options{Collections: []string{"c"}})
	st := w.open(src, "", rigatoni.Start{})
	var wg sync.WaitGroup
	w.insertRange(0, 100)
	events := st.collect(100)
	wg.Go(func() {
		if err := happens(); err != nil {
			t.Error(err)
		}
		w.insertRange(200, 300)
	})
	wg.Go(func() { w.insertRange(100, 200) })
	var unordered []rigatoni.Event
	begin := time.Now()
	st.until("the events of before, while and after", func(got []rigatoni.Event) bool {
		unordered = append(unordered, got...)
		return len(unordered) >= 200
	})
	wg.Wait()
	t.Logf("all was read after %v", time.Since(begin))
	seen := map[string]bool{}
	for _, name := range names(append(events, unordered...)) {
		if seen[name] {
			t.Errorf("twice: %s", name)
		}
		seen[name] = true
	}
	if len(seen) != 300 {
		t.Errorf("%d different events, want 300", len(seen))
	}
}

// insertRange inserts documents from a to b-1, and repeats each until it is there.
func (w *fixture) insertRange(a, b int) {
	for id := a; id < b; id++ {
		doc := bson.D{{Key: "_id", Value: int32(id)}}
		for deadline := time.Now().Add(patience); ; {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := w.DB.Collection("c").UpdateOne(ctx, doc, bson.D{{Key: "$setOnInsert", Value: doc}}, upsert())
			cancel()
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				w.t.Errorf("insert %d: %v", id, err)
				return
			}
		}
	}
}

// A server that is down for long: Next keeps returning, with the same position, and
// the log says so once and says when it is over.
func TestServerIsAwayForLong(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	real := func(t *testing.T) *fixture { return ownMongod(t, mongod.Options{}) }
	for name, c := range map[string]struct {
		fixture    func(*testing.T) *fixture
		away, back func(*fixture) error
	}{
		"gone":   {real, func(w *fixture) error { return w.Real.Kill() }, func(w *fixture) error { return w.Real.Restart(context.Background()) }},
		"frozen": {real, func(w *fixture) error { return w.Real.Nodes()[0].Pause() }, func(w *fixture) error { return w.Real.Nodes()[0].Resume() }},
		"frozen mongotest": {
			func(t *testing.T) *fixture { return newFixture(t, testserver.Mongotest(t)) },
			func(w *fixture) error { w.Fake.Freeze(); return nil }, func(w *fixture) error { w.Fake.Thaw(); return nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := c.fixture(t)
			st := w.open(w.source(Options{Collections: []string{"c"}}), "", rigatoni.Start{})
			w.insert("c", 1)
			st.collect(1)
			if err := c.away(w); err != nil {
				t.Fatal(err)
			}
			pos, begin, calls := st.Position(), time.Now(), 0
			st.until("end of the time", func(events []rigatoni.Event) bool {
				if calls++; len(events) > 0 || st.Position() != pos && calls > 1 {
					t.Fatalf("events %v, at %v", names(events), st.Position())
				}
				pos = st.Position()
				if since, err := st.Stream.(rigatoni.OutageReporter).Outage(); time.Since(begin) > 5*time.Second && (since.IsZero() || err == nil) {
					t.Fatalf("after %v, the outage is %v, %v", time.Since(begin), since, err)
				}
				return time.Since(begin) > 15*time.Second
			})
			if calls < 10 || w.log.count("level=WARN") != 1 {
				t.Errorf("Next returned %d times in 15 s; the log:\n%s", calls, w.log)
			}
			if err := c.back(w); err != nil {
				t.Fatal(err)
			}
			w.insert("c", 2)
			wantNames(t, st.collect(1), inserted("c", 2)...)
			if w.log.count("level=WARN") != 1 || w.log.count("is read again") != 1 {
				t.Errorf("the log:\n%s", w.log)
			}
		})
	}
}

// The first attempt to reopen a stream is made at once, the others after a pause.
func TestPausesOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const least, most = 100 * time.Millisecond, 10 * time.Second
		o := &outage{log: slog.New(slog.DiscardHandler), min: least, max: most}
		for attempt := range 20 {
			o.begin(errors.New("gone"))
			begin := time.Now()
			if err := o.pause(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := min(least<<attempt/2, most) // twice the last one
			if attempt == 0 {
				want = 0
			}
			if d := time.Since(begin); d < want/2 || d > want {
				t.Errorf("attempt %d waits %v, want %v to %v", attempt, d, want/2, want)
			}
		}
	})
}

// The status shows an outage, and a call that takes too long.
func TestOutageReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outage{log: slog.New(slog.DiscardHandler), min: time.Millisecond, max: time.Second}
		want := func(what string, since time.Time, text string) {
			t.Helper()
			if s, err := o.report(3 * time.Second); !s.Equal(since) || text != fmt.Sprint(err) {
				t.Errorf("%s: since %v, %v; want %v, %s", what, s, err, since, text)
			}
		}
		asked := time.Now()
		o.asks()
		time.Sleep(3 * time.Second)
		want("a call that takes its time", time.Time{}, "<nil>")
		time.Sleep(time.Nanosecond)
		want("a call that takes too long", asked, errLate.Error())
		o.answered()
		want("when it has ended", time.Time{}, "<nil>")
		begin := time.Now()
		o.begin(errors.New("first"))
		time.Sleep(time.Minute)
		o.begin(errors.New("second"))
		o.asks()
		want("in an outage", begin, "first")
		o.answered()
		o.over()
		want("after it", time.Time{}, "<nil>")
	})
}

func TestOutageIsLoggedOnce(t *testing.T) {
	var buf bytes.Buffer
	o := &outage{log: slog.New(slog.NewTextHandler(&buf, nil)), min: time.Millisecond, max: time.Second}
	for range 2 {
		o.began(time.Now().Add(-time.Minute))
		o.suspect(errors.New("away"))
		o.begin(errors.New("first"))
		o.begin(errors.New("second"))
		if o.attempts != 1 {
			t.Errorf("%d attempts", o.attempts)
		}
		o.over()
		o.over()
	}
	if got := strings.Count(buf.String(), "outage_seconds=60"); got != 2 {
		t.Errorf("the length is not that of the outage:\n%s", buf.String())
	}
	if got := strings.Count(buf.String(), "\n"); got != 4 {
		t.Errorf("%d lines, want 2 for each of two outages:\n%s", got, buf.String())
	}
}

// Each interruption counts once, by its first cause, however long it lasts.
func TestInterruptionsAreCounted(t *testing.T) {
	o := &outage{log: slog.New(slog.DiscardHandler)}
	notPrimary := mongo.CommandError{Code: 10107, Name: "NotWritablePrimary", Message: "not primary"}
	for range 2 {
		o.over()
		o.suspect(&lateError{})
		o.begin(notPrimary)
		o.begin(io.EOF)
		o.over()
		o.begin(notPrimary)
		o.over()
		o.begin(io.EOF)
		o.over()
	}
	if got, want := o.interruptions(), map[string]uint64{"no-reply": 2, "failover": 2, "network": 2}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	both(t, func(t *testing.T, w *fixture) {
		st := w.open(w.source(Options{Collections: []string{"c"}, ReopenMin: time.Millisecond, ReopenMax: 50 * time.Millisecond}), "", rigatoni.Start{})
		counted := st.Stream.(rigatoni.OutageReporter).Interruptions
		w.insert("c", 1)
		st.collect(1)
		if got := counted(); len(got) != 0 {
			t.Errorf("counted without an interruption: %v", got)
		}
		for id := 2; len(counted()) == 0; id++ {
			w.CursorKiller(t)()
			w.insert("c", id)
			st.collect(1)
		}
		if got := counted(); got["cursor"]+got["driver"] == 0 {
			t.Errorf("the cursor was killed, and counted was %v", got)
		}
	})
}
