package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A collection is copied into a mirror while it changes, with a kill in between; then history is lost, and a
// copy heals that: what was deleted meanwhile is gone from the mirror too.
func TestSnapshotOfAServer(t *testing.T) {
	bothSmall(t, func(t *testing.T, s *testserver.Server) {
		m := newServerMirror(t, s)
		m.insert(1, 400)
		stop := m.begin()
		m.wait("a part is copied", func() bool { return len(m.db.Events()) >= 50 })
		m.change(1, 40)
		if err := stop(); err != nil && !errors.Is(err, rigatoni.ErrUndelivered) && !errors.Is(err, rigatoni.ErrUnsaved) {
			t.Fatal(err)
		}
		m.change(20, 60)
		stop = m.begin()
		m.insert(1000, 1020)
		m.wait("the mirror is complete", m.isComplete)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		m.wantReadOnce()

		m.change(100, 140)
		s.LoseOplog(t, s.OplogTime(t, -1))
		stop = m.begin()
		m.change(130, 150)
		m.wait("the mirror is complete after the lost history", m.isComplete)
		m.wait("the gap is healed", func() bool {
			gaps, err := rigatoni.Gaps(m.saved())
			return err == nil && len(gaps) == 1 && !gaps[0].Healed.IsZero()
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(m.db.Sweeps()) < 2 {
			t.Errorf("%d sweeps", len(m.db.Sweeps()))
		}
	})
}

// A serverMirror is a database into which a server's collection "c" is copied.
type serverMirror struct {
	*testserver.Server
	t      *testing.T
	db     *rigatonitest.Database
	source *changestream.Source
	log    *sharedlog.Buffer
	n      int
}

func newServerMirror(t *testing.T, s *testserver.Server) *serverMirror {
	m := &serverMirror{Server: s, t: t, db: rigatonitest.NewDatabase(), log: &sharedlog.Buffer{}}
	var err error
	m.source, err = changestream.New(s.Connect(t, options.Client()), &changestream.Options{
		Database: s.DB.Name(), Collections: []string{"c"}, FullDocument: "updateLookup", MaxAwait: 50 * time.Millisecond, SnapshotChunkBytes: 4 << 10,
		Logger: slog.New(slog.NewTextHandler(m.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the pipeline's log:\n%s", m.log)
		}
	})
	return m
}

// begin runs a pipeline until stop is called.
func (m *serverMirror) begin() (stop func() error) {
	m.t.Helper()
	p, err := rigatoni.New(rigatoni.Config{
		Name: "mirror", Source: m.source, Destination: slowed{m.db}, Snapshot: "when-needed", MaxBatchEvents: 7, MaxInFlightBytes: 4 << 10,
		IdleInterval: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(m.log, nil)),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	m.t.Cleanup(cancel)
	return func() error {
		cancel()
		return <-ended
	}
}

func (m *serverMirror) insert(from, to int) {
	m.t.Helper()
	var docs []any
	for id := from; id <= to; id++ {
		docs = append(docs, bson.D{{Key: "_id", Value: id}, {Key: "n", Value: 0}, {Key: "pad", Value: fmt.Sprintf("%0200d", id)}})
	}
	if _, err := m.DB.Collection("c").InsertMany(m.t.Context(), docs); err != nil {
		m.t.Fatal(err)
	}
}

// change deletes each third document of a range, and updates the others.
func (m *serverMirror) change(from, to int) {
	m.t.Helper()
	for id := from; id <= to; id++ {
		var err error
		m.n++
		if id%3 == 0 {
			_, err = m.DB.Collection("c").DeleteOne(m.t.Context(), bson.D{{Key: "_id", Value: id}})
		} else {
			_, err = m.DB.Collection("c").UpdateByID(m.t.Context(), id, bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: m.n}}}})
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *serverMirror) saved() state.Checkpoint {
	cp, _ := m.db.Checkpoints().Load(m.t.Context(), "mirror")
	return cp
}

// isComplete reports whether no copy is under way and the mirror has what the server has.
func (m *serverMirror) isComplete() bool {
	if cp := m.saved(); cp.Token.IsZero() || len(cp.Extra[rigatoni.ExtraSnapshot]) > 0 {
		return false
	}
	cur, err := m.DB.Collection("c").Find(m.t.Context(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		m.t.Fatal(err)
	}
	var want []bson.Raw
	if err := cur.All(m.t.Context(), &want); err != nil {
		m.t.Fatal(err)
	}
	got := m.db.Documents(m.DB.Name() + ".c")
	slices.SortFunc(got, func(a, b bson.Raw) int { return int(a.Lookup("_id").AsInt64() - b.Lookup("_id").AsInt64()) })
	return slices.EqualFunc(got, want, func(a, b bson.Raw) bool { return slices.Equal(a, b) })
}

// wantReadOnce checks that no document was read twice.
func (m *serverMirror) wantReadOnce() {
	m.t.Helper()
	read := map[int64]bool{}
	for _, ev := range m.db.Events() {
		if id := ev.DocumentKey().Lookup("_id").AsInt64(); ev.IsSnapshot() {
			if read[id] {
				m.t.Errorf("document %d was read twice", id)
			}
			read[id] = true
		}
	}
	if len(read) < 300 {
		m.t.Errorf("%d documents were read", len(read))
	}
}

func (m *serverMirror) wait(what string, is func() bool) {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			m.t.Fatalf("not in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// slowed is a database that takes its time.
type slowed struct{ *rigatonitest.Database }

func (d slowed) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	return d.Client(func(s rigatonitest.Step) rigatonitest.Fault {
		if s.Point == rigatonitest.Began {
			return rigatonitest.Fault{After: 5 * time.Millisecond}
		}
		return rigatonitest.Fault{}
	}).Open(ctx, o)
}
