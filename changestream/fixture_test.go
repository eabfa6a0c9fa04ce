package changestream

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
	"github.com/rigatoni-etl/rigatoni/state"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// A fixture is a server with a database of the test's own, and a log.
type fixture struct {
	*testserver.Server
	t   *testing.T
	log *logBuffer
}

// both runs a test on mongotest and on the real server that all tests share.
func both(t *testing.T, test func(*testing.T, *fixture)) {
	t.Helper()
	testserver.Both(t, func(t *testing.T, s *testserver.Server) { test(t, newFixture(t, s)) })
}

// bothOwn runs a test on mongotest and on a real server, which may be broken.
func bothOwn(t *testing.T, o mongod.Options, test func(*testing.T, *fixture)) {
	t.Helper()
	testserver.BothOwn(t, o, func(t *testing.T, s *testserver.Server) { test(t, newFixture(t, s)) })
}

func newFixture(t *testing.T, s *testserver.Server) *fixture {
	return &fixture{Server: s, t: t, log: &logBuffer{}}
}

// ownMongod is for what mongotest does not imitate.
func ownMongod(t *testing.T, o mongod.Options) *fixture {
	t.Helper()
	return newFixture(t, testserver.OwnMongod(t, o))
}

// with is the same server for a subtest, or for another user or database.
func (w *fixture) with(t *testing.T, db *mongo.Database) *fixture {
	s := *w.Server
	s.Client, s.DB = db.Client(), db
	return &fixture{Server: &s, t: t, log: w.log}
}

type logBuffer struct{ sharedlog.Buffer }

func (b *logBuffer) count(text string) int { return strings.Count(b.String(), text) }

func (w *fixture) source(o Options) *Source {
	w.t.Helper()
	if o.Database == "" {
		o.Database = w.DB.Name()
	}
	return w.anySource(o)
}

func (w *fixture) anySource(o Options) *Source {
	w.t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	s, err := New(w.Client, &o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// A watcher is an open stream under test.
type watcher struct {
	rigatoni.Stream
	t *testing.T
}

func (w *fixture) open(s *Source, name string, at rigatoni.Start) *watcher {
	w.t.Helper()
	st, err := s.Open(w.t.Context(), name, at)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := st.Close(context.Background()); err != nil {
			w.t.Errorf("Close: %v", err)
		}
	})
	return &watcher{st, w.t}
}

// collect reads until there are n events, and checks what Next promises.
func (s *watcher) collect(n int) []rigatoni.Event {
	s.t.Helper()
	var events []rigatoni.Event
	s.until(fmt.Sprintf("%d events", n), func(got []rigatoni.Event) bool {
		events = append(events, got...)
		return len(events) >= n
	})
	if len(events) != n {
		s.t.Fatalf("%d events, want %d: %v", len(events), n, names(events))
	}
	return events
}

// until calls Next until done says so.
func (s *watcher) until(what string, done func([]rigatoni.Event) bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		begin := time.Now()
		events, pos, err := s.Next(s.t.Context())
		if err != nil {
			s.t.Fatalf("waiting for %s: %v", what, err)
		}
		if d := time.Since(begin); d > 10*time.Second {
			s.t.Errorf("Next took %v, which is more than about a second", d)
		}
		if pos != s.Position() {
			s.t.Fatal("Next gave another position than Position does")
		}
		if n := len(events); n > 0 {
			last, err := rigatoni.PositionAfter(events[n-1])
			if err != nil || last != pos {
				s.t.Fatalf("the position %v is not after the last event, %v %v", pos, last, err)
			}
		}
		if done(events) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// fail reads until the stream fails, and returns the events before that.
func (s *watcher) fail() ([]rigatoni.Event, error) {
	s.t.Helper()
	var all []rigatoni.Event
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		events, _, err := s.Next(s.t.Context())
		if err != nil {
			if _, _, err2 := s.Next(s.t.Context()); err2 != err {
				s.t.Errorf("the call after an error gives %v, not %v again", err2, err)
			}
			return all, err
		}
		all = append(all, events...)
	}
	s.t.Fatalf("the stream did not fail within %v", patience)
	return nil, nil
}

func (s *watcher) checkpoint() *state.Checkpoint { return checkpointOf(s.Position(), s.Fingerprint()) }

func checkpointOf(p rigatoni.Position, fingerprint string) *state.Checkpoint {
	return &state.Checkpoint{Token: p.Token, StartAfter: p.StartAfter, ClusterTime: p.ClusterTime, Fingerprint: fingerprint}
}

func at(cp *state.Checkpoint) rigatoni.Start { return rigatoni.Start{Checkpoint: cp} }

// names are events in short: "insert orders 1".
func names(events []rigatoni.Event) []string {
	var out []string
	for _, ev := range events {
		name := ev.OperationType()
		if c := ev.Namespace().Coll; c != "" {
			name += " " + c
		}
		if id, err := ev.DocumentKey().LookupErr("_id"); err == nil {
			name += " " + id.String()
		}
		out = append(out, name)
	}
	return out
}

func wantNames(t *testing.T, events []rigatoni.Event, want ...string) {
	t.Helper()
	if got := names(events); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *fixture) insert(coll string, ids ...int) {
	w.t.Helper()
	for _, id := range ids {
		if _, err := w.DB.Collection(coll).InsertOne(w.t.Context(), bson.D{{Key: "_id", Value: int32(id)}}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func inserted(coll string, ids ...int) []string {
	var out []string
	for _, id := range ids {
		out = append(out, fmt.Sprintf(`insert %s {"$numberInt":"%d"}`, coll, id))
	}
	return out
}

func (w *fixture) drop(coll string) {
	w.t.Helper()
	if err := w.DB.Collection(coll).Drop(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *fixture) admin(cmd bson.D) bson.Raw {
	w.t.Helper()
	return w.Admin(w.t, cmd)
}

// failPoint sets one, and switches it off when the test ends.
func (w *fixture) failPoint(name string, mode any, data bson.D) {
	w.t.Helper()
	w.FailPoint(w.t, name, mode, data)
}

var (
	times       = testserver.Times
	failCommand = testserver.Code
)

func upsert() *options.UpdateOneOptionsBuilder { return options.UpdateOne().SetUpsert(true) }
